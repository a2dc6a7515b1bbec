"""Tests of class weights: those of scikit-learn, or those of the config."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cifar_exp.data import datasets
from cifar_exp.data.schema import DataConfig
from cifar_exp.data.weights import class_weights
from cifar_exp.errors import UserError

LABELS = np.array([0] * 6 + [1] * 3 + [2] * 3, np.uint8)
NAMES = ("cat", "dog", "ox", "yak")


def test_balanced_classes_have_the_same_sum_and_a_mean_of_one() -> None:
    weights = class_weights("balanced", LABELS, NAMES)
    assert weights is not None and weights.dtype == np.float32
    assert weights.tolist() == pytest.approx([12 / 18, 12 / 9, 12 / 9, 1])
    assert weights[LABELS].mean() == pytest.approx(1)


def test_classes_without_a_weight_weigh_one() -> None:
    weights = class_weights({"dog": 3, "ox": 0.5}, LABELS, NAMES)
    assert weights is not None and weights.tolist() == [1, 3, 0.5, 1]
    assert class_weights("none", LABELS, NAMES) is None


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("balansed", "got 'balansed', expected none, balanced or {class: weight}"),
        ({"dogs": 2}, "no class 'dogs'; did you mean 'dog'? (classes: cat, dog, ox, yak)"),
        ({"dog": -1}, "data.class_weights.dog: got -1, expected a number of at least 0"),
        ({"dog": float("nan")}, "data.class_weights.dog: got nan"),
        ({"dog": "much"}, "data.class_weights.dog: got 'much'"),
        ({"cat": 0, "dog": 0, "ox": 0}, "got 0 for every class"),
    ],
)
def test_a_setting_that_is_none_of_these_is_refused(setting: Any, said: str) -> None:
    with pytest.raises(UserError) as refused:
        class_weights(setting, LABELS, NAMES)
    assert said in str(refused.value)


def test_a_data_set_refuses_a_weight_of_a_class_that_it_has_not() -> None:
    with pytest.raises(UserError, match=r"^data.class_weights: no class '10'"):
        datasets.load(DataConfig("digits", class_weights={10: 2.0}))
