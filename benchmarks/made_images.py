"""Image files that the benchmark of the data makes on the spot, and the same images as arrays in memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from cifar_exp.data import datasets
from cifar_exp.data.schema import DataConfig
from cifar_exp.data.splits import Description, Split, Splits

CLASSES = tuple(f"class{label}" for label in range(10))
PARTS = ("training", "validation", "test")


def write(folder: Path, count: int, side: int, extension: str = "jpg") -> None:
    """Write crops of scikit-learn's two sample photos, each file another one, to a folder for each class.

    Args:
        folder: for `<class>/<number>.<extension>`.
        count: of the images.
        side: height and width of each, in pixels, at most 400.
        extension: `"jpg"` or `"png"`.
    """
    for name in CLASSES:
        (folder / name).mkdir(parents=True, exist_ok=True)
    starts = range(0, count, 500)
    with ProcessPoolExecutor() as pool:
        write_some = partial(_write_some, folder, side, extension)
        list(pool.map(write_some, (range(start, min(start + 500, count)) for start in starts)))


@cache
def _photos() -> Sequence[npt.NDArray[np.uint8]]:
    from sklearn.datasets import load_sample_images

    photos: list[npt.NDArray[np.uint8]] = load_sample_images().images
    return photos


def _write_some(folder: Path, side: int, extension: str, numbers: range) -> None:
    for number in numbers:
        generator = np.random.default_rng(number)
        photo = _photos()[number % 2]
        top, left = (int(generator.integers(0, extent - side + 1)) for extent in photo.shape[:2])
        crop = photo[top : top + side, left : left + side] // 2 + generator.integers(0, 128, 3, np.uint8)
        path = folder / CLASSES[number % len(CLASSES)] / f"{number:07}.{extension}"
        Image.fromarray(crop).save(path, quality=90, compress_level=1)


def installed_arrays(images: DataConfig, folder: Path) -> None:
    """Make a package that adds `data=arrays`: the splits of a data set of files, in memory.

    Args:
        images: the data set of files.
        folder: for the package; in `PYTHONPATH` it is installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    splits = datasets.load(images)
    for name in PARTS:
        split: Split = getattr(splits, name)
        _copy(split, folder / f"{name}.npy")
        np.save(folder / f"{name}_labels.npy", split.labels)
    (folder / "arrays.py").write_text("from made_images import describe_arrays as describe, load_arrays as load\n")
    installed = folder / "arrays-1.0.dist-info"
    installed.mkdir(exist_ok=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: arrays\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[cifar_exp.datasets]\narrays = arrays\n")


def _copy(split: Split, file: Path) -> None:
    """Write the images of a split to a file, without all of them in memory."""
    copy = np.lib.format.open_memmap(file, "w+", np.uint8, split.images.shape)
    for start in range(0, len(split), 1000):
        copy[start : start + 1000] = split.images[start : start + 1000]
    copy.flush()


def describe_arrays(config: DataConfig) -> Description:
    """As `data=arrays` describes itself; `data.dir` is its folder."""
    assert config.dir is not None
    shape = np.load(Path(config.dir) / "training.npy", mmap_mode="r").shape
    return Description((shape[1], shape[2], shape[3]), CLASSES, shape[0])


def load_arrays(config: DataConfig) -> Splits:
    """The splits of `data=arrays`, read into memory."""
    assert config.dir is not None
    folder = Path(config.dir)
    training, validation, test = (
        Split(np.load(folder / f"{name}.npy"), np.load(folder / f"{name}_labels.npy")) for name in PARTS
    )
    return Splits(training, validation, test, CLASSES, os.fspath(folder))
