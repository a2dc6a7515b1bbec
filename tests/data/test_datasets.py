"""Tests of loading and splitting the data sets: the split depends on the config only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from cifar_exp.data import cifar10, datasets
from cifar_exp.data.schema import DataConfig
from cifar_exp.data.splits import Images, Split, Splits
from cifar_exp.errors import UserError

DIGITS = DataConfig("digits")


@pytest.fixture(scope="module")
def digits() -> Splits:
    return datasets.load(DIGITS)


@pytest.fixture(scope="module")
def full(synthetic_cifar10: Path) -> Splits:
    return datasets.load(DataConfig("cifar10", dir=str(synthetic_cifar10), verify="size"))


def rows(images: Images) -> set[bytes]:
    return {image.tobytes() for image in images}


def counts(split: Split) -> list[int]:
    return [int(count) for count in np.bincount(split.labels, minlength=10)]


def digits_with_labels(labels: list[int]) -> Callable[[], tuple[Split, Split]]:
    """Replacement for `_digits`: training images with these labels, whose first pixel holds their index."""
    images = np.zeros((len(labels), 32, 32, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(len(labels)) % 256
    images[:, 0, 0, 1] = np.arange(len(labels)) // 256
    split = Split(images, np.array(labels, np.uint8))
    return lambda: (split, split.take(np.arange(3)))


def indices(split: Split) -> list[int]:
    return [int(pixel[0]) + 256 * int(pixel[1]) for pixel in split.images[:, 0, 0]]


def test_digits_are_uint8_images_of_ten_classes_in_full_range(digits: Splits) -> None:
    for split, size in ((digits.training, 1293), (digits.validation, 144), (digits.test, 360)):
        assert (split.images.shape, split.images.dtype) == ((size, 32, 32, 3), np.uint8)
        assert (split.labels.shape, split.labels.dtype) == ((size,), np.uint8)
        assert len(split) == size
        assert (split.images.min(), split.images.max()) == (0, 255)
        assert set(split.labels) == set(range(10))
    assert digits.classes == tuple("0123456789")
    assert "load_digits" in digits.source


def test_digits_are_grey_and_enlarged_four_times(digits: Splits) -> None:
    images = digits.training.images
    assert np.array_equal(images[..., 0], images[..., 1])
    assert np.array_equal(images[..., 0], images[..., 2])
    assert np.array_equal(images[:, ::4, ::4].repeat(4, axis=1).repeat(4, axis=2), images)


def test_splits_of_the_digits_are_disjoint(digits: Splits) -> None:
    training, validation, test = (rows(split.images) for split in (digits.training, digits.validation, digits.test))
    assert len(training | validation | test) == len(training) + len(validation) + len(test)


def test_a_stratified_split_keeps_class_shares(digits: Splits) -> None:
    for in_training, in_validation in zip(counts(digits.training), counts(digits.validation), strict=True):
        assert in_validation / (in_training + in_validation) == pytest.approx(0.1, abs=0.006)


def test_a_stratified_split_keeps_the_order_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "_digits", digits_with_labels([i % 10 for i in range(500)]))
    splits = datasets.load(replace(DIGITS, validation_share=0.2))
    training, validation = indices(splits.training), indices(splits.validation)
    assert training == sorted(training)
    assert validation == sorted(validation)
    assert sorted(training + validation) == list(range(500))
    assert counts(splits.validation) == [10] * 10
    assert validation != list(range(validation[0], validation[0] + 100))


def test_the_split_follows_its_own_seed_only(digits: Splits) -> None:
    keras.utils.set_random_seed(123)
    assert datasets.load(DIGITS).sha256 == digits.sha256
    other = datasets.load(replace(DIGITS, split_seed=1))
    assert other.validation.sha256 != digits.validation.sha256
    assert other.test.sha256 == digits.test.sha256


@pytest.mark.parametrize(("size", "share"), [(500, 0.1), (503, 0.1), (1000, 0.3), (77, 0.2), (500, 0.15)])
def test_the_last_share_is_split_as_keras_splits_it(size: int, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    from keras.src.trainers.data_adapters.array_slicing import train_validation_split

    monkeypatch.setattr(datasets, "_digits", digits_with_labels([i % 10 for i in range(size)]))
    splits = datasets.load(replace(DIGITS, validation="last", validation_share=share))
    (trained,), (validated,) = train_validation_split((np.arange(size),), share)
    assert indices(splits.training) == trained.tolist()
    assert indices(splits.validation) == validated.tolist()


def test_validation_on_the_test_set_leaves_all_training_images(digits: Splits) -> None:
    splits = datasets.load(replace(DIGITS, validation="test"))
    assert splits.validation.sha256 == splits.test.sha256 == digits.test.sha256
    assert len(splits.training) == 1437


def test_a_fold_of_a_data_set_with_test_images_validates_whatever_else_would() -> None:
    everything = datasets.load(replace(DIGITS, validation="test")).training.numbers
    parts = [datasets.load(replace(DIGITS, validation="test", folds=5, fold=fold)).validation for fold in range(5)]
    numbers = [part.numbers for part in parts if part.numbers is not None]
    assert everything is not None and np.array_equal(np.sort(np.concatenate(numbers)), everything)


def test_fewer_training_images_are_the_first_of_each_class_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = [9, 9, 9, *range(10), *range(9, -1, -1), 0, 1, 2, *range(10)]
    monkeypatch.setattr(datasets, "_digits", digits_with_labels(labels))
    splits = datasets.load(replace(DIGITS, validation="test", train_images=20))
    expected = sorted(i for label in range(10) for i in np.flatnonzero(np.array(labels) == label)[:2])
    assert indices(splits.training) == expected
    assert counts(splits.training) == [2] * 10


def test_fewer_training_images_leave_validation_and_test_as_they_are(digits: Splits) -> None:
    splits = datasets.load(replace(DIGITS, train_images=100))
    assert counts(splits.training) == [10] * 10
    assert splits.validation.sha256 == digits.validation.sha256
    assert splits.test.sha256 == digits.test.sha256
    assert rows(splits.training.images) <= rows(digits.training.images)


def test_too_many_training_images_are_refused_with_the_maximum() -> None:
    with pytest.raises(
        UserError, match=r"^data.train_images=2000: a class has only (\d+) .*take at most (\d+)$"
    ) as refused:
        datasets.load(replace(DIGITS, train_images=2000))
    most = int(str(refused.value).rpartition(" ")[2])
    assert len(datasets.load(replace(DIGITS, train_images=most)).training) == most


def test_a_share_too_small_for_every_class_is_refused() -> None:
    with pytest.raises(UserError, match=r"^data.validation_share=0.001 of 1437 images: "):
        datasets.load(replace(DIGITS, validation_share=0.001))


@pytest.mark.parametrize("share", [0.9999, 1e-17])
def test_a_last_share_that_leaves_a_split_without_images_is_refused(share: float) -> None:
    with pytest.raises(UserError, match=f"^data.validation_share={share} of 1437 images"):
        datasets.load(replace(DIGITS, validation="last", validation_share=share))


def test_sha256_changes_with_one_pixel_and_with_one_label(digits: Splits) -> None:
    for field in ("images", "labels"):
        changed = getattr(digits.test, field).copy()
        changed.flat[7] ^= 1
        other = replace(digits.test, **{field: changed})
        assert other.sha256 != digits.test.sha256
        assert replace(digits, test=other).sha256 != digits.sha256


def test_sha256_does_not_depend_on_the_memory_layout(digits: Splits) -> None:
    strided = Split(np.asfortranarray(digits.test.images), digits.test.labels)
    assert strided.sha256 == digits.test.sha256


def test_sha256_tells_which_split_an_image_is_in(digits: Splits) -> None:
    swapped = replace(digits, training=digits.validation, validation=digits.training)
    assert swapped.sha256 != digits.sha256


def test_cifar10_is_split_into_45000_5000_and_10000(full: Splits) -> None:
    assert [len(split) for split in (full.training, full.validation, full.test)] == [45_000, 5_000, 10_000]
    assert counts(full.validation) == [500] * 10
    assert full.classes == cifar10.CLASS_NAMES
    assert "not the official release" in full.source


def test_test_images_of_cifar10_are_those_of_the_test_file(full: Splits, synthetic_cifar10: Path) -> None:
    images, labels = cifar10.read(synthetic_cifar10 / cifar10.FOLDER, cifar10.TEST_FILES)
    assert np.array_equal(full.test.images, images)
    assert np.array_equal(full.test.labels, labels)


def test_images_that_cannot_be_downloaded_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar10, "ARCHIVE_URL", "http://127.0.0.1:9/none")
    with pytest.raises(UserError, match="CIFAR-10 is not in"):
        datasets.load(DataConfig("cifar10", dir=str(tmp_path / "new")))


@pytest.mark.parametrize("name", ["cifar10", "mnist"])
@pytest.mark.parametrize(
    ("folder", "says"), [("x" * 300, "File name too long"), ("~nobody-of-this-name", "home folder")]
)
def test_a_folder_that_cannot_be_read_is_refused_in_one_line(name: str, folder: str, says: str) -> None:
    for load in (datasets.load, datasets.test_images):
        with pytest.raises(UserError, match=rf"^data.*{says}.*$"):
            load(DataConfig(name, dir=folder))


def test_the_jobs_of_a_sweep_share_their_images() -> None:
    assert datasets.load(DIGITS) is datasets.load(DIGITS)
