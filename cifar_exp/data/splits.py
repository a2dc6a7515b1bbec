"""What a data set is: images with labels in three splits, and what is known of it without reading them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from cifar_exp.data.listing import Listing, first_of
from cifar_exp.data.mapped import MappedImages, StoredImages
from cifar_exp.data.schema import ImageShape
from cifar_exp.errors import UserError, did_you_mean

UNASSIGNED = "unassigned"  # in place of a split: images that could not be split

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.uint8 | np.uint16]


@dataclass(frozen=True)
class Split:
    """Images with their labels.

    Attributes:
        images: (N, H, W, C) uint8 in 0..255; those of a large data set stay in a file.
        labels: (N,) from 0 to the number of classes - 1; uint8 for up to 256 classes, otherwise uint16.
        numbers: (N,) of the images in their data set, by which `data.exclude` and `data.relabel` name them; `None` if
            they have none.
    """

    images: StoredImages
    labels: Labels
    numbers: npt.NDArray[np.intp] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: npt.NDArray[np.intp]) -> Split:
        """Select images and labels by index, in the order of the indices."""
        images = self.images.take(indices) if isinstance(self.images, MappedImages) else self.images[indices]
        return Split(images, self.labels[indices], None if self.numbers is None else self.numbers[indices])

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the bytes of the images, or of the files they are made from, and of the labels, in hexadecimal."""
        if isinstance(self.images, MappedImages):
            digest = hashlib.sha256(self.images.sha256.encode())
        else:
            digest = hashlib.sha256(np.ascontiguousarray(self.images).data)
        digest.update(np.ascontiguousarray(self.labels).data)
        return digest.hexdigest()


@dataclass(frozen=True)
class Description:
    """What is known of a data set without reading its images.

    Attributes:
        image_shape: (height, width, channels) of each image.
        class_names: in the order of the labels.
        images: number of images that train and validate; `None` if it is not known yet.
    """

    image_shape: ImageShape
    class_names: tuple[str, ...]
    images: int | None = None


@dataclass(frozen=True)
class Splits:
    """A data set, split for training, validation and test.

    Attributes:
        training: images that the model is fitted to.
        validation: images that the model is scored on after each epoch.
        test: images of the final evaluation.
        classes: class names in the order of the labels.
        source: where the images come from: a URL, a path or a description.
        files: the image files with their labels and splits, if the data set is made of such.
    """

    training: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    source: str
    files: Listing | None = None

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the digests of all three splits, in hexadecimal."""
        parts = (self.training, self.validation, self.test)
        return hashlib.sha256("".join(part.sha256 for part in parts).encode()).hexdigest()


def label_type(classes: int) -> type[np.uint8 | np.uint16]:
    """The type of the labels of this many classes."""
    return np.uint8 if classes <= 256 else np.uint16


def no_class(name: str, classes: Sequence[str]) -> str:
    """Say that a data set has no class of this name, and which it has."""
    return f"no class {name!r}{did_you_mean(name, classes)} (classes: {first_of(classes)})"


def check_arrays(splits: Splits, description: Description, name: str) -> None:
    """Refuse what is not as described: arrays of an installed package may be anything, and files may have changed.

    Raises:
        UserError: naming the split, what it holds and what is expected.
    """
    labels = description.class_names
    if tuple(splits.classes) != tuple(labels):
        said = f"got the classes {first_of(splits.classes)}, expected those of its description"
        raise UserError(f"data={name}: {said}: {first_of(labels)}")
    for part in ("training", "validation", "test"):
        split: Split = getattr(splits, part)
        shape = split.images.shape[1:]
        if shape != description.image_shape or split.images.dtype != np.uint8 or not len(split):
            said = f"got {split.images.shape} {split.images.dtype}, expected (N, *{description.image_shape}) uint8"
            raise UserError(f"data={name}: images of {part}: {said}")
        if split.labels.shape != (len(split.images),) or split.labels.dtype != label_type(len(labels)):
            said = f"got {split.labels.shape} {split.labels.dtype}, expected ({len(split.images)},)"
            raise UserError(f"data={name}: labels of {part}: {said} {np.dtype(label_type(len(labels)))}")
        if split.labels.max() >= len(labels):
            raise UserError(f"data={name}: labels of {part}: got {split.labels.max()}, expected 0 to {len(labels) - 1}")
