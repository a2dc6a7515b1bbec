"""Experiments and runs that were deleted in MLflow's UI: detect them, and name the command that restores them."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from functools import cache
from pathlib import Path

from cifar_exp.errors import UserError
from cifar_exp.tracking import server, sqlite_file

STAGE = "deleted"  # the lifecycle stage of an experiment or a run


def mlflow_program() -> str:
    """Command that starts MLflow from a shell in the current folder."""
    beside_python = Path(sys.executable).with_name("mlflow")
    if shutil.which("mlflow") is None and beside_python.exists():
        return os.path.relpath(beside_python)
    return "mlflow"


def _command(uri: str, *arguments: str) -> str:
    return f"MLFLOW_TRACKING_URI={shlex.quote(uri)} {shlex.join([mlflow_program(), *arguments])}"


def experiment_message(uri: str, name: str, experiment_id: str) -> str:
    """Error message for a deleted experiment, with the command that restores it."""
    restore = _command(uri, "experiments", "restore", "--experiment-id", experiment_id)
    return f"experiment {name!r} of {uri} was deleted; restore it with `{restore}`, or name another experiment"


def run_message(uri: str, run_id: str) -> str:
    """Error message for a deleted run, with the command that restores it."""
    restore = _command(uri, "runs", "restore", "--run-id", run_id)
    return f"run {run_id} of {uri} was deleted; restore it with `{restore}`"


@cache  # one query for all jobs of a sweep; exceptions are not cached
def check(uri: str, file: Path | None, name: str) -> None:
    """Raise an error if an experiment was deleted.

    An SQLite file is read without MLflow, whose import takes seconds.

    Args:
        uri: tracking URI of the store.
        file: absolute path of an SQLite store; None for a server.
        name: of the experiment.

    Raises:
        UserError: if it was deleted; the message names the command that restores it.
    """
    found = sqlite_file.experiment(file, name) if file else server.experiment(uri, name)
    if found and found[1] == STAGE:
        raise UserError(experiment_message(uri, name, found[0]))
