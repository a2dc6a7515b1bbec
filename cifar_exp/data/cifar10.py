"""The official CIFAR-10 binary files: found, or downloaded, verified and unpacked whole."""

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
    """Where the six files are, and what may be said of them."""

    folder: Path
    source: str


def default_folder() -> Path:
    """$CIFAR_EXP_DATA, else the user's cache folder."""
    return Path(os.environ.get("CIFAR_EXP_DATA") or platformdirs.user_cache_path("cifar_exp"))


def find(folder: str | None, verify: str) -> Files:
    """The files in this folder (default: `default_folder`), downloaded into it first if they are not there.

    Args:
        folder: holds cifar-10-batches-bin/, or cifar-10-binary.tar.gz, or is cifar-10-batches-bin itself.
        verify: "md5" refuses any file that differs from the official release; "size" only one of another size.

    Raises:
        UserError: naming the file that is missing, cut short or altered, or what was tried to get them.
    """
    root = Path(folder).expanduser() if folder else default_folder()
    unpacked = _unpacked(root)
    if unpacked is None:
        archive = root / ARCHIVE
        given = archive.exists()
        if not given:
            _download(root)
        unpacked = _unpack(archive)
        if not given:
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


def is_there(folder: str | None) -> bool:
    """Whether `find` would not have to download anything: the files are there, or their archive is."""
    root = Path(folder).expanduser() if folder else default_folder()
    return _unpacked(root) is not None or (root / ARCHIVE).exists()


def _unpacked(root: Path) -> Path | None:
    """The folder that holds any of the files."""
    return next((place for place in (root / FOLDER, root) if any((place / name).exists() for name in FILES)), None)


def read(folder: Path, names: Sequence[str]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Images (N, 32, 32, 3) and labels (N,), both uint8, of these files in order.

    Raises:
        UserError: for a label that is no class.
    """
    files = [np.memmap(folder / name, np.uint8, "r").reshape(-1, RECORD_BYTES) for name in names]
    labels = np.concatenate([records[:, 0] for records in files])
    if labels.max() >= len(CLASS_NAMES):
        record = int(np.argmax(labels >= len(CLASS_NAMES)))
        where = f"{folder / names[record // 10_000]}: record {record % 10_000}"
        raise UserError(f"{where} has label {labels[record]}, expected 0 to 9")
    images = np.empty((len(labels), 32, 32, 3), np.uint8)
    planes = [records[:, 1:].reshape(-1, 3, 32, 32) for records in files]
    for colour in range(3):  # three times as fast as all at once
        np.concatenate([of_file[:, colour] for of_file in planes], out=images[..., colour])
    return images, labels


def _check_size(path: Path) -> None:
    if not path.exists():
        raise UserError(f"{path}: missing; remove {path.parent} to have it unpacked or downloaded again")
    if (size := path.stat().st_size) != FILE_BYTES:
        raise UserError(
            f"{path}: {size:,} bytes, expected {FILE_BYTES:,}; remove {path.parent} to have it downloaded again"
        )


def _altered(folder: Path) -> str | None:
    """What is known to differ from the official release, or to be unknown; None if every file is official."""
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
    except (OSError, ValueError) as error:  # requests' errors are OSErrors; ValueError: the wrong MD5
        raise UserError(
            f"CIFAR-10 is not in {root}, and {ARCHIVE_URL} could not be had ({reason(error)}); put {ARCHIVE} or "
            f"the unpacked {FOLDER} there, or name its folder with data.dir or CIFAR_EXP_DATA; data=digits needs none"
        ) from None


def _unpack(archive: Path) -> Path:
    """Unpack the verified archive beside itself, whole or not at all."""
    if (md5 := _md5(archive)) != ARCHIVE_MD5:
        raise UserError(f"{archive}: MD5 {md5}, expected {ARCHIVE_MD5}; remove it to have it downloaded again")
    target = archive.parent / FOLDER
    try:
        with tempfile.TemporaryDirectory(dir=archive.parent, prefix=".unpacking-") as part:
            with tarfile.open(archive) as tar:
                tar.extractall(part, filter="data")
            folder = Path(part) / FOLDER
            sums = [f"{_md5(folder / name)}  {name}\n" for name in FILES]
            (folder / CHECKSUMS).write_text("".join(sums))
            folder.rename(target)
    except OSError as error:
        if not target.exists():  # where it does, another process has unpacked it meanwhile
            raise UserError(f"{archive} could not be unpacked beside itself: {error}") from None
    return target


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
