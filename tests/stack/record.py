"""Read all runs and models of a server as plain data, so that two servers can be compared."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import program

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run

Record = dict[str, Any]
CURVES = {"train/loss", "val/accuracy"}  # of the other metrics, the last value: there are sixty


def finished(client: MlflowClient) -> Record:
    """Record all finished runs: run id -> data of the run, its artifacts and models."""
    return of(client, (run for run in program.runs(client) if run.info.status == "FINISHED"))


def of(client: MlflowClient, runs: Iterable[Run]) -> Record:
    """Record runs: run id -> data of the run, its artifacts and models."""
    import mlflow

    mlflow.set_tracking_uri(client.tracking_uri)  # files are downloaded from this server
    models = _models(client)
    return {run.info.run_id: _run(client, run, models.get(run.info.run_id, [])) for run in runs}


def _run(client: MlflowClient, run: Run, models: list[LoggedModel]) -> Record:
    return {
        "info": dict(run.info),
        "params": run.data.params,
        "tags": run.data.tags,
        "metrics": run.data.metrics,
        "curves": {
            name: [
                (point.step, point.timestamp, point.value) for point in client.get_metric_history(run.info.run_id, name)
            ]
            for name in CURVES.intersection(run.data.metrics)
        },
        "inputs": run.inputs.to_dictionary(),
        "artifacts": _checksums(run_id=run.info.run_id),
        "models": {
            model.model_id: (model.to_dictionary(), _checksums(artifact_uri=f"models:/{model.model_id}"))
            for model in models
        },
    }


def _models(client: MlflowClient) -> dict[str, list[LoggedModel]]:
    """Logged models by the id of their run."""
    found: dict[str, list[LoggedModel]] = {}
    for model in client.search_logged_models([one.experiment_id for one in client.search_experiments()]):
        found.setdefault(model.source_run_id, []).append(model)
    return found


def _checksums(**where: str) -> dict[str, str]:
    """Download artifacts and hash them: file name -> SHA-256."""
    from mlflow.artifacts import download_artifacts

    with tempfile.TemporaryDirectory() as folder:
        root = Path(download_artifacts(dst_path=folder, **where))
        files = [path for path in root.rglob("*") if path.is_file()]
        return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
