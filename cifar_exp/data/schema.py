"""The settings of the data: which images train, validate and test."""

from __future__ import annotations

from dataclasses import dataclass

from cifar_exp.setting import MISSING, setting

IMAGE_SHAPE = (32, 32, 3)
CLASSES = 10


@dataclass(frozen=True)
class DataConfig:
    """Which images train, validate and test."""

    name: str = setting(MISSING, "Name of the data set. Choose it with `data=`.", choices=("cifar10", "digits"))
    dir: str | None = setting(
        None, "Folder of the CIFAR-10 files. Default: `CIFAR_EXP_DATA`, else a folder in your cache folder."
    )
    verify: str = setting(
        "md5",
        "`md5`: refuse files that differ from the official release. `size`: accept files of the right size; the run "
        "records that they are not verified.",
        choices=("md5", "size"),
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
        None, "Number of training images, a multiple of 10: the first of each class. `null`: all.", at_least=CLASSES
    )
