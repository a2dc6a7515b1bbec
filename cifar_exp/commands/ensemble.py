"""cifar-exp ensemble: what several runs know together, from their stored predictions."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from cifar_exp.commands import selected
from cifar_exp.commands.parser import Commands, Parser, aside, store_of
from cifar_exp.errors import UserError, counted
from cifar_exp.tracking import run_tags

if TYPE_CHECKING:
    from mlflow.entities import Run

    from cifar_exp.analysis.ensemble_result import Ensemble
    from cifar_exp.tracking.store import Store

_MEANS = ("probabilities", "logits")


def add(commands: Commands[Parser], store: Parser) -> None:
    """Define the command and its arguments."""
    summary = "average the stored predictions of runs, choose members on the validation images, log it as a run"
    command = commands.add_parser("ensemble", parents=[store], help=summary, description=f"{summary.capitalize()}.")
    selected.add_options(command)
    command.add_argument(
        "--top", type=int, metavar="N", help="with --sweep or --filter: the N runs with the best validation accuracy"
    )
    command.add_argument("--mean", choices=_MEANS, default=_MEANS[0], help=f"what is averaged (default: {_MEANS[0]})")
    command.add_argument(
        "--select",
        action=argparse.BooleanOptionalAction,
        help="choose members greedily on the validation images (default: if all runs have stored predictions of them)",
    )
    command.add_argument("--name", help="name of the run (default: ensemble-of-N)")
    command.add_argument("--dry-run", action="store_true", help="log nothing")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(command=run)


@selected.without_garbage_collection()
def run(arguments: argparse.Namespace) -> int:
    """Print the ensemble and log it, unless the same one is logged already.

    Returns:
        Exit code 0.

    Raises:
        UserError: if the runs cannot be averaged.
    """
    from cifar_exp import console
    from cifar_exp.analysis import ensemble_members, ensemble_result
    from cifar_exp.review import tables

    store = store_of(arguments)
    runs = _candidates(arguments, store)
    made = ensemble_result.build(ensemble_members.read(store, runs), arguments.mean, arguments.select)
    sys.stdout.write(tables.to_json(made.table) if arguments.json else tables.to_text(made.table))
    if not arguments.dry_run:
        with aside(arguments):
            console.say(_log(store, made, arguments.name or f"ensemble-of-{len(made.members)}"))
    return 0


def _log(store: Store, made: Ensemble, name: str) -> str:
    """Log an ensemble, unless the same one is logged already, and say where."""
    from datetime import datetime
    from pathlib import Path

    from cifar_exp.analysis import ensemble_run

    if found := ensemble_run.find(store, made):
        return f"Logged before: {found.info.run_name}, run {found.info.run_id}"
    folder = Path("outputs") / "ensembles" / f"{datetime.now():%Y-%m-%d_%H-%M-%S-%f}"
    run_id = ensemble_run.log(store, made, folder, name)
    return f"Logged: {name}, run {run_id}" if run_id else f"Logged in {folder}: cifar-exp sync {folder} sends it"


def _candidates(arguments: argparse.Namespace, store: Store) -> list[Run]:
    """The runs to choose from: those that are named, or the finished ones of a sweep.

    Raises:
        UserError: if there are fewer than two.
    """
    if not (arguments.runs or arguments.sweep or arguments.filter):
        raise UserError("name the runs of the ensemble, or give --sweep NAME --top 5")
    runs = selected.runs(arguments, store)
    if arguments.runs:
        if arguments.top is not None:
            raise UserError("--top chooses among the runs of --sweep or --filter, not among runs that are named")
    else:
        runs = [run for run in runs if run.data.tags.get(run_tags.OUTCOME) in (run_tags.COMPLETED, run_tags.COLLAPSED)]
        runs = [run for run in runs if run.data.tags.get(run_tags.KIND) != run_tags.ENSEMBLE_KIND]
        if arguments.top is not None:
            if arguments.top < 2:
                raise UserError(f"--top {arguments.top}: an ensemble has at least 2 candidates")
            runs.sort(key=lambda run: -run.data.metrics.get("val/best_accuracy", -1.0))
            runs = runs[: arguments.top]
    if len(runs) < 2:
        raise UserError(f"{counted(len(runs), 'finished run')}: an ensemble has at least 2")
    return runs
