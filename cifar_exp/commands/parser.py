"""Parts of the command line that all commands of cifar-exp share."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from cifar_exp.errors import UserError

if TYPE_CHECKING:
    from cifar_exp.config.schema import Config
    from cifar_exp.tracking.store import Store


class Parser(argparse.ArgumentParser):
    """Argument parser that raises `UserError` instead of printing the usage."""

    def error(self, message: str) -> NoReturn:
        """Raise a `UserError` with a message of one line."""
        raise UserError(f"{message} (see {self.prog} --help)")


def file_to_write(text: str) -> Path:
    """Type of an argument that names a file to write, so that no work is done for a file that cannot be written.

    Raises:
        ArgumentTypeError: if it is a folder, or cannot be written.
    """
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{path}: is a folder, expected a file")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{path}: there is no folder {path.parent}")
    return _writable(path, path if path.exists() else path.parent)


def folder_to_write(text: str) -> Path:
    """Type of an argument that names a folder to write to, which may not be there yet.

    Raises:
        ArgumentTypeError: if it is a file, or cannot be written.
    """
    path = Path(text)
    nearest = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not nearest.is_dir():
        raise argparse.ArgumentTypeError(f"{path}: {nearest} is a file, expected a folder")
    return _writable(path, nearest)


def _writable(path: Path, entry: Path) -> Path:
    if not os.access(entry, os.W_OK):
        raise argparse.ArgumentTypeError(f"{path}: {entry} may not be written")
    return path


def aside(arguments: argparse.Namespace) -> AbstractContextManager[object]:
    """Context in which a command that prints JSON says everything on stderr, so that stdout holds only the JSON."""
    return redirect_stdout(sys.stderr) if arguments.json else nullcontext()


Commands = argparse._SubParsersAction  # type of Parser.add_subparsers(), which has no public name


def store_options() -> Parser:
    """Parent parser with the options that select the tracking store."""
    options = Parser(add_help=False)
    options.add_argument("--uri", help="tracking store (default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db)")
    options.add_argument("--experiment", help="MLflow experiment (default: MLFLOW_EXPERIMENT_NAME, else cifar10)")
    return options


def config_of(arguments: argparse.Namespace, overrides: Sequence[str] = ()) -> Config:
    """Compose the config of a command.

    Args:
        arguments: parsed; `uri` and `experiment` select the store.
        overrides: Hydra overrides.

    Raises:
        UserError: if an override is not valid.
    """
    from dataclasses import replace

    from cifar_exp.config.composition import plan

    (config,) = plan(overrides, multirun=False).jobs
    options = {key: value for key in ("uri", "experiment") if (value := getattr(arguments, key))}
    return replace(config, tracking=replace(config.tracking, **options))


def store_of(arguments: argparse.Namespace) -> Store:
    """Tracking store that the options select."""
    from cifar_exp.tracking.store import Store

    return Store.of(config_of(arguments).tracking)
