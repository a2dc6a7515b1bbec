"""What a store has of a run, as data."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from cifar_exp.errors import UserError, reason
from cifar_exp.tracking.store import Store, import_mlflow

if TYPE_CHECKING:
    from mlflow.entities import Run

_MISSING = "No such artifact"  # as MLflow says it, of any store
_WEIGHTS = "data/model.keras"  # of a logged Keras model
_UNPACKED = 20  # times the size of the file


def run_and_artifact(store: Store, run_id: str, name: str, limit: int) -> tuple[Run, str]:
    """A run and the text of one of its artifacts, of at most so many bytes.

    Raises:
        UserError: if there is no such run or artifact, it is larger, or it is no text.
    """
    run, content = run_and_file(store, run_id, name, limit)
    try:
        return run, content.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"run {run_id} of {store.uri}: {name}: {error}") from error


def run_and_file(store: Store, run_id: str, name: str, limit: int) -> tuple[Run, bytes]:
    """A run and one of its artifacts, of at most so many bytes.

    Raises:
        UserError: if there is no such run or artifact, or it is larger.
    """
    store.check()
    import_mlflow()
    from mlflow.exceptions import MlflowException

    try:
        run = store.client.get_run(run_id)
    except MlflowException as error:
        raise UserError(f"run {run_id} of {store.uri}: {reason(error.__context__ or error)}") from error
    return run, file(store, run, name, limit)


def file(store: Store, run: Run, name: str, limit: int) -> bytes:
    """One of a run's artifacts, which is not downloaded if it is larger than so many bytes.

    Raises:
        UserError: if it has none of this name, or it is larger.
    """
    import mlflow.artifacts
    from mlflow.exceptions import MlflowException

    where = f"run {run.info.run_id} ({run.info.run_name}) of {store.uri}"
    try:
        listed = store.artifacts(run).list_artifacts(str(PurePosixPath(name).parent))
        size = next((item.file_size or 0 for item in listed if item.path == name), 0)
        if size > limit:
            raise UserError(f"{where}: {name} holds {size:,} bytes; at most {limit:,} are read")
        with tempfile.TemporaryDirectory() as folder:
            uri = f"{run.info.artifact_uri}/{name}"
            path = mlflow.artifacts.download_artifacts(uri, dst_path=folder, tracking_uri=store.uri)
            return Path(path).read_bytes()
    except (MlflowException, OSError) as error:
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
        path = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder), tracking_uri=store.uri))
        with zipfile.ZipFile(path) as saved:
            size = sum(item.file_size for item in saved.infolist())
    except zipfile.BadZipFile as error:
        raise UserError(f"model {model_id} of {store.uri}: {_WEIGHTS} is no .keras file: {error}") from error
    except (MlflowException, OSError) as error:
        raise UserError(f"model {model_id} of {store.uri}: {reason(error.__context__ or error)}") from error
    packed = path.stat().st_size
    if size > _UNPACKED * packed:  # weights hardly shrink
        raise UserError(
            f"model {model_id} of {store.uri}: {_WEIGHTS} unpacks from {packed:,} to {size:,} bytes: refused"
        )
    return path
