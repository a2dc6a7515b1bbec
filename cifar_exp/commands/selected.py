"""Selection of runs by the commands compare and report."""

from __future__ import annotations

import argparse
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cifar_exp.commands.parser import Parser

if TYPE_CHECKING:
    from mlflow.entities import Run

    from cifar_exp.tracking.store import Store


def add_options(command: Parser) -> None:
    """Add the arguments that select runs."""
    command.add_argument(
        "runs", nargs="*", metavar="RUN", help="run id, first characters of the id, or name (default: all runs)"
    )
    command.add_argument("--sweep", metavar="NAME", help="select the runs of this sweep")
    command.add_argument(
        "--filter", metavar="CONDITION", help="""filter in MLflow's syntax: 'metrics."test/accuracy" > 0.7'"""
    )


def runs(arguments: argparse.Namespace, store: Store) -> list[Run]:
    """Find the selected runs, or all runs if none are selected.

    Raises:
        UserError: if no run matches.
    """
    from cifar_exp.review import query

    return query.select(store, arguments.runs, arguments.sweep, arguments.filter)


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Pause the garbage collector, which takes a fifth of the time of a short command and finds almost nothing."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
