"""Records of logged runs, read from the tracking store or from a run's folder, and their table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_exp.review import verdicts
from cifar_exp.review.run_predictions import test_digest
from cifar_exp.tracking import journal, local_run, run_tags
from cifar_exp.tracking.journal import Event
from cifar_exp.tracking.local_run import LocalRun
from cifar_exp.tracking.progress import Progress
from cifar_exp.tracking.untrusted import moment, parse_json

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Run

_REVIEW = "review.state"
_LONGEST_NUMBER = 40  # characters; longer ones may be larger than a float can hold
_TEXT_PARAMS = ("name", "note", "data.dir")  # never parsed as numbers


@dataclass(frozen=True)
class RunRecord:
    """A run as it was logged.

    Attributes:
        id: MLflow's run id; `None` if the run has not been sent to a store yet.
        name: of the run.
        status: MLflow's status: FINISHED, FAILED, KILLED or RUNNING.
        start_time: milliseconds since 1970.
        end_time: milliseconds since 1970; `None` if unknown.
        params: parameters as logged.
        metrics: value of each metric at its last step.
        tags: tags as logged.
        test_digest: digest of the test images; `None` if it was not logged.
        review: state: unreviewed, approved, rejected or rerun-requested; empty if it was not logged.
    """

    id: str | None
    name: str
    status: str
    start_time: int
    end_time: int | None
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    test_digest: str | None
    review: str = ""

    @property
    def outcome(self) -> str:
        """completed, collapsed, pruned, diverged, failed, interrupted or running; empty for runs of other programs."""
        return self.tags.get(run_tags.OUTCOME, "")

    @property
    def accuracy(self) -> float | None:
        """Test accuracy, or `None` if no finite one was logged."""
        accuracy = self.metrics.get("test/accuracy", math.nan)
        return accuracy if math.isfinite(accuracy) else None


def command(tags: Mapping[str, str]) -> str:
    """The command line that made a run, from its tags."""
    return tags.get(run_tags.COMMAND) or f"python -m cifar_exp {tags.get(run_tags.OVERRIDES, '')}".rstrip()


def from_run(run: Run) -> RunRecord:
    """Create a record from a run of the tracking store."""
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
        verdicts.state(run) if _REVIEW in run.data.tags else "",
    )


def from_folder(folder: Path) -> RunRecord | None:
    """Create a record from the journal in a run's folder; `None` if no run was started there."""
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
    review = run.tags.get(_REVIEW, "")
    return RunRecord(run_id, run.name, status, run.began, run.ended, params, metrics, run.tags, digest, review)


def images(run: Run, split: str) -> int | None:
    """Number of images of a run's `training`, `validation` or `test` split; None if it was not logged."""
    for entry in run.inputs.dataset_inputs if run.inputs else []:
        if entry.dataset.name.endswith(f"-{split}"):
            try:
                count = parse_json(entry.dataset.profile or "{}")["images"]
            except (KeyError, TypeError, ValueError):
                return None
            return count if is_count(count) and count > 0 else None
    return None


def is_count(value: object) -> bool:
    """Whether a logged value can be a number of images. Any user can log any number."""
    return isinstance(value, int) and 0 <= value < 1 << 31


def parse_param(key: str, text: str | None) -> Any:
    """Convert a logged parameter back to its value: `None`, a bool, a finite int or float, or the text itself."""
    if text is None or text == "None":
        return None
    if key in _TEXT_PARAMS:
        return text
    if text in ("True", "False"):
        return text == "True"
    if len(text) <= _LONGEST_NUMBER:
        for kind in (int, float):
            with suppress(ValueError):
                number = kind(text)
                return number if math.isfinite(number) else text
    return text


def to_frame(records: Sequence[RunRecord]) -> pd.DataFrame:
    """Table with one row per run: run_id, name, status, outcome, review, started, seconds, params.*, metrics.*, tags.*.

    `started` is in UTC. A metric that was logged every epoch has its last value. Missing values are `None` or NaN.
    """
    import pandas as pd

    rows = [
        {
            "run_id": record.id,
            "name": record.name,
            "status": record.status,
            "outcome": record.outcome,
            "review": record.review,
            "started": pd.Timestamp(moment(record.start_time)),
            "seconds": (record.end_time - record.start_time) / 1000 if record.end_time else None,
        }
        for record in records
    ]
    columns: dict[str, list[Any]] = {}
    for key in _keys(record.params for record in records):
        columns[f"params.{key}"] = [parse_param(key, record.params.get(key)) for record in records]
    for key in _keys(record.metrics for record in records):
        columns[f"metrics.{key}"] = [record.metrics.get(key) for record in records]
    for key in _keys(record.tags for record in records):
        columns[f"tags.{key}"] = [record.tags.get(key) for record in records]
    return pd.concat([pd.DataFrame(rows), pd.DataFrame(columns)], axis=1)


def _keys(mappings: Iterable[Mapping[str, Any]]) -> list[str]:
    return sorted({key for mapping in mappings for key in mapping})
