"""The settings of the data: which images train, validate and test."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cifar_exp.setting import MISSING, setting

DATA_SETS = ("cifar10", "cifar100", "digits", "fashion_mnist", "mnist")

ImageShape = tuple[int, int, int]  # height, width, channels


@dataclass(frozen=True)
class DataConfig:
    """Which images train, validate and test."""

    name: str = setting(
        MISSING,
        f"Name of the data set: {', '.join(DATA_SETS)}, or that of an installed package. Choose it with `data=`.",
    )
    dir: str | None = setting(
        None, "Folder of the official files. Default: `CIFAR_EXP_DATA`, else a folder in your cache folder."
    )
    verify: str = setting(
        "md5",
        "`md5`: refuse files that differ from the official release. `size`: accept files of the right size; the run "
        "records that they are not verified.",
        choices=("md5", "size"),
    )
    labels: str | None = setting(
        None,
        "Labels of CIFAR-100. `fine`: 100 classes. `coarse`: 20. `null`: the data set has one kind of labels.",
        choices=("fine", "coarse"),
    )
    validation: str = setting(
        "stratified",
        "Validation images. `stratified`: a share of each class of the training images. `last`: the last share of the "
        "training images. `test`: the test images; the run gets a warning tag.",
        choices=("stratified", "last", "test"),
    )
    validation_share: float = setting(
        0.1, "Share of the training images that validates, unless the test images do.", above=0, below=1
    )
    split_seed: int = setting(
        0, "Seed of the stratified split. It is not `seed`, so runs with different seeds share a split.", at_least=0
    )
    train_images: int | None = setting(
        None,
        "Number of training images, a multiple of the number of classes: the first of each class. `null`: all.",
        at_least=1,
    )
    class_weights: Any = field(
        default="none",
        hash=False,  # a mapping has none
        metadata={
            "doc": "Weight of each class in the training loss. `none`: all weigh 1. `balanced`: the weight falls with "
            "the number of training images of the class. Or class names with their weights; other classes weigh 1. "
            "Scores are not weighted."
        },
    )
    image_shape: tuple[int, int, int] = setting(
        MISSING, "Height, width and channels of an image. The data says it; models refer to it."
    )
    classes: int = setting(MISSING, "Number of classes. The data says it; models refer to it.", at_least=2)
