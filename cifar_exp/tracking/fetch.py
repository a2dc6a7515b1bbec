"""Read runs, their artifacts and their models from a store."""

from __future__ import annotations

import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from cifar_exp.errors import UserError, reason
from cifar_exp.tracking.store import Store, import_mlflow

if TYPE_CHECKING:
    from mlflow.entities import Run

_MISSING = "No such artifact"  # part of MLflow's message, for all kinds of stores
WEIGHTS = "data/model.keras"  # path in a logged Keras model
_UNPACKED = 20  # times the size of the file


class Missing(UserError):
    """Raised when a run has no artifact of this name."""


def run(store: Store, run_id: str) -> Run:
    """Read a run.

    Raises:
        UserError: if it does not exist.
    """
    store.check()
    import_mlflow()
    from mlflow.exceptions import MlflowException

    try:
        return store.client.get_run(run_id)
    except MlflowException as error:
        raise UserError(f"run {run_id} of {store.uri}: {reason(error.__context__ or error)}") from error


def text(store: Store, run: Run, name: str, limit: int) -> str:
    """Read an artifact of a run that is text; arguments and errors are those of `file`, and it must be UTF-8."""
    try:
        return file(store, run, name, limit).decode()
    except UnicodeDecodeError as error:
        raise UserError(f"run {run.info.run_id} of {store.uri}: {name}: {error}") from error


def file(store: Store, run: Run, name: str, limit: int) -> bytes:
    """Read an artifact of a run.

    Args:
        store: contains the run.
        run: the run.
        name: path of the artifact.
        limit: maximum size in bytes; a larger artifact is not downloaded.

    Raises:
        Missing: if the artifact does not exist.
        UserError: if it is a folder, larger than `limit`, or cannot be downloaded.
    """
    import_mlflow()
    from mlflow.exceptions import MlflowException

    where = f"run {run.info.run_id} ({run.info.run_name}) of {store.uri}"
    try:
        artifacts = store.artifacts(run)
        listed = artifacts.list_artifacts(str(PurePosixPath(name).parent))
        for item in (item for item in listed if item.path == name):
            if item.is_dir:
                raise UserError(f"{where}: {name} is a folder, expected a file")
            if (size := item.file_size or 0) > limit:
                raise UserError(f"{where}: {name} holds {size:,} bytes; at most {limit:,} are read")
        with tempfile.TemporaryDirectory() as folder:
            return Path(artifacts.download_artifacts(name, folder)).read_bytes()
    except (MlflowException, OSError) as error:
        if _MISSING in str(error):
            raise Missing(f"{where} has no {name}") from error
        raise UserError(f"{where}: {name} cannot be downloaded: {str(error).splitlines()[-1]}") from error


def names(store: Store, run: Run, folder: str) -> list[str]:
    """List the artifacts in a folder of a run.

    Args:
        store: contains the run.
        run: the run.
        folder: path of the folder.

    Raises:
        UserError: if the artifacts cannot be listed.
    """
    import_mlflow()
    from mlflow.exceptions import MlflowException

    try:
        return [item.path for item in store.artifacts(run).list_artifacts(folder)]
    except (MlflowException, OSError) as error:
        where = f"run {run.info.run_id} ({run.info.run_name}) of {store.uri}"
        raise UserError(f"{where}: {folder} cannot be listed: {str(error).splitlines()[-1]}") from error


def model_id(run: Run) -> str:
    """Id of the model that a run logged.

    Raises:
        UserError: if it logged none.
    """
    if not run.outputs or not run.outputs.model_outputs:
        raise UserError(f"run {run.info.run_id} ({run.info.run_name}, {run.info.status}) logged no model")
    return str(run.outputs.model_outputs[-1].model_id)


def keras_file(store: Store, model_id: str, folder: Path, name: str = WEIGHTS) -> Path:
    """Download a .keras file of a logged model.

    The config in the file is untrusted and could name any code; `training.models` reads only the weights.

    Args:
        store: contains the model.
        model_id: id of the logged model.
        folder: the file is downloaded into it.
        name: path of the file in the logged model.

    Raises:
        UserError: if the model does not exist or cannot be downloaded.
    """
    path = _model_file(store, model_id, folder, name)
    packed, size = path.stat().st_size, 0
    with suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as saved:  # a damaged file is refused where it is read
        size = sum(item.file_size for item in saved.infolist())
    if size > _UNPACKED * packed:  # weights hardly shrink
        raise UserError(f"model {model_id} of {store.uri}: {name} unpacks from {packed:,} to {size:,} bytes: refused")
    return path


def model_text(store: Store, model_id: str, name: str, limit: int) -> str:
    """Read a text file of a logged model.

    Args:
        store: contains the model.
        model_id: id of the logged model.
        name: path of the file in the logged model.
        limit: maximum size in bytes.

    Raises:
        UserError: if the model does not exist, or the file cannot be downloaded, is larger than `limit` or not UTF-8.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = _model_file(store, model_id, Path(folder), name)
        try:
            if (size := path.stat().st_size) > limit:
                raise ValueError(f"it holds {size:,} bytes; at most {limit:,} are read")
            return path.read_bytes().decode()
        except ValueError as error:
            raise UserError(f"model {model_id} of {store.uri}: {name}: {error}") from error


def _model_file(store: Store, model_id: str, folder: Path, name: str) -> Path:
    import_mlflow()
    import mlflow.artifacts
    from mlflow.exceptions import MlflowException

    try:
        model = store.client.get_logged_model(model_id)
        folder.mkdir(parents=True, exist_ok=True)
        uri = f"{model.artifact_location}/{name}"
        path = mlflow.artifacts.download_artifacts(uri, dst_path=str(folder), tracking_uri=store.absolute_uri)
    except (MlflowException, OSError) as error:
        raise UserError(f"model {model_id} of {store.uri}: {reason(error.__context__ or error)}") from error
    if not Path(path).is_file():
        raise UserError(f"model {model_id} of {store.uri}: {name} is a folder, expected a file")
    return Path(path)
