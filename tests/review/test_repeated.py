"""Tests of means and intervals over folds and seeds, with numbers computed by hand."""

from __future__ import annotations

import re

import pytest

from cifar_exp.review import repeated, report
from cifar_exp.review.run_record import RunRecord

ACCURACIES = (0.80, 0.82, 0.79, 0.85, 0.81)
# Mean 0.814, standard deviation sqrt(0.00212 / 4); Student's t of 0.975 with 4 degrees of freedom is 2.776445.
WORDS = "mean test accuracy 0.8140 over 5 {} (95 % interval 0.7854 to 0.8426, t distribution)"


def record(accuracy: float, model: str = "bn", folds: int | None = 5, fold: int = 0, seed: int = 0) -> RunRecord:
    name = f"{model}-fold={fold}" if seed == 0 else f"{model}-seed={seed}"
    params = {"model.name": model, "data.folds": str(folds), "data.fold": str(fold), "seed": str(seed)}
    metrics = {"test/accuracy": accuracy, "test/loss": 1 - accuracy}
    return RunRecord(f"{name}-{accuracy}", name, "FINISHED", fold, 10, params, metrics, {}, None)


FOLDS = [record(accuracy, fold=fold) for fold, accuracy in enumerate(ACCURACIES)]


def test_over_folds_mean_and_interval_are_those_of_the_t_distribution() -> None:
    assert repeated.sentences(FOLDS) == [f"bn: {WORDS.format('folds')}"]
    (row,) = repeated.grouped(FOLDS, "data.fold").frame.to_dict("records")
    assert (row["name"], row["n"], row["data.fold"]) == ("bn", 5, "0 1 2 3 4")
    assert (row["mean"], row["std"]) == pytest.approx((0.814, 0.0230217), rel=1e-5)
    assert (row["low"], row["high"]) == pytest.approx((0.814 - 0.0285851, 0.814 + 0.0285851), rel=1e-5)


def test_only_what_differs_in_the_fold_alone_is_one_group() -> None:
    other = [record(accuracy - 0.5, "dense", fold=fold) for fold, accuracy in enumerate(ACCURACIES)]
    assert [words.partition(":")[0] for words in repeated.sentences([*other, *FOLDS])] == ["bn", "dense"]
    parts_of_two = [record(0.9, folds=2), record(0.8, folds=2, fold=1)]
    assert len(repeated.sentences([*FOLDS, *parts_of_two])) == 2
    without_folds = [record(0.9, folds=None, fold=fold) for fold in range(2)]
    assert repeated.sentences([*FOLDS[:1], record(0.1, "dense", fold=1), *without_folds]) == []


def test_seeds_and_folds_are_told_apart() -> None:
    seeds = [record(accuracy, folds=None, seed=seed) for seed, accuracy in enumerate(ACCURACIES, 1)]
    assert repeated.sentences(seeds) == [f"bn: {WORDS.format('seeds')}"]
    both = [record(0.8 + 0.01 * fold + 0.1 * seed, fold=fold, seed=seed) for fold in range(3) for seed in range(2)]
    words = repeated.sentences(both)
    assert [re.findall(r"over (.*?) \(", one) for one in words] == [["3 folds"]] * 2 + [["2 seeds"]] * 3
    assert repeated.sentences([record(0.7), record(0.8)]) == []  # the same run twice


def test_the_first_ten_groups_are_told_in_words() -> None:
    runs = [record(0.5 + fold / 10, f"model{model:02}", fold=fold) for model in range(13) for fold in range(2)]
    words = repeated.sentences(runs)
    assert len(words) == 11 and words[-1] == "and 3 more over folds: --group data.fold"


def test_the_report_has_a_table_over_folds_and_none_over_single_runs() -> None:
    tables = report._repeated([*FOLDS, record(0.1, "dense")], ())
    assert [table["id"] for table in tables] == ["folds"]
    assert [row[0] for row in tables[0]["table"]["rows"]] == ["bn"]
    assert "0.7854 to 0.8426" in tables[0]["table"]["rows"][0]
    assert report._repeated([record(0.1, "dense"), record(0.2)], ()) == []
