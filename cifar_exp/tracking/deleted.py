"""What was deleted in MLflow's UI, noticed before anything trains, and the commands that restore it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from contextlib import closing
from functools import cache
from pathlib import Path
from urllib.parse import quote

from cifar_exp.errors import UserError
from cifar_exp.tracking import server

STAGE = "deleted"  # the lifecycle stage of an experiment or a run


def mlflow_program() -> str:
    """MLflow's command, as a shell in this folder finds it."""
    beside_python = Path(sys.executable).with_name("mlflow")
    if shutil.which("mlflow") is None and beside_python.exists():
        return os.path.relpath(beside_python)
    return "mlflow"


def experiment(uri: str, name: str, experiment_id: str) -> str:
    """What is said of a deleted experiment."""
    restore = f"MLFLOW_TRACKING_URI={uri} {mlflow_program()} experiments restore --experiment-id {experiment_id}"
    return f"experiment {name!r} of {uri} was deleted; restore it with `{restore}`, or name another experiment"


def run(uri: str, run_id: str) -> str:
    """What is said of a deleted run."""
    restore = f"MLFLOW_TRACKING_URI={uri} {mlflow_program()} runs restore --run-id {run_id}"
    return f"run {run_id} of {uri} was deleted; restore it with `{restore}`"


@cache  # remembers no refusal, and asks once for all jobs of a sweep
def check(uri: str, file: Path | None, name: str) -> None:
    """Refuse an experiment that was deleted.

    An SQLite file is read without MLflow, whose import takes seconds.

    Args:
        uri: of the tracking store.
        file: of an SQLite store, as an absolute path; None for a server.
        name: of the experiment.

    Raises:
        UserError: with the command that restores it.
    """
    found = _in_file(file, name) if file else server.experiment(uri, name)
    if found and found[1] == STAGE:
        raise UserError(experiment(uri, name, found[0]))


def _in_file(file: Path, name: str) -> tuple[str, str] | None:
    """Id and lifecycle stage; None if there is no such experiment, or the file cannot tell."""
    query = "SELECT experiment_id, lifecycle_stage FROM experiments WHERE name = ? ORDER BY lifecycle_stage"
    try:
        with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True)) as database:
            found = database.execute(query, [name]).fetchone()
    except sqlite3.Error:  # of no MLflow's, or of another version's: MLflow will tell
        return None
    return (str(found[0]), str(found[1])) if found else None
