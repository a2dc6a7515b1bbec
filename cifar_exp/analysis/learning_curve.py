"""Learning curve: how the test error falls with the number of training images, and what twice as many would bring."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cifar_exp.errors import UserError
from cifar_exp.evaluation.intervals import CONFIDENCE
from cifar_exp.review import run_record

if TYPE_CHECKING:
    from mlflow.entities import Run

_RESAMPLED = 200  # fits to simulated runs, for the intervals

_FEWEST_SIZES = 4  # a power law with an offset has three parameters
_STEEPEST = 2.0  # exponent; measured ones are between 0.05 and 1 (Hestness et al., 2017, Deep learning scaling)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Point:
    """A run: its number of training images, and its test error (1 - accuracy)."""

    images: int
    error: float


@dataclass(frozen=True)
class LearningCurve:
    """A power law, error = floor + scale * images ** -exponent, fitted to runs.

    Attributes:
        points: the runs.
        floor: error that is left with any number of images.
        scale: of the power law.
        exponent: of the power law.
        resampled: (floor, scale, exponent) of fits to simulated runs, (R, 3): a parametric bootstrap, with as much
            noise as the runs have around the power law.
    """

    points: tuple[Point, ...]
    floor: float
    scale: float
    exponent: float
    resampled: Floats

    @cached_property
    def sizes(self) -> list[int]:
        """The numbers of training images, rising."""
        return sorted({point.images for point in self.points})

    def mean(self, images: int) -> float:
        """Mean error of the runs with this number of training images."""
        return float(np.mean([point.error for point in self.points if point.images == images]))

    def predict(self, images: Floats) -> Floats:
        """Error by the power law, for numbers of training images."""
        predicted: Floats = self.floor + self.scale * images**-self.exponent
        return predicted

    def interval(self, images: Floats) -> tuple[Floats, Floats]:
        """95 % interval of `predict`, from the fits to simulated runs."""
        floor, scale, exponent = (column[:, np.newaxis] for column in self.resampled.T)
        predicted = floor + scale * images[np.newaxis] ** -exponent
        low, high = np.quantile(predicted, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
        return low, high

    @property
    def doubts(self) -> list[str]:
        """Why the prediction should not be believed, one sentence each, without a full stop."""
        found = []
        if len(self.sizes) < _FEWEST_SIZES:
            found.append(f"{len(self.sizes)} sizes: three parameters need at least {_FEWEST_SIZES}")
        if min(sum(point.images == size for point in self.points) for size in self.sizes) < 2:
            found.append("a size has one run only, so the interval leaves out how much seeds differ")
        means = [self.mean(size) for size in self.sizes]
        if means[-1] >= means[0]:
            found.append("the error does not fall with more images")
        missed = float(np.abs(self.predict(np.array(self.sizes, float)) - means).max())
        groups = ([point.error for point in self.points if point.images == size] for size in self.sizes)
        if missed > max(2 * max(float(np.std(group)) for group in groups), 0.02):
            found.append(f"the power law misses a size by {missed:.3f}: the curve has another form")
        return found

    @property
    def words(self) -> list[str]:
        """What the curve says, one sentence each."""
        most = self.sizes[-1]
        twice = np.array([2.0 * most])
        now, then = 1 - self.mean(most), 1 - float(self.predict(twice)[0])
        low, high = (1 - float(bound[0]) for bound in reversed(self.interval(twice)))
        sentences = [
            f"With {most:,} training images the mean accuracy is {now:.4f}.",
            f"Twice as many would bring about {then:.4f} (95 % interval {low:.4f} to {high:.4f}), by a power law with "
            f"the exponent {self.exponent:.2f}.",
        ]
        if doubts := self.doubts:
            sentences.append(f"Do not rely on this: {'; '.join(doubts)}.")
        return sentences

    def content(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "points": [[point.images, point.error] for point in self.points],
            "floor": self.floor,
            "scale": self.scale,
            "exponent": self.exponent,
            "words": self.words,
        }


def fit(points: Sequence[Point]) -> LearningCurve:
    """Fit a power law by least squares, each run counting the same.

    Args:
        points: of runs with at least three different numbers of training images.

    Raises:
        UserError: if there are fewer.
    """
    ordered = sorted(points, key=lambda point: (point.images, point.error))
    sizes = sorted({point.images for point in ordered})
    if len(sizes) < 3:
        raise UserError(f"a learning curve needs runs of at least 3 sizes of training data; got {len(sizes)}")
    images = np.array([point.images for point in ordered], float)
    errors = np.array([point.error for point in ordered])
    floor, scale, exponent = _power_law(images, errors)
    fitted = floor + scale * images**-exponent
    freedom = max(1, len(errors) - 3)  # three parameters are fitted
    deviation = np.sqrt(np.square(errors - fitted).sum() / freedom)
    noise = np.random.default_rng(0).standard_t(freedom, (_RESAMPLED, len(errors))) * deviation
    resampled = [_power_law(images, fitted + one) for one in noise]
    return LearningCurve(tuple(ordered), floor, scale, exponent, np.array(resampled))


def _power_law(images: Floats, errors: Floats) -> tuple[float, float, float]:
    """Floor, scale and exponent with the least squares. Images count in units of the smallest size: it is stable."""
    from scipy.optimize import least_squares

    unit = images.min()

    def residuals(parameters: Floats) -> Floats:
        floor, scale, exponent = parameters
        missed: Floats = floor + scale * (images / unit) ** -exponent - errors
        return missed

    start = np.array([0.5 * errors.min(), max(errors.max() - 0.5 * errors.min(), 1e-6), 0.5])
    lowest, highest = np.array([0.0, 0.0, 0.0]), np.array([max(errors.min(), 1e-9), np.inf, _STEEPEST])
    start = np.clip(start, lowest, np.where(np.isfinite(highest), highest, start))
    floor, scale, exponent = least_squares(residuals, start, bounds=(lowest, highest)).x
    return float(floor), float(scale * unit**exponent), float(exponent)


def points_of(runs: Sequence[Run]) -> list[Point]:
    """The points of finished runs; those without test accuracy or data sets are left out."""
    found = []
    for run in runs:
        accuracy, images = run.data.metrics.get("test/accuracy"), run_record.images(run, "training")
        if run.info.status == "FINISHED" and accuracy is not None and images:
            found.append(Point(images, 1 - accuracy))
    return found


def to_json(curve: LearningCurve) -> str:
    """The curve as JSON."""
    return json.dumps(curve.content(), indent=2)
