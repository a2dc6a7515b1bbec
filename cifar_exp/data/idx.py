"""MNIST and Fashion-MNIST: four IDX files, gzipped or not."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cifar_exp.data.official import Files, data_folder, download, md5
from cifar_exp.errors import UserError

IMAGE_SHAPE = (28, 28, 1)
TRAINING_IMAGES = 60_000
TRAINING, TEST = "train", "t10k"  # what the names of the files begin with

_NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_UBYTE = 8  # the type of the values, the third byte of an IDX file


@dataclass(frozen=True)
class IdxRelease:
    """The release of a data set in IDX files.

    Attributes:
        title: of the data set.
        folder: of the files, below the data folder.
        mirrors: addresses of the folder with the gzipped files; the first is the source that a run records.
        md5s: name of each file -> MD5 of the gzipped file and of the file itself.
        size: of all gzipped files, for messages.
    """

    title: str
    folder: str
    mirrors: tuple[str, ...]
    md5s: Mapping[str, tuple[str, str]]
    size: str

    @property
    def url(self) -> str:
        """Address of the release."""
        return self.mirrors[0]

    def find(self, directory: str | None, verify: str) -> Files:
        """Locate the four files, and download those that are missing.

        Args:
            directory: contains the files, gzipped or not, or their folder. `None` selects $CIFAR_EXP_DATA or the cache
                folder. Missing files are downloaded into it.
            verify: `"md5"` refuses any file that differs from the official release; `"size"` accepts other files in the
                same layout.

        Returns:
            The folder with the files, and their source.

        Raises:
            UserError: if a file is altered, or if a download fails.
        """
        root = data_folder(directory)
        folder = self._found(root) or root / self.folder
        altered = []
        for name, known in self.md5s.items():
            path = path_of(folder, name)
            if path is None:
                urls = [f"{mirror}{name}.gz" for mirror in self.mirrors]
                instead = (
                    f"put the four files of {self.url} there, or name their folder with data.dir or CIFAR_EXP_DATA"
                )
                path = download(urls, known[0], folder, self.title, self.size, instead)
            if md5(path) != known[0 if path.suffix == ".gz" else 1]:
                altered.append(path)
        if altered and verify == "md5":
            raise UserError(
                f"{altered[0]} differs from the official release of {self.title} (MD5); remove it to have it "
                "downloaded again, or use this copy knowingly with data.verify=size"
            )
        if altered:
            return Files(folder, f"{folder} (not the official release: {altered[0].name} differs)")
        return Files(folder, self.url)

    def is_available(self, directory: str | None) -> bool:
        """Whether `find` can return without a download."""
        folder = self._found(data_folder(directory))
        return folder is not None and len(self.names(folder)) == len(self.md5s)

    def names(self, folder: Path) -> list[str]:
        """Names of the files in this folder."""
        return [path.name for name in self.md5s if (path := path_of(folder, name))]

    def _found(self, root: Path) -> Path | None:
        """Return the first candidate folder that holds at least one of the files, or `None`."""
        return next((folder for folder in (root / self.folder, root) if self.names(folder)), None)


def path_of(folder: Path, name: str) -> Path | None:
    """The path of a file, itself or gzipped; `None` if it is not in this folder."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.exists()), None)


def read(folder: Path, part: str, classes: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Read the images and labels of one part.

    Args:
        folder: contains the files, gzipped or not.
        part: `TRAINING` or `TEST`.
        classes: number of classes.

    Returns:
        Images (N, 28, 28, 1) uint8 in 0..255 and labels (N,) uint8.

    Raises:
        UserError: if a file is not an IDX file of images or labels, or if images and labels do not fit together.
    """
    images = _read_idx(folder, f"{part}-images-idx3-ubyte", 3)
    labels = _read_idx(folder, f"{part}-labels-idx1-ubyte", 1)
    if images.shape[1:] != IMAGE_SHAPE[:2] or len(images) != len(labels):
        raise UserError(f"{folder}: {images.shape} images and {len(labels)} labels, expected as many of 28 x 28")
    if len(labels) and labels.max() >= classes:
        raise UserError(f"{folder}: label {labels.max()}, expected 0 to {classes - 1}")
    return images[..., np.newaxis], labels


def _read_idx(folder: Path, name: str, dimensions: int) -> npt.NDArray[np.uint8]:
    """Two zero bytes, type, number of dimensions, each size as a big-endian uint32, then the values."""
    path = path_of(folder, name)
    if path is None:
        raise UserError(f"{folder / name}: missing")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:  # BadGzipFile is an OSError
        raise UserError(f"{path}: {error}") from error
    head = 4 + 4 * dimensions
    if content[:4] != bytes((0, 0, _UBYTE, dimensions)) or len(content) < head:
        raise UserError(f"{path}: not an IDX file of bytes in {dimensions} dimensions")
    sizes = [int(size) for size in np.frombuffer(content, ">u4", dimensions, 4)]
    if len(content) != head + math.prod(sizes):
        raise UserError(f"{path}: {len(content) - head:,} values, expected {math.prod(sizes):,}, as its head says")
    return np.frombuffer(content, np.uint8, offset=head).reshape(sizes)


def _md5s(*pairs: tuple[str, str]) -> dict[str, tuple[str, str]]:
    return dict(zip(_NAMES, pairs, strict=True))


# The MD5s of the gzipped files are those that the authors of Fashion-MNIST and torchvision publish.
MNIST = IdxRelease(
    "MNIST",
    "mnist",
    ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
    _md5s(
        ("f68b3c2dcbeaaa9fbdd348bbdeb94873", "6bbc9ace898e44ae57da46a324031adb"),
        ("d53e105ee54ea40749a09fcbcd1e9432", "a25bea736e30d166cdddb491f175f624"),
        ("9fb629c4189551a2d022fa330f9573f3", "2646ac647ad5339dbf082846283269ea"),
        ("ec29112dd5afa0611ce80d1b7f02629c", "27ae3e4e09519cfbb04c329615203637"),
    ),
    "11 MB",
)
FASHION_MNIST = IdxRelease(
    "Fashion-MNIST",
    "fashion_mnist",
    (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    ),
    _md5s(
        ("8d4fb7e6c68d591d4c3dfef9ec88bf0d", "f4a8712d7a061bf5bd6d2ca38dc4d50a"),
        ("25c81989df183df01b3e8a0aad5dffbe", "9018921c3c673c538a1fc5bad174d6f9"),
        ("bef4ecab320f06d8554ea6380940ec79", "8181f5470baa50b63fa0f6fddb340f0a"),
        ("bb300cfdad3c16e7a12a480ee83cd310", "15d484375f8d13e6eb1aabb0c3f46965"),
    ),
    "31 MB",
)
DIGIT_NAMES = tuple("0123456789")
CLOTHES = (
    "t-shirt",  # the release says T-shirt/top
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
