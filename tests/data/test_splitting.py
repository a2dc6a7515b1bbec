"""Tests of the splits: shares of each class, whole groups, disjoint folds, the same ones each time."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from cifar_exp.data import splitting
from cifar_exp.data.schema import DataConfig
from cifar_exp.errors import UserError

CONFIG = DataConfig("folder", validation="given")
LABELS = np.array(["a", "b"] * 50 + ["b"] * 100)  # 50 of a, 150 of b


def counts(splits: np.ndarray, split: str) -> Counter[str]:
    return Counter(LABELS[splits == split].tolist())


def test_each_class_has_its_share_in_each_split() -> None:
    splits = splitting.assign(LABELS, (), (), CONFIG)
    assert counts(splits, "test") == {"a": 10, "b": 30}
    assert counts(splits, "validation") == {"a": 4, "b": 12}
    assert counts(splits, "training") == {"a": 36, "b": 108}
    assert np.array_equal(splits, splitting.assign(LABELS, (), (), CONFIG))
    assert not np.array_equal(splits, splitting.assign(LABELS, (), (), replace(CONFIG, split_seed=1)))


def test_given_splits_stay_as_they_are() -> None:
    given = ("training",) * 150 + ("validation",) * 20 + ("test",) * 30
    assert splitting.assign(LABELS, given, (), CONFIG).tolist() == list(given)
    drawn = splitting.assign(LABELS, given, (), replace(CONFIG, validation="stratified"))
    assert (drawn == "test").tolist() == [split == "test" for split in given]
    assert (drawn == "validation").sum() == 17
    last = splitting.assign(LABELS, given, (), replace(CONFIG, validation="last"))
    assert np.flatnonzero(last == "validation").tolist() == list(range(153, 170))


def test_no_group_is_in_two_splits() -> None:
    groups = tuple(f"patient {i // 5}" for i in range(200))
    splits = splitting.assign(LABELS, (), groups, CONFIG)
    of_group: dict[str, set[str]] = {}
    for group, split in zip(groups, splits.tolist(), strict=True):
        of_group.setdefault(group, set()).add(split)
    assert all(len(found) == 1 for found in of_group.values())
    assert set(splits) == {"training", "validation", "test"}
    given = ("training",) * 153 + ("test",) * 47
    with pytest.raises(UserError, match="group 'patient 30' is in the"):
        splitting.assign(LABELS, given, groups, CONFIG)


@pytest.mark.parametrize("given", [(), ("training",) * 150 + ("test",) * 50])
def test_folds_are_disjoint_and_cover_all_images(given: tuple[str, ...]) -> None:
    held_out = "validation" if given else "test"
    parts = [splitting.assign(LABELS, given, (), replace(CONFIG, folds=5, fold=fold)) == held_out for fold in range(5)]
    covered = np.sum(parts, axis=0)
    assert covered.tolist() == ([1] * 150 + [0] * 50 if given else [1] * 200)
    with pytest.raises(UserError, match=r"data\.fold: got 5, expected below data\.folds, 5"):
        splitting.assign(LABELS, given, (), replace(CONFIG, folds=5, fold=5))


@pytest.mark.parametrize(
    ("given", "validation"),
    [
        (("training", "validation", "test", "test") * 50, "given"),
        (("training", "training", "test", "test") * 50, "test"),
    ],
)
def test_folds_that_would_not_be_used_are_refused(given: tuple[str, ...], validation: str) -> None:
    config = replace(CONFIG, validation=validation, folds=5)
    with pytest.raises(UserError, match=rf"^data\.folds=5: .* \(data\.validation={validation}\), so no fold is used"):
        splitting.assign(LABELS, given, (), config)
    without_test = tuple(split if split != "test" else "training" for split in given)
    folds = [splitting.assign(LABELS, without_test, (), replace(config, fold=fold)) == "test" for fold in range(5)]
    divided = [split != "validation" or validation == "test" for split in without_test]
    assert np.sum(folds, axis=0).tolist() == divided


def test_too_few_images_or_groups_are_refused_by_name() -> None:
    labels = np.array(["a"] * 20 + ["lynx"])
    with pytest.raises(UserError, match="one image only of class lynx"):
        splitting.assign(labels, (), (), CONFIG)
    for given, groups, settings, says in (
        ((), (), {"folds": 3}, r"data\.folds=3: 3 parts of 1 images of class lynx, expected at least as many"),
        (("test",) * 21, (), {"folds": 5}, r"data\.folds=5: 5 parts of 0 images that are not test images"),
        ((), ("one",) * 21, {}, r"data\.test_share=0\.2: 5 parts of 1 groups, expected at least as many as parts"),
        ((), tuple("abcdefghijklmnopqrstu"), {"folds": 21}, r"data\.folds=21: 21 parts of 20 images of the largest"),
        ((), ("one",) * 21, {"test_share": 0.6}, r"data\.test_share=0\.6: expected at most 0\.5 with data\.group"),
    ):
        with pytest.raises(UserError, match=f"^{says}"):
            splitting.assign(labels, given, groups, replace(CONFIG, **settings))
