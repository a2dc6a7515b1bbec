"""A client of server_load.py: logs a run with MLflow's client, as cifar_exp does, and reads it back.

The logged values are generated from the number of the client, so that they can be compared when they are read back.
"""

from __future__ import annotations

import hashlib
import logging
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

_READY_TIMEOUT = 300  # seconds until every client has its connection


@dataclass(frozen=True)
class Work:
    """Amount of data that each client logs: one batch of metrics per epoch, then the artifacts.

    Attributes:
        epochs: number of batches.
        metrics: values per batch.
        artifacts: number of files.
        artifact_kb: size of a file in KiB.
    """

    epochs: int = 50
    metrics: int = 20
    artifacts: int = 5
    artifact_kb: int = 50

    def points(self, client: int, metric: int) -> dict[int, float]:
        """History of a metric: step -> value."""
        generator = random.Random(f"{client}/{metric}")
        return {step: generator.random() for step in range(1, self.epochs + 1)}

    def content(self, client: int, artifact: int) -> bytes:
        """Content of an artifact, which cannot be compressed."""
        return random.Random(f"{client}/artifact/{artifact}").randbytes(self.artifact_kb * 1024)


@dataclass
class Logged:
    """Record of what one client logged.

    Attributes:
        client: number of the client.
        run_id: of the run; `None` if it could not be created.
        began: start in seconds since 1970.
        ended: end in seconds since 1970.
        processor: processor time in seconds.
        latencies: name of the call -> seconds of each call.
        failures: failed calls.
        answers: HTTP status of every answer, including those after which MLflow's client retried.
    """

    client: int
    run_id: str | None = None
    began: float = 0
    ended: float = 0
    processor: float = 0
    latencies: dict[str, list[float]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)


def log(client: int, work: Work, uri: str, experiment_id: str, ready: Callable[[float], object]) -> Logged:
    """Log one run as soon as all clients are ready. Failed calls are recorded and do not stop the run.

    Args:
        client: number of the client.
        work: amount of data to log.
        uri: of the tracking server.
        experiment_id: of the experiment that the run is logged to.
        ready: waits for the other clients, for at most the given number of seconds.
    """
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    logged = Logged(client)
    values = [work.points(client, metric) for metric in range(work.metrics)]
    mlflow = MlflowClient(uri)
    with tempfile.TemporaryDirectory() as folder, _collect_statuses(logged.answers):
        files = [Path(folder, f"{artifact}.bin") for artifact in range(work.artifacts)]
        for artifact, file in enumerate(files):
            file.write_bytes(work.content(client, artifact))
        mlflow.get_experiment(experiment_id)  # opens the connection
        ready(_READY_TIMEOUT)
        logged.answers.clear()
        logged.began, processor = time.time(), time.process_time()
        with _call(logged, "create_run"):
            logged.run_id = mlflow.create_run(experiment_id, run_name=f"client-{client}").info.run_id
        if logged.run_id is not None:
            for epoch in range(1, work.epochs + 1):
                now = time.time_ns() // 1_000_000
                batch = [Metric(f"metric/{n}", points[epoch], now, epoch) for n, points in enumerate(values)]
                with _call(logged, "log_batch"):
                    mlflow.log_batch(logged.run_id, metrics=batch)
            for file in files:
                with _call(logged, "log_artifact"):
                    mlflow.log_artifact(logged.run_id, str(file))
            with _call(logged, "set_terminated"):
                mlflow.set_terminated(logged.run_id, "FINISHED")
        logged.ended, logged.processor = time.time(), time.process_time() - processor
    return logged


def losses(logged: Logged, work: Work, uri: str) -> list[str]:
    """Read a logged run back and list everything that is missing or differs from what was sent."""
    from mlflow import MlflowClient, set_tracking_uri

    if logged.run_id is None:
        return [f"client {logged.client}: no run"]
    set_tracking_uri(uri)
    mlflow = MlflowClient(uri)
    try:
        return [f"client {logged.client}: {loss}" for loss in _losses(mlflow, logged.client, logged.run_id, work)]
    except Exception as error:
        return [f"client {logged.client}: run {logged.run_id} cannot be read: {error!r}"]


def _losses(mlflow: MlflowClient, client: int, run_id: str, work: Work) -> Iterator[str]:
    status = mlflow.get_run(run_id).info.status
    if status != "FINISHED":
        yield f"run {run_id} is {status}"
    for metric in range(work.metrics):
        held = [(point.step, point.value) for point in mlflow.get_metric_history(run_id, f"metric/{metric}")]
        sent = work.points(client, metric)
        if sorted(held) != sorted(sent.items()):
            yield f"metric/{metric} has {len(held)} points, {len(set(held) & set(sent.items()))} of {len(sent)} as sent"
    listed = {file.path for file in mlflow.list_artifacts(run_id)}
    with tempfile.TemporaryDirectory() as folder:
        for artifact in range(work.artifacts):
            name = f"{artifact}.bin"
            if name not in listed:
                yield f"{name} is missing"
            elif _sha256(Path(mlflow.download_artifacts(run_id, name, folder)).read_bytes()) != _sha256(
                work.content(client, artifact)
            ):
                yield f"{name} is not what was sent"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextmanager
def _call(logged: Logged, kind: str) -> Iterator[None]:
    """Time a call and record its exception, which MLflow's client raises after its retries."""
    began = time.perf_counter()
    try:
        yield
    except Exception as error:
        logged.failures.append(f"client {logged.client}: {kind}: {error!r}")
    logged.latencies.setdefault(kind, []).append(time.perf_counter() - began)


@contextmanager
def _collect_statuses(statuses: list[int]) -> Iterator[None]:
    """Collect the status of every HTTP answer from the log of urllib3, which does the retries."""

    class Statuses(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.funcName == "_make_request" and isinstance(record.args, tuple) and len(record.args) == 8:
                statuses.append(int(str(record.args[6])))

    urllib3 = logging.getLogger("urllib3.connectionpool")
    handler, level, urllib3.propagate = Statuses(), urllib3.level, False
    urllib3.addHandler(handler)
    urllib3.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        urllib3.removeHandler(handler)
        urllib3.setLevel(level)
        urllib3.propagate = True
