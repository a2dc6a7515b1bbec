"""Locating, downloading and verifying the official CIFAR-10 binary files."""

from __future__ import annotations

import hashlib
import logging
import os
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import platformdirs

from cifar_exp.errors import UserError, reason

log = logging.getLogger(__name__)

CLASS_NAMES: tuple[str, ...] = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
TRAINING_FILES = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
TEST_FILES = ("test_batch.bin",)
FILES = TRAINING_FILES + TEST_FILES

# https://www.cs.toronto.edu/~kriz/cifar.html gives the archive's MD5 and the layout: records of one label byte
# and 3,072 pixel bytes, the red, green and blue planes in row-major order, 10,000 records a file.
ARCHIVE = "cifar-10-binary.tar.gz"
ARCHIVE_URL = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
ARCHIVE_MD5 = "c32a1d4ab5d03f1284b67883e8d873ed"
FOLDER = "cifar-10-batches-bin"
CHECKSUMS = "md5sums.txt"  # of the unpacked files, written when they are unpacked from the verified archive
RECORD_BYTES = 1 + 3 * 32 * 32
FILE_BYTES = 10_000 * RECORD_BYTES


class Files(NamedTuple):
    """A folder that holds the six binary files.

    Attributes:
        folder: contains the files listed in `FILES`.
        source: `ARCHIVE_URL` for the official release, otherwise the path and how the copy differs.
    """

    folder: Path
    source: str


def default_folder() -> Path:
    """Default data folder: $CIFAR_EXP_DATA, or the user's cache folder if that is not set."""
    return Path(os.environ.get("CIFAR_EXP_DATA") or platformdirs.user_cache_path("cifar_exp"))


def find(folder: str | None, verify: str) -> Files:
    """Locate the CIFAR-10 files, and download or unpack them first if necessary.

    Args:
        folder: contains cifar-10-batches-bin/ or cifar-10-binary.tar.gz, or is cifar-10-batches-bin/ itself. `None`
            selects `default_folder()`. Missing files are downloaded into it.
        verify: `"md5"` refuses any file that differs from the official release; `"size"` only checks file sizes.

    Returns:
        The folder with the six files, and their source.

    Raises:
        UserError: if a file is missing, truncated or altered, or if the download fails.
    """
    root = Path(folder).expanduser() if folder else default_folder()
    unpacked = _unpacked(root)
    if unpacked is None:
        archive = root / ARCHIVE
        archive_existed = archive.exists()
        if not archive_existed:
            _download(root)
        unpacked = _unpack(archive)
        if not archive_existed:
            archive.unlink(missing_ok=True)
    for name in FILES:
        _check_size(unpacked / name)
    altered = _altered(unpacked)
    if altered is None:
        return Files(unpacked, ARCHIVE_URL)
    if verify == "md5":
        raise UserError(
            f"{altered}; put {ARCHIVE} from {ARCHIVE_URL} into {root} after removing {unpacked}, or use this copy "
            f"knowingly with data.verify=size"
        )
    return Files(unpacked, f"{unpacked} (not the official release: {altered})")


def is_available(folder: str | None) -> bool:
    """Whether `find` can return without a download: the folder holds the files or their archive."""
    root = Path(folder).expanduser() if folder else default_folder()
    return _unpacked(root) is not None or (root / ARCHIVE).exists()


def _unpacked(root: Path) -> Path | None:
    """Return the first candidate folder that holds at least one of the files, or `None`."""
    return next((folder for folder in (root / FOLDER, root) if any((folder / name).exists() for name in FILES)), None)


def read(folder: Path, names: Sequence[str]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Read images and labels from CIFAR-10 binary files.

    Args:
        folder: contains the files.
        names: file names, read in this order.

    Returns:
        Images (N, 32, 32, 3) uint8 in 0..255 and labels (N,) uint8 in 0..9.

    Raises:
        UserError: if a label is not in 0..9.
    """
    files = [np.memmap(folder / name, np.uint8, "r").reshape(-1, RECORD_BYTES) for name in names]
    labels = np.concatenate([records[:, 0] for records in files])
    if labels.max() >= len(CLASS_NAMES):
        record = int(np.argmax(labels >= len(CLASS_NAMES)))
        where = f"{folder / names[record // 10_000]}: record {record % 10_000}"
        raise UserError(f"{where} has label {labels[record]}, expected 0 to 9")
    images = np.empty((len(labels), 32, 32, 3), np.uint8)
    planes = [records[:, 1:].reshape(-1, 3, 32, 32) for records in files]
    for channel in range(3):  # three times as fast as all channels at once
        np.concatenate([file_planes[:, channel] for file_planes in planes], out=images[..., channel])
    return images, labels


def _check_size(path: Path) -> None:
    if not path.exists():
        raise UserError(f"{path}: missing; remove {path.parent} to have it unpacked or downloaded again")
    if (size := path.stat().st_size) != FILE_BYTES:
        raise UserError(
            f"{path}: {size:,} bytes, expected {FILE_BYTES:,}; remove {path.parent} to have it downloaded again"
        )


def _altered(folder: Path) -> str | None:
    """Describe how the files differ from the official release; `None` if all of them match it."""
    checksums = folder / CHECKSUMS
    if not checksums.exists():
        return f"{folder} was not unpacked from the verified {ARCHIVE}"
    expected = {name: md5 for md5, name in map(str.split, checksums.read_text().splitlines())}
    for name in FILES:
        if _md5(folder / name) != expected.get(name):
            return f"{folder / name} differs from the official release (MD5)"
    return None


def _download(root: Path) -> None:
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)
    log.info("CIFAR-10 is not in %s: downloading %s (162 MB)", root, ARCHIVE_URL)
    try:
        root.mkdir(parents=True, exist_ok=True)
        # Writes to a temporary file, which takes its name only once its MD5 is right.
        pooch.retrieve(
            ARCHIVE_URL,
            known_hash=f"md5:{ARCHIVE_MD5}",
            fname=ARCHIVE,
            path=root,
            downloader=pooch.HTTPDownloader(progressbar=True, timeout=30),
        )
    except (OSError, ValueError) as error:  # OSError covers the errors of requests; ValueError is a wrong MD5
        raise UserError(
            f"CIFAR-10 is not in {root}, and {ARCHIVE_URL} could not be downloaded ({reason(error)}); put {ARCHIVE} or "
            f"the unpacked {FOLDER} there, or name its folder with data.dir or CIFAR_EXP_DATA; data=digits needs none"
        ) from None


def _unpack(archive: Path) -> Path:
    """Verify the archive and unpack it into its own folder, completely or not at all."""
    if (md5 := _md5(archive)) != ARCHIVE_MD5:
        raise UserError(f"{archive}: MD5 {md5}, expected {ARCHIVE_MD5}; remove it to have it downloaded again")
    target = archive.parent / FOLDER
    try:
        with tempfile.TemporaryDirectory(dir=archive.parent, prefix=".unpacking-") as temporary:
            with tarfile.open(archive) as tar:
                tar.extractall(temporary, filter="data")
            folder = Path(temporary) / FOLDER
            sums = [f"{_md5(folder / name)}  {name}\n" for name in FILES]
            (folder / CHECKSUMS).write_text("".join(sums))
            folder.rename(target)
    except OSError as error:
        if not target.exists():  # otherwise another process has unpacked it in the meantime
            raise UserError(f"{archive} could not be unpacked into {archive.parent}: {error}") from None
    return target


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
