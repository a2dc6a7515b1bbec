"""cifar-exp slices: on which parts of the test images a run is less accurate."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from cifar_exp.commands.parser import Commands, Parser, store_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow.entities import Run

    from cifar_exp.data.datasets import Splits
    from cifar_exp.tracking.store import Store

_SHOWN = 12  # slices, the least accurate ones


def add(commands: Commands[Parser], store: Parser) -> None:
    """Define the command and its arguments."""
    summary = "show the parts of the test images on which a run is less accurate, and log them to the run"
    command = commands.add_parser("slices", parents=[store], help=summary, description=f"{summary.capitalize()}.")
    command.add_argument("run", metavar="RUN", help="run id, first characters of the id, or name")
    command.add_argument("--dry-run", action="store_true", help="log nothing")
    command.add_argument("--json", action="store_true", help="print all slices as JSON")
    command.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="settings of this machine, such as data.dir=..."
    )
    command.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the least accurate slices and log all of them.

    Returns:
        Exit code 0.
    """
    from cifar_exp import console
    from cifar_exp.analysis import artifacts, slices
    from cifar_exp.review import query, run_predictions, run_results, tables

    store = store_of(arguments)
    found = query.get(store, arguments.run)
    predictions = run_predictions.read(store, found)
    classes = run_results.RunResults({}, predictions).classes
    splits = _splits(store, found, arguments.overrides)
    measured = slices.measure(predictions, slices.columns_of(predictions, classes, splits))
    sys.stdout.write(
        slices.to_json(measured) + "\n" if arguments.json else tables.to_text(slices.table(measured, _SHOWN))
    )
    if not arguments.dry_run:
        artifacts.log(store, found, {slices.FILE: slices.to_json(measured)})
        console.say(f"Logged: {slices.FILE} of {found.info.run_name}")
    return 0


def _splits(store: Store, run: Run, overrides: Sequence[str]) -> Splits | None:
    """The data set of a run, or of an ensemble's first member; None if it is not on this machine, as is said."""
    from cifar_exp import console
    from cifar_exp.analysis import ensemble_run
    from cifar_exp.data import datasets
    from cifar_exp.errors import UserError
    from cifar_exp.experiment import reproduce
    from cifar_exp.review import run_predictions

    try:
        run_id = next(iter(ensemble_run.members(run)), run.info.run_id)
        splits = datasets.load(reproduce.read(store, run_id, overrides).config.data)
        digest = run_predictions.test_digest(run)
        if digest and splits.test.sha256[: len(digest)] != digest:
            raise UserError(f"the test images here are not those of the run, SHA-256 {digest[:12]}...")
        return splits
    except (UserError, OSError) as error:
        console.say(f"By class only, without the images: {error}")
        return None
