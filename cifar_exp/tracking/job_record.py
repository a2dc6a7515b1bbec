"""What the jobs of a sweep have logged, from their folders here or from the store."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cifar_exp.tracking import local_run, takeover
from cifar_exp.tracking.local_run import LocalRun
from cifar_exp.tracking.progress import Progress
from cifar_exp.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

_AT_ONCE = 8  # requests to the store


@dataclass(frozen=True)
class JobRecord:
    """A job that has begun."""

    name: str
    status: str | None
    """FINISHED, FAILED, KILLED or RUNNING; None if its process was killed before it could log the end."""
    began: int
    """Milliseconds since 1970."""
    ended: int
    """Time of its last event here, or its end in the store, in milliseconds since 1970."""
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, Mapping[int, float]]
    """Metric -> step -> value."""
    run_id: str | None

    def series(self, metric: str) -> list[float]:
        """Value of a metric after each epoch, from epoch 1; empty if it is no metric of epochs."""
        steps = self.metrics.get(metric, {})
        found: list[float] = []
        while (epoch := len(found) + 1) in steps:
            found.append(steps[epoch])
        return found


def from_folder(folder: Path) -> JobRecord | None:
    """Read the job of a folder; None if none has begun there."""
    run = LocalRun.read(folder)
    if run is None:
        return None
    metrics, run_id = local_run.metrics(folder), Progress.read(folder).run_id
    return JobRecord(run.name, run.status, run.began, run.ended, run.tags, run.params, metrics, run_id)


def from_store(store: Store, sweep: str, of_epochs: Collection[str], known: Collection[str] = ()) -> list[JobRecord]:
    """Read the jobs of a sweep that are in the store.

    Args:
        store: has the runs.
        sweep: name of the sweep.
        of_epochs: metrics whose values of all epochs are read; of the others, the last value.
        known: ids of runs that are left out.

    Raises:
        UserError: if the store cannot be read.
    """
    with store.translate_errors():
        runs = [run for run in takeover.find_jobs(store, sweep) if run.info.run_id not in known]
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            return list(threads.map(lambda run: _from_run(store, run, of_epochs), runs))


def _from_run(store: Store, run: Run, of_epochs: Collection[str]) -> JobRecord:
    metrics: dict[str, dict[int, float]] = {name: {0: value} for name, value in run.data.metrics.items()}
    for name in of_epochs:
        if name in metrics:
            points = store.client.get_metric_history(run.info.run_id, name)
            metrics[name] = {point.step: point.value for point in points}
    began, ended = run.info.start_time, run.info.end_time or run.info.start_time
    data = run.data
    return JobRecord(run.info.run_name, run.info.status, began, ended, data.tags, data.params, metrics, run.info.run_id)
