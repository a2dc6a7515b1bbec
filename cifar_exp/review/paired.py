"""Paired comparison of runs on the same test images: McNemar's test and a confidence interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cifar_exp.errors import UserError
from cifar_exp.evaluation.intervals import CONFIDENCE
from cifar_exp.review import run_predictions
from cifar_exp.review.multiple import holm
from cifar_exp.review.run_predictions import Correct, RunPredictions
from cifar_exp.tracking import fetch
from cifar_exp.tracking.store import Store

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Run

SIGNIFICANCE_LEVEL = 0.05  # a difference with a smaller p-value is significant
SMALLEST_P = 0.0001  # smaller p-values are shown as below it


@dataclass(frozen=True)
class Paired:
    """Comparison of two runs, A and B, on the same test images.

    Attributes:
        a: name of run A.
        b: name of run B.
        images: number of test images.
        only_a: number of images that only A classifies correctly.
        only_b: number of images that only B classifies correctly.
        difference: accuracy of B minus accuracy of A.
        interval: 95 % confidence interval of the difference. It covers both the t interval of the per-image differences
            and the exact (Clopper-Pearson) interval for the images on which the runs differ, so it excludes 0 exactly
            if the test is significant.
        p_value: of the exact McNemar test: the probability of a split of `only_a` and `only_b` at least as uneven if
            both runs were equally accurate.
        pairs: number of pairs that were tested together.
        corrected: the p-value corrected for `pairs` (Holm); `None` if this pair alone was tested. The interval is that
            of this pair alone.
    """

    a: str
    b: str
    images: int
    only_a: int
    only_b: int
    difference: float
    interval: tuple[float, float]
    p_value: float
    pairs: int = 1
    corrected: float | None = None

    @property
    def significant(self) -> bool:
        """Whether the p-value, corrected if several pairs were tested, is below 0.05."""
        return (self.p_value if self.corrected is None else self.corrected) < SIGNIFICANCE_LEVEL

    @property
    def words(self) -> str:
        """The comparison as a sentence."""
        if not self.only_a + self.only_b:
            return f"{self.b} and {self.a} classify the same images correctly ({self.images:,} images)."
        p = _p_in_words(self.p_value)
        if self.corrected is not None:
            p += f", corrected for {self.pairs:,} pairs (Holm) {_p_in_words(self.corrected)}"
        test = f"McNemar {p}, {self.images:,} images"
        low, high = self.interval if self.difference >= 0 else (-self.interval[1], -self.interval[0])
        interval = f"{low:.4f} to {high:.4f}" + (" for this pair alone" if self.corrected is not None else "")
        if self.only_a == self.only_b:
            return f"{self.b} is as accurate as {self.a} (95 % interval of the difference {interval}; {test})."
        better_or_worse = "better" if self.difference > 0 else "worse"
        chance = "larger" if self.significant else "not shown to be larger"
        return (
            f"{self.b} is {better_or_worse} than {self.a} by {abs(self.difference):.4f} (95 % interval {interval}), "
            f"{chance} than chance would make it ({test})."
        )

    def swapped(self) -> Paired:
        """The same comparison with A and B exchanged."""
        low, high = self.interval
        return replace(
            self,
            a=self.b,
            b=self.a,
            only_a=self.only_b,
            only_b=self.only_a,
            difference=-self.difference,
            interval=(-high, -low),
        )


def corrected(tests: Sequence[Paired]) -> list[Paired]:
    """The same comparisons with p-values corrected for their number (Holm); a single one stays as it is."""
    if len(tests) < 2:
        return list(tests)
    p_values = holm([test.p_value for test in tests])
    return [replace(test, pairs=len(tests), corrected=p) for test, p in zip(tests, p_values, strict=True)]


def _p_in_words(p_value: float) -> str:
    return f"p = {p_value:.4f}" if p_value >= SMALLEST_P else f"p < {SMALLEST_P}"


def compare_runs(store: Store, run_a: str, run_b: str) -> Paired:
    """Compare two logged runs.

    Args:
        store: contains both runs.
        run_a: id of run A.
        run_b: id of run B.

    Raises:
        UserError: if a run does not exist or has no predictions, or if the test images differ.
    """
    return compare_predictions(_read(store, run_a), _read(store, run_b))


def compare_with_baseline(store: Store, baseline: Run, runs: Sequence[Run]) -> list[Paired | UserError | None]:
    """Compare several runs, each as B, with the same baseline, as A.

    Returns:
        For each run its comparison, corrected for their number, the error that prevented it, or `None` for the baseline
        itself.

    Raises:
        UserError: if the baseline has no predictions.
    """
    baseline_predictions = (baseline, run_predictions.read(store, baseline))

    def compare_one(run: Run) -> Paired | UserError | None:
        if run.info.run_id == baseline.info.run_id:
            return None
        try:
            return compare_predictions(baseline_predictions, (run, run_predictions.read(store, run)))
        except UserError as error:
            return error

    compared = [compare_one(run) for run in runs]
    tests = iter(corrected([one for one in compared if isinstance(one, Paired)]))
    return [next(tests) if isinstance(one, Paired) else one for one in compared]


def compare_predictions(a: tuple[Run, pd.DataFrame], b: tuple[Run, pd.DataFrame]) -> Paired:
    """Compare two runs by their predictions.

    Raises:
        UserError: if the test images differ.
    """
    run_predictions.check_same_images(
        [RunPredictions(run.info.run_id, run_predictions.test_digest(run), frame) for run, frame in (a, b)]
    )
    names = [run.info.run_name for run, _ in (a, b)]
    if names[0] == names[1]:
        names = [f"{run.info.run_name} ({run.info.run_id[:8]})" for run, _ in (a, b)]
    return compare(run_predictions.correct(a[1]), run_predictions.correct(b[1]), names[0], names[1])


def compare(correct_a: Correct, correct_b: Correct, a: str = "A", b: str = "B") -> Paired:
    """Compare two runs by which images each of them classifies correctly.

    Args:
        correct_a: (N,) bool, whether run A classifies each image correctly.
        correct_b: (N,) bool, for run B, in the same order.
        a: name of run A.
        b: name of run B.
    """
    from scipy import stats

    images = len(correct_a)
    only_a, only_b = int(np.sum(correct_a & ~correct_b)), int(np.sum(correct_b & ~correct_a))
    discordant = only_a + only_b
    if not discordant:
        limit = float(stats.binomtest(0, images).proportion_ci(CONFIDENCE).high)
        return Paired(a, b, images, 0, 0, 0.0, (-limit, limit), 1.0)
    test = stats.binomtest(only_b, discordant, 0.5)
    exact = [(2 * share - 1) * discordant / images for share in test.proportion_ci(CONFIDENCE)]
    difference = (only_b - only_a) / images
    lows, highs = [exact[0]], [exact[1]]
    per_image = correct_b.astype(float) - correct_a
    if per_image.std():
        t_interval = stats.ttest_1samp(per_image, 0).confidence_interval(CONFIDENCE)
        lows.append(t_interval.low)
        highs.append(t_interval.high)
    interval = (float(min(lows)), float(max(highs)))
    return Paired(a, b, images, only_a, only_b, difference, interval, float(test.pvalue))


def _read(store: Store, run_id: str) -> tuple[Run, pd.DataFrame]:
    run = fetch.run(store, run_id)
    return run, run_predictions.read(store, run)
