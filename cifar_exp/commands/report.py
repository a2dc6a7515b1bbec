"""cifar-exp report: write an HTML page on logged runs."""

from __future__ import annotations

import argparse

from cifar_exp.commands import selected
from cifar_exp.commands.parser import Commands, Parser, store_of


def add(commands: Commands[Parser], store: Parser) -> None:
    """Define the command and its arguments."""
    summary = "write a self-contained HTML page on runs: table, curves, confusion matrices, cost, differences"
    report = commands.add_parser(
        "report", parents=[store], help=summary, description=f"{summary[0].upper()}{summary[1:]}."
    )
    selected.add_options(report)
    report.add_argument(
        "-o", "--output", metavar="FILE", default="report.html", help="file to write (default: report.html)"
    )
    report.set_defaults(command=run)


@selected.without_garbage_collection()
def run(arguments: argparse.Namespace) -> int:
    """Write the page. It says which parts of a run could not be read.

    Returns:
        Exit code 0.
    """
    from pathlib import Path

    from cifar_exp import console
    from cifar_exp.review import report

    store = store_of(arguments)
    runs = selected.runs(arguments, store)
    title = f"Sweep {arguments.sweep}" if arguments.sweep else f"Runs of {store.experiment}"
    path = Path(arguments.output)
    path.write_text(report.from_store(store, runs, title), encoding="utf-8")
    console.say(f"{path}: {len(runs)} run{'s' if len(runs) != 1 else ''}")
    return 0
