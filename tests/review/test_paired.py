"""Tests of the paired comparison: p-value, interval, sentence, and refused input."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cifar_exp.errors import UserError
from cifar_exp.review import paired
from cifar_exp.review.multiple import holm
from cifar_exp.tracking.store import Store

Log = Callable[..., str]


def answers(both: int, only_a: int, only_b: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Masks of correct predictions of A and B, from the number of images of each kind."""
    counts = (both, only_a, only_b, neither)
    return tuple(np.repeat(correct, counts) for correct in ([True, True, False, False], [True, False, True, False]))  # type: ignore[return-value]


def exact(only_a: int, only_b: int) -> float:
    """Exact p-value of McNemar's test: both tails of a binomial distribution, in integer arithmetic."""
    tosses = only_a + only_b
    tail = sum(math.comb(tosses, k) for k in range(min(only_a, only_b) + 1))
    return float(min(Fraction(1), 2 * Fraction(tail, 2**tosses)))


COUNTS = [(0, 1), (1, 0), (5, 5), (3, 11), (11, 3), (40, 61), (61, 40), (100, 100), (310, 388), (0, 400)]


@pytest.mark.parametrize(("only_a", "only_b"), COUNTS)
def test_the_p_value_is_mcnemar_s(only_a: int, only_b: int) -> None:
    a, b = answers(700, only_a, only_b, 90)
    result = paired.compare(a, b)
    assert result.p_value == pytest.approx(exact(only_a, only_b), rel=1e-9)
    assert result.difference == pytest.approx(b.mean() - a.mean(), rel=1e-12)
    assert (result.only_a, result.only_b, result.images) == (only_a, only_b, len(a))


@pytest.mark.parametrize(
    ("only_a", "only_b", "p_value"),  # statsmodels.stats.contingency_tables.mcnemar, exact=True
    [(3, 12, 0.03515625), (40, 61, 0.046044066929342785), (310, 388, 0.0035328897246741605)],
)
def test_the_p_value_is_that_of_statsmodels(only_a: int, only_b: int, p_value: float) -> None:
    assert paired.compare(*answers(700, only_a, only_b, 90)).p_value == pytest.approx(p_value, rel=1e-12)


@pytest.mark.parametrize(("only_a", "only_b"), COUNTS)
def test_the_interval_is_scipy_s_of_the_pairs_or_its_exact_one_where_that_reaches_further(
    only_a: int, only_b: int
) -> None:
    a, b = answers(700, only_a, only_b, 90)
    student = stats.ttest_rel(b.astype(float), a.astype(float)).confidence_interval(0.95)
    differ = only_a + only_b
    share = stats.binomtest(only_b, differ).proportion_ci(0.95)
    low, high = ((2 * end - 1) * differ / len(a) for end in share)
    expected = (min(low, student.low), max(high, student.high))
    assert paired.compare(a, b).interval == pytest.approx(expected, rel=1e-9)


