"""One client of server_load.py: logs a run with MLflow's own calls, as the program does, and reads it back.

What it logs is drawn from its number, so that whoever reads it back knows what was sent.
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

_READY_WITHIN = 300  # seconds, until every client has its connection


@dataclass(frozen=True)
class Work:
    """What each client logs: one batch of metrics an epoch, then the artifacts."""

    epochs: int = 50
    metrics: int = 20
    artifacts: int = 5
    artifact_kb: int = 50

    def points(self, client: int, metric: int) -> dict[int, float]:
        """A metric's whole history: step -> value."""
        drawn = random.Random(f"{client}/{metric}")
        return {step: drawn.random() for step in range(1, self.epochs + 1)}

    def content(self, client: int, artifact: int) -> bytes:
        """What an artifact holds, which no compression makes smaller."""
        return random.Random(f"{client}/artifact/{artifact}").randbytes(self.artifact_kb * 1024)


@dataclass
class Logged:
    """What came of one client's work. Times are in seconds, `began` and `ended` since 1970."""

    client: int
    run_id: str | None = None
    began: float = 0
    ended: float = 0
    processor: float = 0
    latencies: dict[str, list[float]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    """The status of every answer, also of those after which MLflow's client tried again."""


def log(client: int, work: Work, uri: str, experiment_id: str, ready: Callable[[float], object]) -> Logged:
    """Log one run, once all clients are `ready`; a call that fails is written down and the next one made.

    Args:
        client: its number.
        work: what to log.
        uri: the server's.
        experiment_id: where the run belongs.
        ready: waits for the others, for so many seconds at most.
    """
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    logged = Logged(client)
    values = [work.points(client, metric) for metric in range(work.metrics)]
    mlflow = MlflowClient(uri)
    with tempfile.TemporaryDirectory() as folder, _answers(logged.answers):
        files = [Path(folder, f"{artifact}.bin") for artifact in range(work.artifacts)]
        for artifact, file in enumerate(files):
            file.write_bytes(work.content(client, artifact))
        mlflow.get_experiment(experiment_id)  # opens the connection
        ready(_READY_WITHIN)
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
    """What the server does not hold of a run that was logged, or holds otherwise than it was sent."""
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
    """Time it, and write down what it raises: MLflow's client has tried again by then."""
    began = time.perf_counter()
    try:
        yield
    except Exception as error:
        logged.failures.append(f"client {logged.client}: {kind}: {error!r}")
    logged.latencies.setdefault(kind, []).append(time.perf_counter() - began)


@contextmanager
def _answers(into: list[int]) -> Iterator[None]:
    """Collect the status of every answer, from what urllib3 logs: it is who tries again."""

    class Statuses(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.funcName == "_make_request" and isinstance(record.args, tuple) and len(record.args) == 8:
                into.append(int(str(record.args[6])))

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
