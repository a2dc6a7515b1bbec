"""cifar-exp slices: on which parts of the test images a run is less accurate."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from cifar_exp.commands.parser import Commands, Parser, store_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from mlflow.entities import Run

    from cifar_exp.data.splits import Split
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
        "overrides", nargs="*", default=[], metavar="KEY=VALUE", help="settings of this machine, such as data.dir=..."
    )
    command.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the least accurate slices and log all of them.

    Returns:
        Exit code 0.
    """
    from cifar_exp import console
    from cifar_exp.analysis import artifacts, slices
    from cifar_exp.review import query, run_predictions, tables

    store = store_of(arguments)
    found = query.get(store, arguments.run)
    predictions = run_predictions.read(store, found)
    classes = run_predictions.classes(predictions)
    test, properties = _test_images(store, found, arguments.overrides)
    measured = slices.measure(predictions, slices.columns_of(predictions, classes, test, properties))
    sys.stdout.write(
        slices.to_json(measured) + "\n" if arguments.json else tables.to_text(slices.table(measured, _SHOWN))
    )
    if not arguments.dry_run:
        artifacts.log(store, found, {slices.FILE: slices.to_json(measured)})
        console.say(f"Logged: {slices.FILE} of {found.info.run_name}")
    return 0


def _test_images(store: Store, run: Run, overrides: Sequence[str]) -> tuple[Split | None, dict[str, pd.Series[Any]]]:
    """Test images of a run, or of an ensemble's first member, and what is known of each: size, folder, columns.

    Without the images on this machine, there is neither, and it is said why. Only image files have properties.
    """
    from cifar_exp import console
    from cifar_exp.analysis import ensemble_run
    from cifar_exp.data import datasets, image_files
    from cifar_exp.errors import UserError
    from cifar_exp.experiment import reproduce
    from cifar_exp.review import run_predictions

    try:
        run_id = next(iter(ensemble_run.members(run)), run.info.run_id)
        config = reproduce.read(store, run_id, overrides).config.data
        splits = datasets.load(config)
        digest = run_predictions.test_digest(run)
        if digest and splits.test.sha256[: len(digest)] != digest:
            raise UserError(f"the test images here are not those of the run, SHA-256 {digest[:12]}...")
        files = splits.files.of_split("test") if splits.files else None
        return splits.test, image_files.properties(config, files) if files else {}
    except (UserError, OSError) as error:
        hint = "" if overrides else "; data.dir=FOLDER says where the images are on this machine"
        console.say(f"By class only, without the images: {error}{hint}")
        return None, {}
