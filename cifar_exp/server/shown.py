"""Runs as the pages show them: plain values for the templates."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cifar_exp.evaluation import intervals
from cifar_exp.review import remarks, run_predictions, run_record, verdicts
from cifar_exp.review.run_predictions import Matrix
from cifar_exp.tracking import heartbeat, run_tags, untrusted

if TYPE_CHECKING:
    from mlflow.entities import Run

ACCURACY, CURVE = "test/accuracy", "val/accuracy"
_DIGITS = 9  # of a number of epochs


@dataclass(frozen=True)
class ShownRun:
    """A run in a list.

    Attributes:
        id: of the run.
        experiment_id: of its experiment.
        name: of the run.
        by: user who created it.
        sweep: name of its sweep; empty if it is not part of one.
        status: as MLflow keeps it.
        outcome: of the training, such as completed or collapsed.
        ended: when it ended, or began if it has not ended, in UTC.
        accuracy: on the test images; None if it was not logged.
        interval: 95 % interval of the accuracy, as text; empty if unknown.
        state: of the review.
        changed: whether it was changed after its approval.
        objections: why an approval needs a reason.
        asked: who was asked to review it.
    """

    id: str
    experiment_id: str
    name: str
    by: str
    sweep: str
    status: str
    outcome: str
    ended: datetime
    accuracy: float | None
    interval: str
    state: str
    changed: bool
    objections: tuple[str, ...]
    asked: tuple[str, ...]

    @property
    def doubtful(self) -> bool:
        """Whether the training failed to learn."""
        return self.outcome in (run_tags.COLLAPSED, run_tags.DIVERGED, run_tags.FAILED, run_tags.INTERRUPTED)


@dataclass(frozen=True)
class Progress:
    """How far a running training is.

    Attributes:
        epoch: last epoch that was logged.
        epochs: planned; 0 if unknown.
        left: time left, in words; empty if unknown.
        stale: whether nothing was heard of it for minutes.
    """

    epoch: int
    epochs: int
    left: str
    stale: bool


def run(logged: Run) -> ShownRun:
    """A run as lists show it."""
    tags, info = logged.data.tags, logged.info
    accuracy = logged.data.metrics.get(ACCURACY)
    given = verdicts.history(logged)
    return ShownRun(
        *(info.run_id, info.experiment_id, info.run_name or info.run_id, verdicts.owner(logged) or "unknown"),
        *(tags.get(run_tags.SWEEP, ""), info.status, tags.get(run_tags.OUTCOME, "")),
        untrusted.moment(info.end_time or info.start_time),
        *(accuracy, interval(accuracy, run_record.images(logged, "test")), verdicts.state(logged)),
        *(bool(given) and verdicts.changed_since(logged, given[-1]), verdicts.objections(logged)),
        tuple(remarks.asked(tags)),
    )


def interval(accuracy: float | None, images: int | None) -> str:
    """Wilson's 95 % interval of an accuracy, as text; empty if it cannot be computed."""
    found = intervals.of_accuracy(accuracy, images)
    return f"{found[0]:.4f} to {found[1]:.4f}" if found else ""


def progress(logged: Run, points: Sequence[tuple[int, float]]) -> Progress:
    """How far a running training is.

    Args:
        logged: the run.
        points: (epoch, value) of a metric that is logged every epoch.
    """
    epoch = max((step for step, _ in points), default=0)
    planned = logged.data.params.get("training.epochs", "")
    epochs = int(planned) if planned.isdecimal() and len(planned) <= _DIGITS else 0
    left = ""
    if epoch and epochs > epoch:
        elapsed = datetime.now(UTC) - untrusted.moment(logged.info.start_time)
        minutes = math.ceil(elapsed.total_seconds() / epoch * (epochs - epoch) / 60)
        left = f"about {minutes} min" if minutes < 120 else f"about {minutes // 60} h"
    return Progress(epoch, epochs, left, heartbeat.is_dead(logged))


def overrides(logged: Run) -> list[str]:
    """What the command of a run has changed from the defaults."""
    try:
        return shlex.split(logged.data.tags.get(run_tags.OVERRIDES, ""))
    except ValueError:  # whoever logs can write anything there
        return []


def polyline(points: Sequence[tuple[int, float]], width: int, height: int, low: float, high: float) -> str:
    """Points of an SVG polyline: epochs from left to right, values from bottom to top.

    Args:
        points: (epoch, value).
        width: of the drawing.
        height: of the drawing.
        low: value at the bottom.
        high: value at the top.
    """
    finite = [(step, value) for step, value in points if math.isfinite(value)]
    if not finite:
        return ""
    first, last = finite[0][0], finite[-1][0]
    across, up = max(1, last - first), (high - low) or 1.0
    return " ".join(
        f"{(step - first) / across * (width - 4) + 2:.1f},{height - 2 - (value - low) / up * (height - 4):.1f}"
        for step, value in finite
    )


def range_of(curves: Mapping[str, Sequence[tuple[int, float]]]) -> tuple[float, float]:
    """Lowest and highest finite value of several curves."""
    values = [value for points in curves.values() for _, value in points if math.isfinite(value)]
    return (min(values), max(values)) if values else (0.0, 1.0)


def matrix(content: Any) -> Matrix | None:
    """Class names and counts of a logged confusion matrix; None if it is not one."""
    try:
        classes, counts = content["classes"], content["matrix"]
    except (KeyError, TypeError):
        return None
    size = len(classes) if isinstance(classes, list) else 0
    square = isinstance(counts, list) and len(counts) == size and all(isinstance(row, list) for row in counts)
    if not square or not all(len(row) == size and all(map(run_record.is_count, row)) for row in counts):
        return None
    return ([str(name) for name in classes], counts) if 0 < size <= run_predictions.MATRIX_CLASSES else None
