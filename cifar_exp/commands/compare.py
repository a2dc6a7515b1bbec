"""cifar-exp compare: compare logged runs in a table."""

from __future__ import annotations

import argparse
import shutil
import sys

from cifar_exp.commands import selected
from cifar_exp.commands.parser import Commands, Parser, store_of
from cifar_exp.errors import UserError

_FORM_NAMES = {"csv": "CSV", "json": "JSON", "markdown": "a Markdown table"}


def add(commands: Commands[Parser], store: Parser) -> None:
    """Define the command and its arguments."""
    summary = "compare runs: the settings that differ, and the results"
    compare = commands.add_parser("compare", parents=[store], help=summary, description=f"{summary.capitalize()}.")
    selected.add_options(compare)
    rows = compare.add_mutually_exclusive_group()
    rows.add_argument(
        "--group", metavar="KEY", help="one row for runs that differ in this parameter only, such as seed"
    )
    rows.add_argument("--baseline", metavar="RUN", help="test every run against this one on the same test images")
    form = compare.add_mutually_exclusive_group()
    for name in ("csv", "json", "markdown"):
        form.add_argument(f"--{name}", action="store_const", const=name, dest="form", help=f"print {_FORM_NAMES[name]}")
    compare.set_defaults(command=run)


@selected.without_garbage_collection()
def run(arguments: argparse.Namespace) -> int:
    """Print the comparison.

    Returns:
        Exit code: 0, or 1 if a run could not be tested against the baseline.
    """
    from dataclasses import replace

    from cifar_exp import console
    from cifar_exp.review import comparison, paired, query, repeated, run_record, tables

    store = store_of(arguments)
    baseline = query.get(store, arguments.baseline) if arguments.baseline else None
    runs = selected.runs(arguments, store)
    records = [run_record.from_run(run) for run in runs]
    if arguments.group:
        compared = repeated.grouped(records, arguments.group)
    else:
        compared = comparison.compare(records)
        compared = replace(compared, notes=(*compared.notes, *repeated.sentences(records)))
    problems: list[UserError] = []
    if baseline:
        tests = paired.compare_with_baseline(store, baseline, runs)
        problems = [test for test in tests if isinstance(test, UserError)]
        valid_tests = [None if isinstance(test, UserError) else test for test in tests]
        compared = comparison.with_paired_tests(compared, valid_tests)
    if arguments.form:
        forms = {"csv": tables.to_csv, "json": tables.to_json, "markdown": tables.to_markdown}
        sys.stdout.write(forms[arguments.form](compared))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        sys.stdout.write(tables.to_text(compared, width))
    for problem in problems:
        console.refuse(problem)
    return 1 if problems else 0
