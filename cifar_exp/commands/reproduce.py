"""cifar-exp reproduce: train a logged run again and compare the results."""

from __future__ import annotations

import argparse

from cifar_exp.commands.parser import Commands, Parser, store_of


def add(commands: Commands[Parser], store: Parser) -> None:
    """Define the command and its arguments."""
    summary = "train a logged run again from its logged config and compare the results"
    reproduce = commands.add_parser("reproduce", parents=[store], help=summary, description=f"{summary.capitalize()}.")
    reproduce.add_argument("run", metavar="RUN", help="run id, first characters of the id, or name")
    reproduce.add_argument(
        "overrides", nargs="*", default=[], metavar="KEY=VALUE", help="settings of this machine, such as data.dir=..."
    )
    reproduce.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Train the run again and print the comparison.

    Returns:
        Exit code: 0 if the results match, otherwise 1.
    """
    from datetime import datetime
    from pathlib import Path

    from cifar_exp import console
    from cifar_exp.experiment import reproduce
    from cifar_exp.review import query
    from cifar_exp.training import runtime

    runtime.check_backend()
    store = store_of(arguments)
    console.set_up()
    logged = reproduce.read(store, query.get(store, arguments.run).info.run_id, arguments.overrides)
    console.say(f"Again: {logged.name}, run {logged.id}")
    folder = Path("outputs") / "reproduced" / f"{logged.id[:8]}-{datetime.now():%Y-%m-%d_%H-%M-%S}"
    verdict = reproduce.again(logged, store, folder)
    console.say("\n" + "\n".join(verdict.lines))
    return 0 if verdict.matches else 1
