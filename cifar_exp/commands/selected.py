"""The runs that a command is about, as compare and report take them."""

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


def options(command: Parser) -> None:
    """What selects them."""
    command.add_argument("runs", nargs="*", metavar="RUN", help="its id, the first characters of that, or its name")
    command.add_argument("--sweep", metavar="NAME", help="the runs of this sweep")
    command.add_argument(
        "--filter", metavar="CONDITION", help="""as MLflow writes it: 'metrics."test/accuracy" > 0.7'"""
    )


def runs(arguments: argparse.Namespace, store: Store) -> list[Run]:
    """Those that were meant; without any of these, all."""
    from cifar_exp.review import query

    return query.select(store, arguments.runs, arguments.sweep, arguments.filter)


@contextmanager
def uncollected() -> Iterator[None]:
    """For a command that soon ends: of a fifth of its time Python looked for garbage, among imports and runs in use."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
