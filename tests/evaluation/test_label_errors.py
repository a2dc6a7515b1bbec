"""Tests of confident learning: a case that can be counted by hand, and planted errors."""

from __future__ import annotations

import numpy as np
import pytest

from cifar_exp.errors import UserError
from cifar_exp.evaluation import label_errors

pytest.importorskip("cleanlab", reason="needs the extra mislabeled")


def test_a_case_that_can_be_counted_by_hand() -> None:
    """The mean confidence in each class is the threshold; what another class exceeds is off the joint's diagonal."""
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    of_class_0 = np.array([0.9, 0.9, 0.8, 0.1, 0.1, 0.2, 0.1, 0.2])
    # Thresholds: 0.675 for class 0, 0.85 for class 1. Image 3 has 0.9 for class 1: one label of class 0 is wrong.
    scores, wrong = label_errors.find(labels, np.stack([of_class_0, 1 - of_class_0], axis=1))
    assert np.allclose(scores, [0.9, 0.9, 0.8, 0.1, 0.9, 0.8, 0.9, 0.8])
    assert wrong.tolist() == [False, False, False, True, False, False, False, False]


def test_planted_errors_are_found() -> None:
    generator = np.random.default_rng(0)
    true = generator.integers(0, 10, 4_000)
    logits = generator.normal(0, 1, (4_000, 10))
    logits[np.arange(4_000), true] += 5
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    planted = generator.choice(4_000, 200, replace=False)
    labels = true.copy()
    labels[planted] = (true[planted] + generator.integers(1, 10, 200)) % 10
    scores, wrong = label_errors.find(labels, probabilities)
    worst = np.argsort(scores)[:200]
    assert np.isin(worst, planted).mean() > 0.95
    assert np.isin(np.flatnonzero(wrong), planted).mean() > 0.95 and wrong.sum() == pytest.approx(200, abs=20)


def test_labels_of_one_class_are_refused() -> None:
    with pytest.raises(UserError, match="all 3 labels are of one class"):
        label_errors.find(np.zeros(3, np.uint8), np.full((3, 2), 0.5))
