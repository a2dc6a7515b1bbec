"""The data sets with an official release: their description and how their files are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cifar_exp.data import cifar10, cifar100, idx
from cifar_exp.data.official import Release
from cifar_exp.data.schema import DataConfig, ImageShape

Arrays = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]  # images (N, H, W, C) and labels (N,)


@dataclass(frozen=True)
class OfficialDataSet:
    """A data set with an official release.

    Attributes:
        release: the files.
        image_shape: (height, width, channels) of each image.
        images: number of images that train and validate.
        class_names: config -> names in the order of the labels.
        read: folder of the files, config, whether to read the test images instead of the training images -> arrays.
    """

    release: Callable[[], Release]
    image_shape: ImageShape
    images: int
    class_names: Callable[[DataConfig], tuple[str, ...]]
    read: Callable[[Path, DataConfig, bool], Arrays]


def _cifar10(folder: Path, config: DataConfig, test: bool) -> Arrays:
    return cifar10.read(folder, cifar10.TEST_FILES if test else cifar10.TRAINING_FILES)


def _cifar100(folder: Path, config: DataConfig, test: bool) -> Arrays:
    name = cifar100.TEST_FILE if test else cifar100.TRAINING_FILE
    return cifar100.read(folder, name, config.labels or "fine")


def _idx(folder: Path, config: DataConfig, test: bool) -> Arrays:
    return idx.read(folder, idx.TEST if test else idx.TRAINING, 10)


OFFICIAL = {
    "cifar10": OfficialDataSet(
        cifar10.release, cifar10.IMAGE_SHAPE, cifar10.TRAINING_IMAGES, lambda config: cifar10.CLASS_NAMES, _cifar10
    ),
    "cifar100": OfficialDataSet(
        cifar100.release,
        cifar100.IMAGE_SHAPE,
        cifar100.TRAINING_IMAGES,
        lambda config: cifar100.CLASS_NAMES[config.labels or "fine"],
        _cifar100,
    ),
    "mnist": OfficialDataSet(
        lambda: idx.MNIST, idx.IMAGE_SHAPE, idx.TRAINING_IMAGES, lambda config: idx.DIGIT_NAMES, _idx
    ),
    "fashion_mnist": OfficialDataSet(
        lambda: idx.FASHION_MNIST, idx.IMAGE_SHAPE, idx.TRAINING_IMAGES, lambda config: idx.CLOTHES, _idx
    ),
}