def test_the_interval_is_without_zero_just_where_the_test_is_significant() -> None:
    for differ in (*range(1, 20), 200):
        for only_a in range(0, differ + 1, 1 + differ // 20):
            result = paired.compare(*answers(200, only_a, differ - only_a, 20))
            low, high = result.interval
            assert result.significant == (low > 0 or high < 0), (only_a, differ)
            assert low <= result.difference <= high


def test_the_interval_covers_the_true_difference_as_often_as_it_says() -> None:
    times, shares = 1000, (0.7, 0.08, 0.12, 0.1)  # of images: both right, only A, only B, neither
    drawn = np.random.default_rng(0).multinomial(1000, shares, times)
    covered = 0
    for counts in drawn.tolist():
        low, high = paired.compare(*answers(*counts)).interval
        covered += low <= 0.04 <= high
    assert 0.94 < covered / times < 0.98


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ((9_000, 0, 0, 1_000), "new and old classify the same images correctly (10,000 images)."),
        (
            (8_000, 400, 400, 1_200),
            "new is as accurate as old (95 % interval of the difference -0.0056 to 0.0056; McNemar p = 1.0000, "
            "10,000 images).",
        ),
        (
            (8_000, 400, 412, 1_188),
            "new is better than old by 0.0012 (95 % interval -0.0045 to 0.0069), not shown to be larger than "
            "chance would make it (McNemar p = 0.6995, 10,000 images).",
        ),
        (
            (8_000, 400, 600, 1_000),
            "new is better than old by 0.0200 (95 % interval 0.0138 to 0.0262), larger than chance would make it "
            "(McNemar p < 0.0001, 10,000 images).",
        ),
        (
            (8_000, 600, 400, 1_000),
            "new is worse than old by 0.0200 (95 % interval 0.0138 to 0.0262), larger than chance would make it "
            "(McNemar p < 0.0001, 10,000 images).",
        ),
        (
            (80, 1, 0, 19),
            "new is worse than old by 0.0100 (95 % interval -0.0098 to 0.0298), not shown to be larger than "
            "chance would make it (McNemar p = 1.0000, 100 images).",
        ),
    ],
    ids=["the same", "equal", "slightly better", "clearly better", "clearly worse", "one image"],
)
def test_the_sentence(counts: tuple[int, int, int, int], words: str) -> None:
    assert paired.compare(*answers(*counts), "old", "new").words == words


@pytest.mark.parametrize(
    ("p_values", "corrected"),  # statsmodels.stats.multitest.multipletests, method "holm"
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.02, 0.02, 0.9], [0.06, 0.06, 0.9]),
        ([0.6, 0.5], [1.0, 1.0]),
        ([0.03], [0.03]),
        ([], []),
    ],
)
def test_p_values_are_corrected_by_holm_s_method(p_values: list[float], corrected: list[float]) -> None:
    assert holm(p_values) == pytest.approx(corrected, rel=1e-12)


def test_holm_rejects_what_its_definition_rejects() -> None:
    """Holm, 1979: go up the sorted p-values, reject while p <= alpha / (m - k), and stop at the first that is not."""
    generator = np.random.default_rng(1)
    for m in range(1, 12):
        p_values, alpha = generator.beta(0.3, 3, size=m), 0.05
        rejected = np.zeros(m, bool)
        for k, at in enumerate(np.argsort(p_values)):
            if p_values[at] > alpha / (m - k):
                break
            rejected[at] = True
        assert (np.array(holm(p_values.tolist())) <= alpha).tolist() == rejected.tolist()


def test_among_many_equal_pairs_one_is_found_different_as_rarely_as_alone() -> None:
    p_values = np.random.default_rng(2).random((4000, 10))  # without any difference, p-values are uniform
    found = np.array([min(holm(row.tolist())) < 0.05 for row in p_values])
    assert (p_values.min(axis=1) < 0.05).mean() > 0.35  # uncorrected: 1 - 0.95 ** 10
    assert 0.035 < found.mean() < 0.065


def test_the_sentence_of_one_of_several_pairs_says_so() -> None:
    tests = paired.corrected(
        [paired.compare(*answers(8_000, 400, 470, 1_130), "old", "new"), paired.compare(*answers(8_000, 9, 9, 1))]
    )
    assert tests[0].words == (
        "new is better than old by 0.0070 (95 % interval 0.0011 to 0.0128 for this pair alone), larger than chance "
        "would make it (McNemar p = 0.0193, corrected for 2 pairs (Holm) p = 0.0385, 10,000 images)."
    )
    tests = paired.corrected([paired.compare(*answers(8_000, 400, 470, 1_130), "old", "new")] * 3)
    assert not tests[0].significant and tests[0].p_value < 0.05
    assert (
        "not shown to be larger than chance would make it (McNemar p = 0.0193, corrected for 3 pairs (Holm) p = "
        in (tests[0].words)
    )
    assert tests[0].swapped().words.startswith("old is worse than new by 0.0070")
    assert paired.corrected(tests[:1])[0].pairs == 3  # a pair alone stays as it is


