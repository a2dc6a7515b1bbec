"""One run in MLflow: the single door through which training code tells what it measured.

Everything a run logs as a file is first written below its own folder, under the name it will have in MLflow, and
sent from there.
"""

from __future__ import annotations

import json
import logging
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from cifar_exp.data import Split
from cifar_exp.errors import Diverged
from cifar_exp.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

log = logging.getLogger(__name__)

_PARAMS_PER_BATCH = 100  # the server's limit


class Run:
    """A run from its start to its end, whatever ends it.

    As a context manager it ends FINISHED, FAILED on an exception (with its traceback as an artifact) or KILLED on
    Ctrl-C and SIGTERM, and never stays RUNNING while Python can still act.
    """

    def __init__(self, store: Store, run_id: str, folder: Path) -> None:
        self.store = store
        self.id = run_id
        self.folder = folder
        self._client = store.client
        self._system_metrics: Any = None

    @classmethod
    def start(
        cls,
        store: Store,
        folder: Path,
        name: str,
        tags: Mapping[str, str],
        params: Mapping[str, Any],
        parent_id: str | None = None,
        system_metrics: bool = False,
    ) -> Run:
        """Create the run.

        Args:
            store: holds it.
            folder: where its artifacts are written, under the names they will have.
            name: as the UI lists it.
            tags: logged at once, so that the run can be found from its first second.
            params: what distinguishes it from others.
            parent_id: of the sweep's run, if it is a job of one.
            system_metrics: whether to sample CPU, memory and GPU until it ends.
        """
        from mlflow.entities import Param
        from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_USER

        tags = dict(tags) | {MLFLOW_USER: store.user} | ({MLFLOW_PARENT_RUN_ID: parent_id} if parent_id else {})
        created = store.client.create_run(store.experiment_id, tags=tags, run_name=name)
        run = cls(store, created.info.run_id, folder)
        listed = [Param(key, str(value)) for key, value in params.items()]
        for first in range(0, len(listed), _PARAMS_PER_BATCH):
            run._client.log_batch(run.id, params=listed[first : first + _PARAMS_PER_BATCH])
        if system_metrics:
            run._sample_system()
        return run

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """In one request, all at this step."""
        from mlflow.entities import Metric

        now = time.time_ns() // 1_000_000
        self._client.log_batch(self.id, metrics=[Metric(name, value, now, step) for name, value in metrics.items()])

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set, or set anew."""
        from mlflow.entities import RunTag

        self._client.log_batch(self.id, tags=[RunTag(key, value) for key, value in tags.items()])

    def write(self, name: str, content: str | bytes) -> None:
        """Write an artifact below the run's folder; `upload` sends it."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    def upload(self, *groups: str) -> None:
        """Send what was written below these folders: config, figures, ..."""
        for group in groups:
            self._client.log_artifacts(self.id, str(self.folder / group), artifact_path=group)

    def log_datasets(self, name: str, source: str, splits: Mapping[str, Split]) -> None:
        """Record which images were used: context (training, validation, test) -> split, each with its SHA-256."""
        self._client.log_inputs(self.id, [_dataset_input(name, source, *item) for item in splits.items()])

    def log_model(self, folder: Path, params: Mapping[str, str]) -> None:
        """Log an MLflow model that was saved in this folder, as `model`."""
        from mlflow.entities import LoggedModelOutput, LoggedModelStatus
        from mlflow.models import Model

        client = self._client
        logged = client.create_logged_model(
            self.store.experiment_id, name="model", source_run_id=self.id, params=dict(params), model_type="keras"
        )
        packaged = Model.load(str(folder))
        packaged.model_id = packaged.model_uuid = logged.model_id
        packaged.run_id = self.id
        packaged.artifact_path = logged.artifact_location
        packaged.save(str(folder / "MLmodel"))
        client.log_model_artifacts(logged.model_id, str(folder))
        client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
        client.log_outputs(self.id, [LoggedModelOutput(logged.model_id, step=0)])

    def finish(self, status: str) -> None:
        """FINISHED, FAILED or KILLED."""
        if (system := self._system_metrics) is not None:
            system.finish()
            system.publish_metrics(system.aggregate_metrics())  # sampled since it last did: in a short run, all
            system.mlflow_logger.flush()
        self._client.set_terminated(self.id, status)

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            status, outcome = "FINISHED", "completed"
        elif isinstance(error, Exception):
            status, outcome = "FAILED", "diverged" if isinstance(error, Diverged) else "failed"
            self.write("logs/traceback.txt", "".join(traceback.format_exception(error)))
        else:
            status, outcome = "KILLED", "interrupted"
        try:
            if error is not None:
                self.set_tags({"cifar_exp.outcome": outcome})
            if (self.folder / "logs").exists():
                self.upload("logs")
        except Exception as failure:
            if error is None:
                raise
            log.warning("run %s: its log could not be sent: %s", self.id, failure)
        finally:
            self.finish(status)

    def _sample_system(self) -> None:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        self._system_metrics = SystemMetricsMonitor(self.id, tracking_uri=self.store.uri)
        self._system_metrics.start()


def _dataset_input(name: str, source: str, context: str, split: Split) -> DatasetInput:
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

    sha256 = split.sha256()
    size = {"images": len(split), "shape": list(split.images.shape), "dtype": str(split.images.dtype)}
    dataset = Dataset(
        name=f"{name}-{context}",
        digest=sha256[:32],  # the column holds 36 characters
        **_source(source),
        schema=None,
        profile=json.dumps({"sha256": sha256, **size}),
    )
    return DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, context)])


def _source(source: str) -> dict[str, str]:
    """In the form in which MLflow reads each of its own kinds back."""
    if source.startswith("https://"):
        return {"source_type": "http", "source": json.dumps({"url": source})}
    if source.startswith("/"):
        return {"source_type": "local", "source": json.dumps({"uri": source})}
    return {"source_type": "code", "source": json.dumps({"tags": {"mlflow.source.name": source}})}
