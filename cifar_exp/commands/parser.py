"""The command line of cifar-exp: what all of its commands share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from cifar_exp.errors import UserError

if TYPE_CHECKING:
    from cifar_exp.config.schema import Config
    from cifar_exp.tracking.store import Store


class Parser(argparse.ArgumentParser):
    """Of one command, or of all."""

    def error(self, message: str) -> NoReturn:
        """In one line, like any refusal."""
        raise UserError(f"{message} ({self.prog} --help says what there is)")


Commands = argparse._SubParsersAction  # what Parser.add_subparsers gives, which has no public name


def store_options() -> Parser:
    """Which store a command is about; `store_of` reads them."""
    options = Parser(add_help=False)
    options.add_argument("--uri", help="tracking store (default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db)")
    options.add_argument("--experiment", help="the MLflow experiment in it (default: as in conf/tracking)")
    return options


def config_of(arguments: argparse.Namespace, overrides: Sequence[str] = ()) -> Config:
    """conf/, with these overrides and the store that the options name."""
    from dataclasses import replace

    from cifar_exp.config.composition import plan

    (config,) = plan(overrides, multirun=False).jobs
    given = {key: value for key in ("uri", "experiment") if (value := getattr(arguments, key))}
    return replace(config, tracking=replace(config.tracking, **given))


def store_of(arguments: argparse.Namespace) -> Store:
    """The one that the options name."""
    from cifar_exp.tracking.store import Store

    return Store.of(config_of(arguments).tracking)
