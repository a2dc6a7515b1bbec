"""cifar-exp report: logged runs on one page."""

from __future__ import annotations

import argparse

from cifar_exp.commands import selected
from cifar_exp.commands.parser import Commands, Parser, store_of


def add(commands: Commands[Parser], store: Parser) -> None:
    """What it takes."""
    said = "write one HTML page on runs, which opens anywhere: table, curves, confusion matrices, cost, differences"
    report = commands.add_parser("report", parents=[store], help=said, description=f"{said.capitalize()}.")
    selected.options(report)
    report.add_argument("-o", "--output", metavar="FILE", default="report.html", help="(default: report.html)")
    report.set_defaults(command=run)


@selected.uncollected()
def run(arguments: argparse.Namespace) -> int:
    """Always 0: what cannot be read of a run is said in the page."""
    from pathlib import Path

    from cifar_exp import console
    from cifar_exp.review import report

    store = store_of(arguments)
    runs = selected.runs(arguments, store)
    title = f"Sweep {arguments.sweep}" if arguments.sweep else f"Runs of {store.experiment}"
    path = Path(arguments.output)
    path.write_text(report.of_store(store, runs, title), encoding="utf-8")
    console.say(f"{path}: {len(runs)} run{'s' if len(runs) != 1 else ''}")
    return 0
