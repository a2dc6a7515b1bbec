"""Clients that log to a server all the time and remember what it has acknowledged.

MLflow's client repeats a call whose connection was refused or closed, but not one whose answer was cut off. The run is
then left incomplete, and its writer starts another.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from stack import Stack, User

if TYPE_CHECKING:
    from mlflow import MlflowClient

WRITERS, STEPS, METRICS, ARTIFACT_BYTES = 4, 3, 3, 20_000
PAUSE = 0.5  # seconds between two runs of a writer: each is read back
WITHIN = 180  # seconds, until runs are finished
PATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "10", "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1"}


@dataclass
class Acknowledged:
    """Data of one run that the server has acknowledged."""

    run_id: str
    steps: list[int] = field(default_factory=list)
    artifact: str | None = None  # SHA-256 of the artifact
    finished: bool = False


class Writers:
    """Context manager in which several clients write to the server all the time."""

    def __init__(self, server: Stack, user: User, experiment: str, folder: Path) -> None:
        self.acknowledged: list[Acknowledged] = []
        self._gave_up: list[Exception] = []
        self._server, self._user, self._experiment, self._folder = server, user, experiment, folder
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in range(WRITERS)]

    def __enter__(self) -> Writers:
        os.environ.update(PATIENT)
        self._login = self._server.client(self._user)
        self._client = self._login.__enter__()
        found = self._client.get_experiment_by_name(self._experiment)
        self._id = found.experiment_id if found else self._client.create_experiment(self._experiment)
        for thread in self._threads:
            thread.start()
        self.wait_for_more(WRITERS)
        return self

    def wait_for_more(self, runs: int) -> None:
        """Wait until this number of further runs is finished."""
        wanted, until = self.finished + runs, time.monotonic() + WITHIN
        while self.finished < wanted:
            assert time.monotonic() < until, f"not {runs} more runs within {WITHIN} s: {self._gave_up[-WRITERS:]}"
            time.sleep(0.1)

    @property
    def finished(self) -> int:
        """Number of finished runs."""
        return sum(one.finished for one in self.acknowledged)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._login.__exit__(kind, error, at)
        for name in PATIENT:
            os.environ.pop(name, None)

    def _write(self, number: int) -> None:
        from mlflow.entities import Metric

        while not self._stop.is_set():
            try:
                one = Acknowledged(self._client.create_run(self._id).info.run_id)
                self.acknowledged.append(one)
                for step in range(STEPS):
                    values = [Metric(f"m{i}", step + i / 10, 1_000 + step, step) for i in range(METRICS)]
                    self._client.log_batch(one.run_id, values)
                    one.steps.append(step)
                content = os.urandom(ARTIFACT_BYTES)
                path = self._folder / f"{number}.bin"
                path.write_bytes(content)
                self._client.log_artifact(one.run_id, str(path))
                one.artifact = hashlib.sha256(content).hexdigest()
                self._client.set_terminated(one.run_id)
                one.finished = True
                time.sleep(PAUSE)
            except Exception as error:
                self._gave_up.append(error)
                time.sleep(1)


def everything_is_there(client: MlflowClient, acknowledged: list[Acknowledged], folder: Path) -> None:
    """The server has each run, each point exactly once, and each artifact byte for byte."""
    for one in acknowledged:
        run = client.get_run(one.run_id)
        assert run.info.status == "FINISHED" or not one.finished
        for metric in range(METRICS if one.steps else 0):
            points = [(point.step, point.value) for point in client.get_metric_history(one.run_id, f"m{metric}")]
            assert len(points) == len(set(points)), "a point is there twice"
            assert set(points) >= {(step, step + metric / 10) for step in one.steps}
        if one.artifact:
            (name,) = (entry.path for entry in client.list_artifacts(one.run_id))
            back = Path(client.download_artifacts(one.run_id, name, str(folder)))
            assert hashlib.sha256(back.read_bytes()).hexdigest() == one.artifact
