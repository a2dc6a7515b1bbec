"""What is known of a run, from its store or from the folder it was trained in, and many of them as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_exp.review.paired import test_digest
from cifar_exp.tracking import journal, local_run
from cifar_exp.tracking.journal import Event
from cifar_exp.tracking.local_run import LocalRun
from cifar_exp.tracking.progress import Progress

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Run

_OUTCOME, _REVIEW = "cifar_exp.outcome", "review.state"
_TEXTS = ("name", "note", "data.dir")  # parameters that are what they are, also when they look like a number


@dataclass(frozen=True)
class RunRecord:
    """A run as it was logged."""

    id: str | None  # None: no store has taken it yet
    name: str
    status: str
    began: int
    ended: int | None
    """Milliseconds since 1970."""
    params: Mapping[str, str]
    metrics: Mapping[str, float]  # at their last step
    tags: Mapping[str, str]
    test_digest: str | None  # of the test images

    @property
    def outcome(self) -> str:
        """completed, collapsed, diverged, failed, interrupted, running; or nothing, of a run that is not ours."""
        return self.tags.get(_OUTCOME, "")

    @property
    def review(self) -> str:
        """What was decided about it."""
        return self.tags.get(_REVIEW, "")

    @property
    def accuracy(self) -> float | None:
        """On the test images."""
        return self.metrics.get("test/accuracy")


def of_run(run: Run) -> RunRecord:
    """What a store has of it."""
    return RunRecord(
        run.info.run_id,
        run.info.run_name or run.info.run_id,
        run.info.status,
        run.info.start_time,
        run.info.end_time,
        run.data.params,
        run.data.metrics,
        run.data.tags,
        test_digest(run),
    )


def of_folder(folder: Path) -> RunRecord | None:
    """What its own journal says; None for a folder without the beginning of a run."""
    run = LocalRun.read(folder)
    if run is None:
        return None
    params: Mapping[str, str] = {}
    digest = None
    for event in journal.read(folder):
        if isinstance(event, Event) and event.kind == "start":
            params = event.content["params"]
        elif isinstance(event, Event) and event.kind == "datasets":
            digest = event.content["test"]["digest"]
    metrics = {name: steps[max(steps)] for name, steps in local_run.metrics(folder).items()}
    run_id, status = Progress.read(folder).run_id, run.status or "KILLED"
    return RunRecord(run_id, run.name, status, run.began, run.ended, params, metrics, run.tags, digest)


def value(key: str, text: str | None) -> Any:
    """A parameter as what it was before it was logged: None, True, 3, 0.5, or the text."""
    if text is None or text == "None":
        return None
    if key in _TEXTS:
        return text
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def frame(found: Sequence[RunRecord]) -> pd.DataFrame:
    """One row per run: run_id, name, status, outcome, review, started (UTC), seconds; params.*, metrics.*, tags.*.

    Of a metric that was logged every epoch it is the last value. A parameter that a run does not have is None.
    """
    import pandas as pd

    rows = [
        {
            "run_id": one.id,
            "name": one.name,
            "status": one.status,
            "outcome": one.outcome,
            "review": one.review,
            "started": pd.Timestamp(one.began, unit="ms", tz="UTC"),
            "seconds": (one.ended - one.began) / 1000 if one.ended else None,
        }
        for one in found
    ]
    columns: dict[str, list[Any]] = {}
    for key in _keys(one.params for one in found):
        columns[f"params.{key}"] = [value(key, one.params.get(key)) for one in found]
    for key in _keys(one.metrics for one in found):
        columns[f"metrics.{key}"] = [one.metrics.get(key) for one in found]
    for key in _keys(one.tags for one in found):
        columns[f"tags.{key}"] = [one.tags.get(key) for one in found]
    return pd.concat([pd.DataFrame(rows), pd.DataFrame(columns)], axis=1)


def _keys(found: Iterable[Mapping[str, Any]]) -> list[str]:
    return sorted({key for one in found for key in one})
