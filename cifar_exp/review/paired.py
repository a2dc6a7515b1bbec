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
_BYTES, _VALUES = 1 << 28, 50_000_000  # of a file that is read: a million images of 40 classes
SIGNIFICANT = 0.05  # a p-value below it is not put down to chance
CONFIDENCE = 0.95
SMALLEST_P = 0.0001  # that is shown

_COLUMNS = ("index", "label", "predicted")

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
    """95 % confidence: the t interval of the differences image by image, and the exact one (Clopper and Pearson's) for
    the number of images on which they differ, whichever reaches further; so that it is without 0 where the test is
    significant, and only there."""
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
        p = f"p = {self.p_value:.4f}" if self.p_value >= SMALLEST_P else f"p < {SMALLEST_P}"
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

    def turned(self) -> Paired:
        """The same with A and B exchanged."""
        low, high = self.interval
        return Paired(
            self.b, self.a, self.images, self.only_b, self.only_a, -self.difference, (-high, -low), self.p_value
        )


@dataclass(frozen=True)
class Predicted:
    """What a run predicted."""

    run: str
    """Its id, or its name."""
    digest: str | None
    """Of the test images."""
    frame: pd.DataFrame


def paired(store: Store, run_a: str, run_b: str) -> Paired:
    """Compare what two runs of a store, by their ids, predicted of the same test images.

    Raises:
        UserError: if there is no such run, if one has no predictions, or they are of different images.
    """
    return _test(read(store, run_a), read(store, run_b))


def against(store: Store, baseline: Run, runs: Sequence[Run]) -> list[Paired | UserError | None]:
    """Each of these runs as B beside the same A: the test, or why there is none; None for the baseline itself.

    Raises:
        UserError: if the baseline has no predictions.
    """
    first = (baseline, of_run(store, baseline))

    def tested(run: Run) -> Paired | UserError | None:
        if run.info.run_id == baseline.info.run_id:
            return None
        try:
            return _test(first, (run, of_run(store, run)))
        except UserError as error:
            return error

    return [tested(run) for run in runs]


def _test(a: tuple[Run, pd.DataFrame], b: tuple[Run, pd.DataFrame]) -> Paired:
    check_same_images([a, b])
    names = [run.info.run_name for run, _ in (a, b)]
    if names[0] == names[1]:
        names = [f"{run.info.run_name} ({run.info.run_id[:8]})" for run, _ in (a, b)]
    return compare(right(a[1]), right(b[1]), names[0], names[1])


def compare(right_a: Right, right_b: Right, a: str = "A", b: str = "B") -> Paired:
    """Compare two runs by whether each got each image right, both (N,) in the same order."""
    from scipy import stats

    images = len(right_a)
    only_a, only_b = int(np.sum(right_a & ~right_b)), int(np.sum(right_b & ~right_a))
    differ = only_a + only_b
    if not differ:
        most = stats.binomtest(0, images).proportion_ci(CONFIDENCE).high
        return Paired(a, b, images, 0, 0, 0.0, (-float(most), float(most)), 1.0)
    test = stats.binomtest(only_b, differ, 0.5)
    exact = [(2 * share - 1) * differ / images for share in test.proportion_ci(CONFIDENCE)]
    difference = (only_b - only_a) / images
    lows, highs = [exact[0]], [exact[1]]
    per_image = right_b.astype(float) - right_a
    if per_image.std():
        student = stats.ttest_1samp(per_image, 0).confidence_interval(CONFIDENCE)
        lows.append(student.low)
        highs.append(student.high)
    interval = (float(min(lows)), float(max(highs)))
    return Paired(a, b, images, only_a, only_b, difference, interval, float(test.pvalue))


def right(predictions: pd.DataFrame) -> Right:
    """Whether each image was, (N,)."""
    found: Right = (predictions["label"] == predictions["predicted"]).to_numpy()
    return found


