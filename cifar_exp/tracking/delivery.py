"""Translate the events of a journal into calls of MLflow's client. All calls are idempotent."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from cifar_exp.config.schema import LONGEST_NAME
from cifar_exp.errors import shorten
from cifar_exp.tracking import heartbeat, local_run, run_tags
from cifar_exp.tracking.journal import Event
from cifar_exp.tracking.progress import Progress
from cifar_exp.tracking.store import Store

ARTIFACTS, MODEL, CHECKPOINTS = local_run.ARTIFACTS, "model", heartbeat.CHECKPOINTS  # folders beside the journal

# The server's limits for one request.
_METRICS, _PARAMS = 1000, 100
_INVALID = "INVALID_PARAMETER_VALUE"  # MLflow's code for a value that it will never take


class StoreAway(Exception):
    """Raised when the store does not accept events now but may do so later."""


class UnusableEvent(Exception):
    """Raised when an event cannot be sent: its kind is unknown, or its file is missing or has changed since."""


@dataclass(frozen=True)
class Delivery:
    """Sends the events of one journal to a store.

    Args:
        folder: folder of the journal.
        store: receives the events.
        progress: how far the journal was sent, and the id of its run in the store.
    """

    folder: Path
    store: Store
    progress: Progress

    def __call__(self, event: Event) -> None:
        """Send one event.

        Raises:
            UnusableEvent: if its kind is unknown, or a file of it is missing or has changed since it was logged.
            StoreAway: if the run depends on another one that is not in the store yet.
        """
        if event.kind not in _CALLS:
            raise UnusableEvent("this version of cifar_exp does not know such events")
        _CALLS[event.kind](self, event.content, event.time)

    def start(self, content: Mapping[str, Any], time: int) -> None:
        """Create the run, unless an earlier attempt has created it."""
        from mlflow.entities import Param
        from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_USER

        store = self.store
        tags = dict(content["tags"]) | {MLFLOW_USER: store.user, run_tags.JOURNAL: content["key"]}
        if content["sweep"]:
            parent = store.find_sweep(content["sweep"])
            if parent is None:
                raise StoreAway(
                    f"the parent run of sweep {content['sweep']} is not there: it has not been sent, or was deleted "
                    "(the command of the sweep, given again, makes a new one)"
                )
            tags[MLFLOW_PARENT_RUN_ID] = parent.info.run_id
        existing = store.client.search_runs(
            [store.experiment_id], f"tags.`{run_tags.JOURNAL}` = '{content['key']}'", max_results=1
        )
        name = shorten(content["name"], LONGEST_NAME)
        run = existing[0] if existing else store.client.create_run(store.experiment_id, time, tags, name)
        self.progress.run_id, self.progress.experiment_id = run.info.run_id, store.experiment_id
        self.progress.uri = store.absolute_uri  # before the parameters: if one is refused, there is a run nevertheless
        if content["params"]:
            self._params([Param(key, value) for key, value in content["params"].items()])

    def _params(self, params: Sequence[Any]) -> None:
        """Log parameters. If the store refuses one, all others are logged.

        Raises:
            MlflowException: for the last one that was refused, or because the store is away.
        """
        from mlflow.exceptions import MlflowException

        if len(params) <= _PARAMS:
            try:
                self.store.client.log_batch(self.progress.run_id, params=params)
                return
            except MlflowException as error:
                if len(params) == 1 or error.error_code != _INVALID:
                    raise
        refusal: MlflowException | None = None
        for half in (params[: len(params) // 2], params[len(params) // 2 :]):
            try:
                self._params(half)
            except MlflowException as error:
                if error.error_code != _INVALID:
                    raise
                refusal = error
        if refusal:
            raise refusal

    def resume(self, content: Mapping[str, Any], time: int) -> None:
        """Set the run to RUNNING again and update its tags."""
        self._run_again()
        self.tags(content, time)

    def has_ended(self, end: Event) -> bool:
        """Whether the run has ended in the store by this event, so that the store was sent everything before it."""
        info = self.store.client.get_run(self.progress.run_id).info
        return (info.status, info.end_time) == (end.content["status"], end.time)

    def claim(self, processes: Collection[str]) -> None:
        """Check that the run still belongs to this folder, and set it to RUNNING if it was marked as killed meanwhile.

        Args:
            processes: names of the processes that have written the journal.

        Raises:
            StoreAway: if another process continues the run.
        """
        run = self.store.client.get_run(self.progress.run_id)
        if (own := run.data.tags.get(run_tags.PROCESS)) and own not in processes:
            raise StoreAway(f"process {own} continues run {self.progress.run_id}")
        if run.info.status == "KILLED":
            self._run_again()

    def _run_again(self) -> None:
        client, run_id = self.store.client, self.progress.run_id
        client.update_run(run_id, "RUNNING")
        if run_tags.REASON in client.get_run(run_id).data.tags:  # the reason of the interruption
            client.delete_tag(run_id, run_tags.REASON)

    def metrics(self, content: Mapping[str, Any], time: int) -> None:
        """Log the metrics of one step."""
        from mlflow.entities import Metric

        metrics = [Metric(name, value, time, content["step"]) for name, value in content["values"].items()]
        for first in range(0, len(metrics), _METRICS):
            self.store.client.log_batch(self.progress.run_id, metrics=metrics[first : first + _METRICS])

    def tags(self, content: Mapping[str, Any], time: int) -> None:
        """Set or overwrite tags."""
        from mlflow.entities import RunTag

        self.store.client.log_batch(self.progress.run_id, tags=[RunTag(key, value) for key, value in content.items()])

    def artifact(self, content: Mapping[str, Any], time: int) -> None:
        """Upload a file that was written beside the journal."""
        path = self._spooled(ARTIFACTS, content["path"], content["sha256"])
        parent = Path(content["path"]).parent.as_posix()
        self.store.client.log_artifact(self.progress.run_id, str(path), None if parent == "." else parent)

    def checkpoint(self, content: Mapping[str, Any], time: int) -> None:
        """Upload a checkpoint, or delete all checkpoints if the event names no file.

        Checkpoints alternate between two artifact names, so that a complete one always exists.
        """
        import requests

        artifacts = self.store.artifacts(self.store.client.get_run(self.progress.run_id))
        with tempfile.TemporaryDirectory() as folder:
            if content["file"]:
                path = self.folder / CHECKPOINTS / content["file"]
                if path.exists():  # otherwise a newer checkpoint replaced it, which has its own event
                    named = Path(folder) / f"newest-{content['place']}.checkpoint"
                    named.symlink_to(path.resolve())
                    artifacts.log_artifact(str(named), CHECKPOINTS)
                return
            for item in artifacts.list_artifacts(CHECKPOINTS):
                try:
                    artifacts.delete_artifacts(item.path)
                except requests.HTTPError as error:
                    if error.response is None or error.response.status_code != HTTPStatus.FORBIDDEN:
                        raise
                    empty = Path(folder) / Path(item.path).name  # without permission to delete, overwriting frees space
                    empty.touch()
                    artifacts.log_artifact(str(empty), CHECKPOINTS)

    def datasets(self, content: Mapping[str, Any], time: int) -> None:
        """Log the data sets that the run used."""
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

        inputs = [
            DatasetInput(Dataset(**dataset, schema=None), [InputTag(MLFLOW_DATASET_CONTEXT, context)])
            for context, dataset in content.items()
        ]
        self.store.client.log_inputs(self.progress.run_id, inputs)

    def model(self, content: Mapping[str, Any], time: int) -> None:
        """Log the packaged model. Only its MLmodel file is changed: it must name the logged model and the run."""
        from mlflow.entities import LoggedModelOutput, LoggedModelStatus
        from mlflow.models import Model

        for path, sha256 in content["files"].items():
            self._spooled(MODEL, path, sha256)
        client, experiment_id = self.store.client, self.progress.experiment_id
        existing = client.search_logged_models(
            [experiment_id], f"source_run_id = '{self.progress.run_id}'", max_results=1
        )
        model = (
            existing[0]
            if existing
            else client.create_logged_model(
                experiment_id,
                MODEL,
                self.progress.run_id,
                params=content["params"],
                model_type=content.get("kind", "keras"),  # journals of earlier versions do not say
            )
        )
        packaged = Model.load(str(self.folder / MODEL))
        packaged.model_id = packaged.model_uuid = model.model_id
        packaged.run_id, packaged.artifact_path = self.progress.run_id, model.artifact_location
        client.log_model_artifacts(model.model_id, str(self.folder / MODEL))
        with tempfile.TemporaryDirectory() as named:
            packaged.save(f"{named}/MLmodel")
            client.log_model_artifact(model.model_id, f"{named}/MLmodel")
        client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
        if not client.get_run(self.progress.run_id).outputs.model_outputs:
            client.log_outputs(self.progress.run_id, [LoggedModelOutput(model.model_id, step=0)])

    def finish(self, content: Mapping[str, Any], time: int) -> None:
        """Set the final status and the end time of the run."""
        self.store.client.set_terminated(self.progress.run_id, content["status"], time)

    def _spooled(self, folder: str, name: str, sha256: str) -> Path:
        path = self.folder / folder / name
        if not path.is_file():
            raise UnusableEvent(f"{path} is missing")
        if local_run.sha256_of(path) != sha256:
            raise UnusableEvent(f"{path} is not what was written")
        return path


_CALLS: Mapping[str, Callable[[Delivery, Mapping[str, Any], int], None]] = {
    "start": Delivery.start,
    "resume": Delivery.resume,
    "metrics": Delivery.metrics,
    "tags": Delivery.tags,
    "artifact": Delivery.artifact,
    "checkpoint": Delivery.checkpoint,
    "datasets": Delivery.datasets,
    "model": Delivery.model,
    "finish": Delivery.finish,
}
