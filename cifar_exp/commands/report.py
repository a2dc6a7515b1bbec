"""cifar-exp report: write an HTML page on logged runs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cifar_exp.commands import selected
from cifar_exp.commands.parser import Commands, Parser, file_to_write, store_of

if TYPE_CHECKING:
    from cifar_exp.review.section import Section
    from cifar_exp.tracking.store import Store


def add(commands: Commands[Parser], store: Parser) -> None:
    """Define the command and its arguments."""
    summary = "write a self-contained HTML page on runs: table, curves, confusion matrices, cost, differences"
    report = commands.add_parser(
        "report", parents=[store], help=summary, description=f"{summary[0].upper()}{summary[1:]}."
    )
    selected.add_options(report)
    report.add_argument(
        "-o",
        "--output",
        type=file_to_write,
        metavar="FILE",
        default="report.html",
        help="file to write (default: report.html)",
    )
    report.set_defaults(command=run)


@selected.without_garbage_collection()
def run(arguments: argparse.Namespace) -> int:
    """Write the page. It says which parts of a run could not be read.

    Returns:
        Exit code 0.
    """

    from cifar_exp import console
    from cifar_exp.errors import counted
    from cifar_exp.review import report

    store = store_of(arguments)
    runs = selected.runs(arguments, store)
    title = f"Sweep {arguments.sweep}" if arguments.sweep else f"Runs of {store.experiment}"
    path = arguments.output
    sections = _of_search(store, arguments.sweep) if arguments.sweep else ()
    path.write_text(report.from_store(store, runs, title, sections), encoding="utf-8")
    console.say(f"{path}: {counted(len(runs), 'run')}")
    return 0


def _of_search(store: Store, name: str) -> Sequence[Section]:
    """What the page shows of a search; nothing of another sweep, or of one that cannot be read, as is said."""
    from cifar_exp import console
    from cifar_exp.errors import UserError
    from cifar_exp.importing import is_installed
    from cifar_exp.search import finding, page

    try:
        found = finding.if_search(store, name)
    except UserError as error:
        console.say(f"The page does not show the search: {error}")
        return ()
    if found and not is_installed("optuna"):
        console.say("The page does not show the search, which needs optuna: pip install 'cifar-exp[search]'")
        return ()
    return page.sections(found) if found else ()
