"""The settings of the data: which images train, validate and test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cifar_exp.errors import UserError
from cifar_exp.setting import MISSING, setting

FILES = ("csv", "folder", "parquet")  # the data sets that are a user's own image files
DATA_SETS = tuple(sorted(("cifar10", "cifar100", "digits", "fashion_mnist", "mnist", *FILES)))

# Settings that not every data set uses -> those that do, of the ones above.
USED_BY: Mapping[str, tuple[str, ...]] = {
    "labels": ("cifar100",),
    "dir": tuple(name for name in DATA_SETS if name not in ("digits", "parquet")),
    **dict.fromkeys(("file", "image_column", "label_column", "split_column", "group"), ("csv", "parquet")),
    **dict.fromkeys(("size", "resize", "color_mode", "bad_images", "duplicates", "test_share"), FILES),
}

ImageShape = tuple[int, int, int]  # height, width, channels


def user_path(value: str, setting: str) -> Path:
    """The path that a setting of the data names; `~` is a home folder.

    Raises:
        UserError: if there is no such home folder.
    """
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise UserError(f"data.{setting}={value}: there is no home folder of this name") from None


@dataclass(frozen=True)
class DataConfig:
    """Which images train, validate and test."""

    name: str = setting(
        MISSING,
        f"Name of the data set: {', '.join(DATA_SETS)}, or that of an installed package. Choose it with `data=`.",
    )
    dir: str | None = setting(
        None,
        "Folder of the image files, or of the official files. Default for the latter: `CIFAR_EXP_DATA`, else a folder "
        "in your cache folder; with `data=csv`: the folder of `data.file`.",
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
        "training images. `test`: the test images; the run gets a warning tag. `given`: those of the validation folder "
        "or of `data.split_column`, if there are some, else as `stratified`.",
        choices=("stratified", "last", "test", "given"),
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
    file: str | None = setting(None, "The CSV or Parquet file of `data=csv` and `data=parquet`.")
    size: tuple[int, int] | None = setting(
        None, "Height and width that image files are resized to. `null`: all images have the same size."
    )
    resize: str = setting(
        "stretch",
        "`stretch`: ignore the aspect ratio. `crop`: cut off what is outside the center. `pad`: add white borders.",
        choices=("stretch", "crop", "pad"),
    )
    color_mode: str = setting("rgb", "Channels of image files. `rgb`: 3. `grayscale`: 1.", choices=("rgb", "grayscale"))
    bad_images: str = setting(
        "refuse",
        "Image files that cannot be read. `refuse`: name them and do not start. `skip`: log them and leave them out.",
        choices=("refuse", "skip"),
    )
    duplicates: str = setting(
        "refuse",
        "Image files of the same content in several splits. `refuse`: name them and do not start. `allow`: log them.",
        choices=("refuse", "allow"),
    )
    image_column: str | None = setting(
        None, "Column of file names or images. Default: the first with a usual name, such as `id` or `image`."
    )
    label_column: str | None = setting(
        None, "Column of labels. Default: the first with a usual name, such as `label` or `class`."
    )
    split_column: str | None = setting(None, "Column of `train`, `validation` and `test`.")
    group: str | None = setting(
        None,
        "Column of groups, such as `patient`. No group is in two splits. A share is then the nearest of 1/2, 1/3, 1/4 "
        "and so on.",
    )
    test_share: float = setting(
        0.2, "Share of the image files that is the test set, if none is given.", above=0, below=1
    )
    folds: int | None = setting(
        None,
        "Number of parts for cross-validation. The part `data.fold` validates if there are test images, else it is the "
        "test set. Of your own images: refused if there are test images and others validate.",
        at_least=2,
    )
    fold: int = setting(0, "Number of the part, from 0.", at_least=0)
    exclude: str | None = setting(
        None,
        "CSV file of images that neither train nor validate, by index or path: those whose `decision` is `confirm`. "
        "`cifar-exp mislabeled` writes such files.",
    )
    relabel: str | None = setting(
        None, "CSV file of such images that get the label in the column `suggested`. Test images keep theirs."
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

    def __post_init__(self) -> None:
        """Make the settings hashable: a composed config holds lists."""
        if isinstance(self.size, list):
            object.__setattr__(self, "size", tuple(self.size))
