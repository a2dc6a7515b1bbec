"""What a store has of a run, as data."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from cifar_exp.errors import UserError, reason
from cifar_exp.tracking.store import Store, import_mlflow

if TYPE_CHECKING:
    from mlflow.entities import Run

_MISSING = "No such artifact"  # as MLflow says it, of any store
_WEIGHTS = "data/model.keras"  # of a logged Keras model


def run_and_artifact(store: Store, run_id: str, name: str) -> tuple[Run, str]:
    """A run and the text of one of its artifacts.

    Raises:
        UserError: if there is no such run or artifact, or it is no text.
    """
    run, content = run_and_file(store, run_id, name)
    try:
        return run, content.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"run {run_id} of {store.uri}: {name}: {error}") from error


def run_and_file(store: Store, run_id: str, name: str) -> tuple[Run, bytes]:
    """A run and the bytes of one of its artifacts.

    Raises:
        UserError: if there is no such run or artifact.
    """
    store.check()
    import_mlflow()
    from mlflow.exceptions import MlflowException

    try:
        run = store.client.get_run(run_id)
    except MlflowException as error:
        raise UserError(f"run {run_id} of {store.uri}: {reason(error.__context__ or error)}") from error
    return run, file(store, run, name)


def file(store: Store, run: Run, name: str) -> bytes:
    """The bytes of one of a run's artifacts.

    Raises:
        UserError: if it has none of this name.
    """
    import mlflow.artifacts
    from mlflow.exceptions import MlflowException

    try:
        with tempfile.TemporaryDirectory() as folder:
            uri = f"{run.info.artifact_uri}/{name}"
            path = mlflow.artifacts.download_artifacts(uri, dst_path=folder, tracking_uri=store.uri)
            return Path(path).read_bytes()
    except (MlflowException, OSError) as error:
        where = f"run {run.info.run_id} ({run.info.run_name}) of {store.uri}"
        if _MISSING in str(error):
            raise UserError(f"{where} has no {name}") from error
        raise UserError(f"{where}: {name} cannot be had: {str(error).splitlines()[-1]}") from error


def keras_file(store: Store, model_id: str, folder: Path) -> Path:
    """The .keras file of a logged model, downloaded into this folder. Its config could name any code: see models.

    Raises:
        UserError: if it cannot be had.
    """
    import_mlflow()
    import mlflow.artifacts
    from mlflow.exceptions import MlflowException

    try:
        model = store.client.get_logged_model(model_id)
        folder.mkdir(parents=True, exist_ok=True)
        uri = f"{model.artifact_location}/{_WEIGHTS}"
        return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder), tracking_uri=store.uri))
    except (MlflowException, OSError) as error:
        raise UserError(f"model {model_id} of {store.uri}: {reason(error.__context__ or error)}") from error
