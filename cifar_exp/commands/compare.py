"""cifar-exp compare: logged runs side by side."""

from __future__ import annotations

import argparse
import shutil
import sys

from cifar_exp.commands import selected
from cifar_exp.commands.parser import Commands, Parser, store_of
from cifar_exp.errors import UserError


def add(commands: Commands[Parser], store: Parser) -> None:
    """What it takes."""
    said = "set runs side by side: what differs between them, and what they came to"
    compare = commands.add_parser("compare", parents=[store], help=said, description=f"{said.capitalize()}.")
    selected.options(compare)
    how = compare.add_mutually_exclusive_group()
    how.add_argument("--group", metavar="KEY", help="one row for runs that are alike but for this: seed")
    how.add_argument("--baseline", metavar="RUN", help="test each against this one, on the same test images")
    form = compare.add_mutually_exclusive_group()
    for name in ("csv", "json", "markdown"):
        form.add_argument(f"--{name}", action="store_const", const=name, dest="form")
    compare.set_defaults(command=run)


@selected.uncollected()
def run(arguments: argparse.Namespace) -> int:
    """1 if a run could not be tested against the baseline."""
    from cifar_exp import console
    from cifar_exp.review import comparison, paired, query, run_record, tables

    store = store_of(arguments)
    baseline = query.get(store, arguments.baseline) if arguments.baseline else None
    runs = selected.runs(arguments, store)
    known = [run_record.of_run(one) for one in runs]
    compared = comparison.grouped(known, arguments.group) if arguments.group else comparison.compare(known)
    problems: list[UserError] = []
    if baseline:
        tests = paired.against(store, baseline, runs)
        problems = [test for test in tests if isinstance(test, UserError)]
        compared = comparison.against(compared, [None if isinstance(test, UserError) else test for test in tests])
    if arguments.form:
        forms = {"csv": tables.csv, "json": tables.as_json, "markdown": tables.markdown}
        sys.stdout.write(forms[arguments.form](compared))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        sys.stdout.write(tables.show(compared, width))
    for problem in problems:
        console.refuse(problem)
    return 1 if problems else 0