def read(store: Store, run_id: str) -> tuple[Run, pd.DataFrame]:
    """A run and its predictions: index, label, predicted, p_<class>, a row per test image.

    Raises:
        UserError: if there is no such run, or it has none.
    """
    run, content = fetch.run_and_file(store, run_id, PREDICTIONS, _BYTES)
    return run, parse(content, f"run {run_id} of {store.uri}")


def of_run(store: Store, run: Run) -> pd.DataFrame:
    """The predictions of a run, as `read` gives them.

    Raises:
        UserError: if it has none.
    """
    return parse(fetch.file(store, run, PREDICTIONS, _BYTES), f"run {run.info.run_id} of {store.uri}")


def parse(content: bytes, whose: str) -> pd.DataFrame:
    """The predictions in a file that may come from anywhere.

    Raises:
        UserError: if it does not hold any.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(io.BytesIO(content))
        schema, parts = file.schema_arrow, range(file.metadata.num_row_groups)
        probabilities = [name for name in schema.names if name.startswith("p_")]
        wanted = [*_COLUMNS, *probabilities]
        if missing := [name for name in _COLUMNS if name not in schema.names]:
            raise UserError(f"{whose}: {PREDICTIONS} has no column {missing[0]!r}")
        rows = sum(file.metadata.row_group(part).num_rows for part in parts)
        if rows * len(wanted) > _VALUES:  # a few kilobytes of a repeated value expand to gigabytes
            raise UserError(f"{whose}: {PREDICTIONS} holds {rows:,} rows; at most {_VALUES:,} values are read")
        numeric = all(pa.types.is_integer(schema.field(name).type) for name in _COLUMNS)
        numeric = numeric and all(pa.types.is_floating(schema.field(name).type) for name in probabilities)
        if not numeric or not rows or not probabilities:
            raise UserError(f"{whose}: {PREDICTIONS} is not a row per image of integers and probabilities")
        frame: pd.DataFrame = file.read(columns=wanted).to_pandas(ignore_metadata=True)
    except (pa.ArrowException, ValueError, KeyError, OSError) as error:
        raise UserError(f"{whose}: {PREDICTIONS} cannot be read: {reason(error)}") from error
    if not all(pd.api.types.is_integer_dtype(frame[name]) for name in _COLUMNS):
        raise UserError(f"{whose}: {PREDICTIONS} has rows without an index, a label or a prediction")
    known = frame[["label", "predicted"]].isin(range(len(probabilities))).all(axis=None)
    if not known:
        raise UserError(f"{whose}: {PREDICTIONS} names classes that it has no probabilities of")
    return frame[wanted]


def check_same_images(found: Sequence[tuple[Run, pd.DataFrame]]) -> None:
    """Refuse runs that were not tested on the same images: by their digests, and by index and label of each.

    Raises:
        UserError: for the first that was tested on others than the first of all.
    """
    check_same([Predicted(run.info.run_id, test_digest(run), frame) for run, frame in found])


def check_same(found: Sequence[Predicted]) -> None:
    """The same, wherever they come from.

    Raises:
        UserError: for the first that was tested on others than the first of all.
    """
    first = found[0]
    for one in found[1:]:
        pair = f"runs {first.run} and {one.run} were tested on different images"
        if first.digest and one.digest and first.digest != one.digest:
            raise UserError(f"{pair}: SHA-256 {first.digest[:12]}... and {one.digest[:12]}...")
        if len(one.frame) != len(first.frame):
            raise UserError(f"{pair}: {len(first.frame):,} and {len(one.frame):,}")
        for name in ("index", "label"):
            differ = one.frame[name].to_numpy() != first.frame[name].to_numpy()
            if differ.any():
                raise UserError(f"{pair}: their {name} differs in row {int(differ.argmax())}")


def test_digest(run: Run) -> str | None:
    """Of the images it was tested on, where that was recorded."""
    used = run.inputs.dataset_inputs if run.inputs else []
    found = (entry.dataset for entry in used if entry.dataset.name.endswith("-test"))
    return next((str(dataset.digest) for dataset in found), None)