def test_one_run_is_always_correct_and_the_other_never() -> None:
    result = paired.compare(*answers(0, 0, 20, 0))
    assert (result.difference, result.interval[1], result.significant) == (1.0, 1.0, True)
    assert result.interval[0] == pytest.approx(2 * 0.025 ** (1 / 20) - 1)


def test_the_interval_of_runs_that_never_differ_depends_on_the_number_of_images() -> None:
    assert paired.compare(*answers(50, 0, 0, 10)).interval == pytest.approx((-0.0596, 0.0596), abs=1e-4)


def predictions(labels: list[int], predicted: list[int]) -> pd.DataFrame:
    columns = {"index": range(len(labels)), "label": np.uint8(labels), "predicted": np.uint8(predicted)}
    return pd.DataFrame(columns | {f"p_{name}": np.float32(1 / 3) for name in "abc"})


def file(frame: pd.DataFrame) -> bytes:
    written: bytes = frame.to_parquet(index=False)
    return written


@pytest.fixture
def logged(own_store: Store, tmp_path: Path) -> Log:
    """logged("a", content, digest): log a run with this predictions file and test set digest, and return its id."""

    def log(name: str, content: bytes | None, digest: str | None = None) -> str:
        from mlflow.entities import Dataset, DatasetInput

        client = own_store.client
        run_id: str = client.create_run(own_store.experiment_id, run_name=name).info.run_id
        if content is not None:
            path = tmp_path / "predictions.parquet"
            path.write_bytes(content)
            client.log_artifact(run_id, str(path), "evaluation")
        if digest:
            client.log_inputs(run_id, [DatasetInput(Dataset("digits-test", digest, "code", "{}"))])
        return run_id

    return log


def test_runs_of_a_store_are_compared_by_what_they_predicted(own_store: Store, logged: Log) -> None:
    first = logged("old", file(predictions([0, 1, 2, 2], [0, 0, 2, 1])))
    second = logged("new", file(predictions([0, 1, 2, 2], [0, 1, 2, 0])), "0" * 32)
    third = logged("new", file(predictions([0, 1, 2, 2], [0, 1, 2, 2])), "0" * 32)
    result = paired.compare_runs(own_store, first, second)
    assert (result.a, result.b, result.images, result.only_a, result.only_b) == ("old", "new", 4, 0, 1)
    assert result.difference == 0.25
    assert paired.compare_runs(own_store, second, third).a == f"new ({second[:8]})"


def test_runs_that_were_tested_on_different_images_are_refused(own_store: Store, logged: Log) -> None:
    usual = predictions([0, 1, 2, 2], [0, 1, 2, 2])
    first = logged("first", file(usual), "a" * 32)
    others = {
        "on different images: 4 and 3": logged("fewer", file(usual[:3])),
        "on different images: their label differs in row 1": logged("l", file(predictions([0, 2, 2, 2], [0] * 4))),
        "on different images: their index differs in row 2": logged("i", file(usual.assign(index=[0, 1, 3, 2]))),
        "on different images: SHA-256 aaaaaaaaaaaa... and bbbb": logged("re-encoded", file(usual), "b" * 32),
    }
    for message, other in others.items():
        with pytest.raises(UserError, match=re.escape(message)):
            paired.compare_runs(own_store, first, other)


def test_a_run_without_predictions_or_no_run_is_named(own_store: Store, logged: Log) -> None:
    first, none = logged("first", file(predictions([0], [0]))), logged("none", None)
    with pytest.raises(UserError, match=rf"run {none} \(none\) of sqlite\S+ has no evaluation/predictions.parquet$"):
        paired.compare_runs(own_store, first, none)
    with pytest.raises(UserError, match=f"Run with id={'0' * 32} not found"):
        paired.compare_runs(own_store, first, "0" * 32)
