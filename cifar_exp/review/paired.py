"""Two runs on the same test images: whether one is better than the other by more than chance would make it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cifar_exp.errors import UserError, reason
from cifar_exp.tracking import fetch
from cifar_exp.tracking.store import Store

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Run

PREDICTIONS = "evaluation/predictions.parquet"
SIGNIFICANT = 0.05  # a p-value below it is not put down to chance
CONFIDENCE = 0.95

_COLUMNS = ("index", "label", "predicted")
_SMALLEST_SHOWN = 0.0001  # of p-values

Right = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Paired:
    """How two runs, A and B, did on the same images."""

    a: str
    b: str
    """Their names."""
    images: int
    only_a: int
    only_b: int
    """Images that one got right and the other wrong."""
    difference: float
    """Of the accuracies, B's minus A's."""
    interval: tuple[float, float]
    """95 % confidence, from the t distribution of the differences image by image."""
    p_value: float
    """McNemar's test, in its exact form: that chance alone divides `only_a` and `only_b` so unevenly."""

    @property
    def significant(self) -> bool:
        """Whether the difference is larger than chance would make it."""
        return self.p_value < SIGNIFICANT

    @property
    def words(self) -> str:
        """All of it in a sentence."""
        if not self.only_a + self.only_b:
            return f"{self.b} and {self.a} are right on the very same of {self.images:,} images."
        p = f"p = {self.p_value:.4f}" if self.p_value >= _SMALLEST_SHOWN else f"p < {_SMALLEST_SHOWN}"
        test = f"McNemar {p}, {self.images:,} images"
        low, high = self.interval if self.difference >= 0 else (-self.interval[1], -self.interval[0])
        interval = f"{low:.4f} to {high:.4f}"
        if self.only_a == self.only_b:
            return f"{self.b} is as accurate as {self.a} (95 % interval of the difference {interval}; {test})."
        how = "better" if self.difference > 0 else "worse"
        chance = "larger" if self.significant else "no larger"
        return (
            f"{self.b} is {how} than {self.a} by {abs(self.difference):.4f} (95 % interval {interval}), "
            f"{chance} than chance would make it ({test})."
        )


def paired(store: Store, run_a: str, run_b: str) -> Paired:
    """Compare what two runs of a store, by their ids, predicted of the same test images.

    Raises:
        UserError: if there is no such run, if one has no predictions, or they are of different images.
    """
    (first, of_a), (second, of_b) = (read(store, run_id) for run_id in (run_a, run_b))
    check_same_images([(first, of_a), (second, of_b)])
    names = [run.info.run_name for run in (first, second)]
    if names[0] == names[1]:
        names = [f"{run.info.run_name} ({run.info.run_id[:8]})" for run in (first, second)]
    return compare(right(of_a), right(of_b), names[0], names[1])


def compare(right_a: Right, right_b: Right, a: str = "A", b: str = "B") -> Paired:
    """Compare two runs by whether each got each image right, both (N,) in the same order."""
    from scipy import stats

    only_a, only_b = int(np.sum(right_a & ~right_b)), int(np.sum(right_b & ~right_a))
    difference, images = (only_b - only_a) / len(right_a), len(right_a)
    if only_a + only_b == 0:
        return Paired(a, b, images, 0, 0, 0.0, (0.0, 0.0), 1.0)
    p_value = float(stats.binomtest(only_b, only_a + only_b, 0.5).pvalue)
    per_image = right_b.astype(float) - right_a
    if per_image.std() == 0:  # one is right everywhere, the other nowhere
        return Paired(a, b, images, only_a, only_b, difference, (difference, difference), p_value)
    interval = stats.ttest_1samp(per_image, 0).confidence_interval(CONFIDENCE)
    return Paired(a, b, images, only_a, only_b, difference, (float(interval.low), float(interval.high)), p_value)


def right(predictions: pd.DataFrame) -> Right:
    """Whether each image was, (N,)."""
    found: Right = (predictions["label"] == predictions["predicted"]).to_numpy()
    return found


def read(store: Store, run_id: str) -> tuple[Run, pd.DataFrame]:
    """A run and its predictions: index, label, predicted, p_<class>, a row per test image.

    Raises:
        UserError: if there is no such run, or it has none.
    """
    run, content = fetch.run_and_file(store, run_id, PREDICTIONS)
    return run, parse(content, f"run {run_id} of {store.uri}")


def parse(content: bytes, whose: str) -> pd.DataFrame:
    """The predictions in a file that may come from anywhere.

    Raises:
        UserError: if it does not hold any.
    """
    import pandas as pd
    import pyarrow as pa

    try:
        frame = pd.read_parquet(io.BytesIO(content))
    except (pa.ArrowException, ValueError, OSError) as error:
        raise UserError(f"{whose}: {PREDICTIONS} cannot be read: {reason(error)}") from error
    probabilities = [str(name) for name in frame.columns if str(name).startswith("p_")]
    if missing := [name for name in _COLUMNS if name not in frame.columns]:
        raise UserError(f"{whose}: {PREDICTIONS} has no column {missing[0]!r}")
    numeric = all(pd.api.types.is_integer_dtype(frame[name]) for name in _COLUMNS)
    numeric = numeric and all(pd.api.types.is_float_dtype(frame[name]) for name in probabilities)
    if not numeric or not len(frame) or not probabilities:
        raise UserError(f"{whose}: {PREDICTIONS} is not a row per image of integers and probabilities")
    known = frame[["label", "predicted"]].isin(range(len(probabilities))).all(axis=None)
    if not known:
        raise UserError(f"{whose}: {PREDICTIONS} names classes that it has no probabilities of")
    return frame[[*_COLUMNS, *probabilities]]


def check_same_images(found: Sequence[tuple[Run, pd.DataFrame]]) -> None:
    """Refuse runs that were not tested on the same images: by their digests, and by index and label of each.

    Raises:
        UserError: for the first that was tested on others than the first of all.
    """
    first, expected = found[0]
    for run, frame in found[1:]:
        pair = f"runs {first.info.run_id} and {run.info.run_id} were tested on different images"
        digests = [digest for digest in (_test_digest(first), _test_digest(run)) if digest]
        if len(set(digests)) > 1:
            raise UserError(f"{pair}: SHA-256 {digests[0][:12]}... and {digests[1][:12]}...")
        if len(frame) != len(expected):
            raise UserError(f"{pair}: {len(expected):,} and {len(frame):,}")
        for name in ("index", "label"):
            differ = frame[name].to_numpy() != expected[name].to_numpy()
            if differ.any():
                raise UserError(f"{pair}: their {name} differs in row {int(differ.argmax())}")


def _test_digest(run: Run) -> str | None:
    """Of the images it was tested on, where that was recorded."""
    used = run.inputs.dataset_inputs if run.inputs else []
    found = (entry.dataset for entry in used if entry.dataset.name.endswith("-test"))
    return next((str(dataset.digest) for dataset in found), None)
