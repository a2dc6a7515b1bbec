"""A run's journal -> MLflow: the one piece of code that sends, while a run lives, after an outage, after a crash.

Sending an event twice leaves what sending it once does, so that an answer that was lost does no harm. How far it got is
in `sent.json` beside the journal.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Any

from cifar_exp.errors import UserError, reason
from cifar_exp.tracking import journal
from cifar_exp.tracking.journal import Damage, Event
from cifar_exp.tracking.store import Store

SENT = "sent.json"
ARTIFACTS, MODEL = "artifacts", "model"  # folders beside the journal
KEY_TAG = "cifar_exp.journal"

# The server's limits for one request.
_METRICS, _PARAMS = 1000, 100
# What may be answered otherwise later: the login may be put right, the server may come back.
_LATER = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT}


class Away(Exception):
    """The store cannot take anything now; it may later."""


@dataclass
class Progress:
    """How far a journal has been sent."""

    lines: int = 0
    """That need not be looked at again."""
    run_id: str | None = None
    experiment_id: str | None = None
    refused: dict[str, str] = field(default_factory=dict)
    """Line -> why the store did not take it, or why it could not be sent."""

    @classmethod
    def read(cls, folder: Path) -> Progress:
        """Of the journal in this folder."""
        path = folder / SENT
        return cls(**json.loads(path.read_text())) if path.exists() else cls()

    def write(self, folder: Path) -> None:
        """Whole or not at all."""
        part = folder / f"{SENT}.part"
        part.write_text(json.dumps(asdict(self)))
        part.rename(folder / SENT)


class Replayer:
    """Sends one journal. Only the process that holds the journal may."""

    def __init__(self, folder: Path, store: Store | None = None) -> None:
        """With the folder of the journal, and another store than the one it names."""
        self.folder = folder
        self.progress = Progress.read(folder)
        self._store = store

    @property
    def run_id(self) -> str | None:
        """Of the run in MLflow, once there is one."""
        return self.progress.run_id

    def waiting(self) -> int:
        """How many events have not been sent."""
        return sum(1 for _ in journal.read(self.folder, self.progress.lines))

    def send(self, again: bool = False) -> None:
        """Send all that waits.

        Args:
            again: also try what was refused before.

        Raises:
            Away: if the store cannot take it now; what was sent before is noted.
        """
        for number in [int(line) for line in self.progress.refused] if again else []:
            event = next(journal.read(self.folder, number - 1))
            if isinstance(event, Event) and self._send(event) is None:
                del self.progress.refused[str(number)]
                self.progress.write(self.folder)
        for event in journal.read(self.folder, self.progress.lines):
            line = str(self.progress.lines + 1)
            if isinstance(event, Damage):
                self.progress.refused[line] = event.reason
            elif problem := self._send(event):
                self.progress.refused[line] = f"{event.kind}: {problem}"
            self.progress.lines += 1
            self.progress.write(self.folder)

    def _send(self, event: Event) -> str | None:
        """Why the store refused it, or None."""
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # repeating is done here, and does not block
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
        if event.kind != "start" and self.run_id is None:
            return "its run was never started"
        import requests
        from mlflow.exceptions import MlflowException

        try:
            _SENDERS[event.kind](self, event.content, event.time)
            return None
        except _Missing as missing:
            return str(missing)
        except UserError as error:  # the store's, when it cannot be asked for its experiment
            cause = error.__cause__ or error
            raise Away(reason(cause.__context__ or cause)) from error
        except MlflowException as error:
            status = error.get_http_status_code()
            why = reason(error.__context__ or error)
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else 500
            why = reason(error)
        except (requests.RequestException, OSError) as error:
            raise Away(reason(error)) from error
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _LATER:
            raise Away(why)
        return why

    def _start(self, content: Mapping[str, Any], time: int) -> None:
        from mlflow.entities import Param
        from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_USER

        store = self.store
        tags = dict(content["tags"]) | {MLFLOW_USER: store.user, KEY_TAG: content["key"]}
        if content["sweep"]:
            parent = store.find_sweep(content["sweep"])
            if parent is None:
                raise Away(f"its sweep {content['sweep']} has not been sent")
            tags[MLFLOW_PARENT_RUN_ID] = parent
        made = store.client.search_runs([store.experiment_id], f"tags.`{KEY_TAG}` = '{content['key']}'", max_results=1)
        run = made[0] if made else store.client.create_run(store.experiment_id, time, tags, content["name"])
        listed = [Param(key, value) for key, value in content["params"].items()]
        for first in range(0, len(listed), _PARAMS):
            store.client.log_batch(run.info.run_id, params=listed[first : first + _PARAMS])
        self.progress.run_id, self.progress.experiment_id = run.info.run_id, store.experiment_id

    def _resume(self, content: Mapping[str, Any], time: int) -> None:
        self.store.client.update_run(self.run_id, "RUNNING")
        self._tags(content, time)

    def _metrics(self, content: Mapping[str, Any], time: int) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(name, value, time, content["step"]) for name, value in content["values"].items()]
        for first in range(0, len(metrics), _METRICS):
            self.store.client.log_batch(self.run_id, metrics=metrics[first : first + _METRICS])

    def _tags(self, content: Mapping[str, Any], time: int) -> None:
        from mlflow.entities import RunTag

        self.store.client.log_batch(self.run_id, tags=[RunTag(key, value) for key, value in content.items()])

    def _artifact(self, content: Mapping[str, Any], time: int) -> None:
        path = self._spooled(ARTIFACTS, content["path"], content["sha256"])
        parent = Path(content["path"]).parent.as_posix()
        self.store.client.log_artifact(self.run_id, str(path), None if parent == "." else parent)

    def _datasets(self, content: Mapping[str, Any], time: int) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

        inputs = [
            DatasetInput(Dataset(**dataset, schema=None), [InputTag(MLFLOW_DATASET_CONTEXT, context)])
            for context, dataset in content.items()
        ]
        self.store.client.log_inputs(self.run_id, inputs)

    def _model(self, content: Mapping[str, Any], time: int) -> None:
        """Its files are as they were saved but for MLmodel, which must name the model and the run."""
        from mlflow.entities import LoggedModelOutput, LoggedModelStatus
        from mlflow.models import Model

        for path, sha256 in content["files"].items():
            self._spooled(MODEL, path, sha256)
        client, experiment_id = self.store.client, self.progress.experiment_id
        made = client.search_logged_models([experiment_id], f"source_run_id = '{self.run_id}'", max_results=1)
        model = (
            made[0]
            if made
            else client.create_logged_model(
                experiment_id, MODEL, self.run_id, params=content["params"], model_type="keras"
            )
        )
        packaged = Model.load(str(self.folder / MODEL))
        packaged.model_id = packaged.model_uuid = model.model_id
        packaged.run_id, packaged.artifact_path = self.run_id, model.artifact_location
        client.log_model_artifacts(model.model_id, str(self.folder / MODEL))
        with tempfile.TemporaryDirectory() as named:
            packaged.save(f"{named}/MLmodel")
            client.log_model_artifact(model.model_id, f"{named}/MLmodel")
        client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
        if not client.get_run(self.run_id).outputs.model_outputs:
            client.log_outputs(self.run_id, [LoggedModelOutput(model.model_id, step=0)])

    def _finish(self, content: Mapping[str, Any], time: int) -> None:
        self.store.client.set_terminated(self.run_id, content["status"], time)

    @cached_property
    def store(self) -> Store:
        """Where it is sent: the one that was given, else the one that the journal names."""
        if self._store:
            return self._store
        for event in journal.read(self.folder):
            if isinstance(event, Event) and event.kind == "start":
                return Store(event.content["uri"], event.content["experiment"])
        raise Away("the journal does not say where to")

    def _spooled(self, folder: str, name: str, sha256: str) -> Path:
        path = self.folder / folder / name
        if not path.is_file():
            raise _Missing(f"{path} is missing")
        if hash_of(path) != sha256:
            raise _Missing(f"{path} is not what was written")
        return path


class _Missing(Exception):
    """A file that was to be sent and cannot be."""


_SENDERS: dict[str, Callable[[Replayer, Mapping[str, Any], int], None]] = {
    "start": Replayer._start,
    "resume": Replayer._resume,
    "metrics": Replayer._metrics,
    "tags": Replayer._tags,
    "artifact": Replayer._artifact,
    "datasets": Replayer._datasets,
    "model": Replayer._model,
    "finish": Replayer._finish,
}


def hash_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
