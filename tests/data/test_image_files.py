"""Tests of data=folder, csv and parquet from files to splits: the same images whichever way they are stored."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from cifar_exp.data import datasets, listing
from cifar_exp.data.mapped import MappedImages
from cifar_exp.data.schema import DataConfig
from cifar_exp.data.splits import Splits
from cifar_exp.errors import UserError

COUNT = 60
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, 6, 8, 3), np.uint8)
CLASSES = ("cat", "dog", "emu")
LONG, NOBODY = "x" * 300, "~nobody-of-this-name/x"


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CIFAR_EXP_CACHE", str(tmp_path / "cache"))
    yield
    datasets.forget()


def label(index: int) -> str:
    return CLASSES[index % 3]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for i, pixels in enumerate(PIXELS):
        path = tmp_path / "photos" / label(i) / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return tmp_path / "photos"


@pytest.fixture
def folder(photos: Path) -> DataConfig:
    return DataConfig("folder", dir=str(photos), validation="given")


def load(config: DataConfig) -> Splits:
    datasets.forget()
    return datasets.load(config)


def refusal(config: DataConfig) -> str:
    with pytest.raises(UserError) as refused:
        load(config)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_folder_gives_its_images_labels_and_splits(folder: DataConfig) -> None:
    description = datasets.describe(folder)
    assert (description.image_shape, description.class_names) == ((6, 8, 3), CLASSES)
    splits = load(folder)
    assert splits.files is not None
    assert [len(splits.training), len(splits.validation), len(splits.test)] == [43, 5, 12]
    for name in ("training", "validation", "test"):
        part = getattr(splits, name)
        numbers = [i for i, split in enumerate(splits.files.splits) if split == name]
        assert np.array_equal(part.images, PIXELS[numbers])
        assert part.labels.tolist() == [i % 3 for i in numbers]
        assert part.labels.dtype == np.uint8


def test_csv_and_parquet_give_the_same_as_the_folder(folder: DataConfig, photos: Path, tmp_path: Path) -> None:
    expected = load(folder)
    rows = [f"{label(i)}/{i:02},{label(i)}" for i in range(COUNT)]
    (tmp_path / "labels.csv").write_text("\n".join(["id,label", *rows]))
    files = [(photos / label(i) / f"{i:02}.png").read_bytes() for i in range(COUNT)]
    labels = [label(i) for i in range(COUNT)]
    table = pyarrow.table({"image": files, "array": PIXELS.tolist(), "label": labels})
    pyarrow.parquet.write_table(table, tmp_path / "train.parquet", row_group_size=25)
    parquet = DataConfig("parquet", file=str(tmp_path / "train.parquet"), validation="given")
    for config in (
        DataConfig("csv", file=str(tmp_path / "labels.csv"), dir=str(photos), validation="given"),
        replace(parquet, image_column="image"),
        replace(parquet, image_column="array"),
    ):
        assert load(config).sha256 == expected.sha256


def test_images_larger_than_memory_stay_in_their_file(folder: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = load(folder)
    monkeypatch.setattr(datasets, "_IN_MEMORY", 0)
    mapped = load(folder)
    for name in ("training", "validation", "test"):
        part, in_memory = getattr(mapped, name), getattr(expected, name)
        assert isinstance(part.images, MappedImages)
        order = np.random.default_rng(1).permutation(len(part))
        assert np.array_equal(part.take(order).images[2:5], in_memory.take(order).images[2:5])
        assert np.array_equal(part.images, in_memory.images)
        assert part.images.shape == in_memory.images.shape
    assert mapped.sha256 == load(folder).sha256
    assert mapped.training.sha256 != mapped.training.take(np.arange(40)).sha256


def test_a_folder_is_listed_once_for_its_description_and_once_for_its_images(
    folder: DataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed, list_folder = [], listing.list_folder
    monkeypatch.setattr(listing, "list_folder", lambda root: listed.append(root) or list_folder(root))
    description = datasets.describe(folder)
    composed = replace(folder, image_shape=description.image_shape, classes=len(description.class_names))
    assert datasets.describe(composed) is description
    datasets.load(composed)
    assert len(listed) == 2


def test_classes_that_change_between_description_and_images_are_refused(folder: DataConfig, photos: Path) -> None:
    assert datasets.describe(folder).class_names == CLASSES
    for path in (photos / "emu").iterdir():
        path.unlink()
    (photos / "emu").rmdir()
    with pytest.raises(UserError, match="got the classes cat, dog, expected those of its description: cat, dog, emu"):
        datasets.load(folder)
    datasets.forget()
    assert datasets.load(folder).classes == ("cat", "dog")


def test_sizes_are_refused_unless_all_are_the_same_or_one_is_chosen(folder: DataConfig, photos: Path) -> None:
    Image.new("RGB", (20, 10)).save(photos / "dog" / "99.png")
    assert "dog/99.png (20 x 10 pixels, the first image has 8 x 6 pixels); data.size=[HEIGHT,WIDTH]" in refusal(folder)
    sized = DataConfig("folder", dir=str(photos), validation="given", size=(4, 4), color_mode="grayscale")
    assert load(sized).training.images.shape[1:] == (4, 4, 1)
    for size in ((0, 4), (4,), ()):
        assert f"data.size: got {list(size)}, expected [height, width]" in refusal(replace(folder, size=size))


def test_bad_images_are_refused_by_name_or_left_out(
    folder: DataConfig, photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for i in range(0, 36, 3):
        (photos / "cat" / f"{i:02}.png").write_text("text")
    message = refusal(folder)
    assert "12 of 60 images cannot be used: cat/00.png (not an image in PNG" in message
    assert "and 2 more; data.bad_images=skip leaves them out" in message
    with caplog.at_level(logging.WARNING, "cifar_exp"):
        splits = load(replace(folder, bad_images="skip"))
    assert "cat/33.png" in caplog.text  # all of them
    assert len(splits.training) + len(splits.validation) + len(splits.test) == 48
    for path in (photos / "cat").iterdir():
        path.write_text("text")
    assert "no image of class cat" in refusal(replace(folder, bad_images="skip"))


def test_a_pipe_is_a_bad_image(folder: DataConfig, photos: Path) -> None:
    os.mkfifo(photos / "cat" / "pipe.png")
    assert "cat/pipe.png (not a regular file)" in refusal(folder)


def test_equal_images_in_two_splits_are_refused_by_name(
    folder: DataConfig, photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = load(folder).files
    assert files is not None
    trained, tested = (next(p for p, s in zip(files.paths, files.splits, strict=True) if s == split)
                       for split in ("training", "test"))  # fmt: skip
    (photos / tested).write_bytes((photos / trained).read_bytes())
    message = refusal(folder)
    assert "1 image in several splits" in message
    assert f"{trained} (training)" in message and f"{tested} (test)" in message
    with caplog.at_level(logging.WARNING, "cifar_exp"):
        load(replace(folder, duplicates="allow"))
    assert f"{tested} (test)" in caplog.text


@pytest.mark.parametrize(
    ("pixels", "says"),
    [
        (PIXELS / 255, "pixels are not whole numbers in 0..255"),
        (PIXELS.astype(int) * 2, "pixels are not whole numbers in 0..255"),
        (PIXELS.reshape(COUNT, -1), "pixels of shape [144], expected [height, width] or [height, width, channels]"),
        (PIXELS.transpose(0, 3, 1, 2), "pixels of shape [3, 6, 8], expected [height, width]"),
    ],
)
def test_numbers_in_a_parquet_file_that_are_no_pixels_are_refused(
    tmp_path: Path, pixels: np.ndarray, says: str
) -> None:
    file = tmp_path / "train.parquet"
    table = pyarrow.table({"image": pixels.tolist(), "label": [label(i) for i in range(COUNT)]})
    pyarrow.parquet.write_table(table, file)
    for size in (None, (6, 8)):
        assert says in refusal(DataConfig("parquet", file=str(file), size=size))


def test_whole_numbers_are_pixels_whatever_their_type(tmp_path: Path) -> None:
    table = {"image": PIXELS.astype(float).tolist(), "label": [label(i) for i in range(COUNT)]}
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "train.parquet")
    splits = load(DataConfig("parquet", file=str(tmp_path / "train.parquet"), validation="test"))
    assert splits.files is not None
    assert np.array_equal(splits.test.images, PIXELS[[split == "test" for split in splits.files.splits]])


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (DataConfig("folder"), "data.dir: data=folder needs the folder of the images: data.dir=PATH"),
        (DataConfig("csv"), "data.file: data=csv needs the csv file: data.file=PATH"),
        (DataConfig("folder", dir="/nowhere"), "/nowhere: No such file or directory"),
        (DataConfig("parquet", file="/nowhere"), "data.file=/nowhere"),
        (DataConfig("folder", dir=LONG), f"data.dir: {LONG}: File name too long"),
        (DataConfig("csv", file=LONG), f"data.file={LONG}: File name too long: '{LONG}', expected a CSV file"),
        (DataConfig("folder", dir=NOBODY), f"data.dir={NOBODY}: there is no home folder of this name"),
        (DataConfig("parquet", file=NOBODY), f"data.file={NOBODY}: there is no home folder of this name"),
    ],
)
def test_what_is_missing_is_named(config: DataConfig, says: str) -> None:
    assert says in refusal(config)


def test_the_assignment_is_stored_as_a_table(folder: DataConfig) -> None:
    files = load(folder).files
    assert files is not None
    table = pyarrow.parquet.read_table(pyarrow.BufferReader(files.to_parquet()))
    assert table.column_names == ["path", "label", "split"]
    assert table.to_pylist()[1] == {"path": "dog/01.png", "label": "dog", "split": files.splits[1]}
