"""Decoded images in files, which all processes of this machine share.

An entry is a folder, named by a hash of what it was made from. Until it is whole it has another name: `pixels` has its
full size, and `blocks.jsonl` a line for each block of images that is on the disk. So what was decoded before a process
was killed need not be decoded again.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import platformdirs

from cifar_exp.errors import UserError

PIXELS, DIGESTS, BLOCKS, ENTRY = "pixels", "digests", "blocks.jsonl", "entry.json"
_DIGEST_BYTES = 32
_DEFAULT_GB = 50.0


@dataclass(frozen=True)
class Entry:
    """Decoded images.

    Attributes:
        key: of the entry.
        pixels: (N, H, W, C) uint8, mapped from the file.
        digests: (N, 32) uint8, SHA-256 of the content of each image before it was decoded.
        bad: index of each image that could not be decoded -> the reason; its pixels are 0.
    """

    key: str
    pixels: npt.NDArray[np.uint8]
    digests: npt.NDArray[np.uint8]
    bad: dict[int, str]


def folder() -> Path:
    """Folder of the cache: $CIFAR_EXP_CACHE, or a folder in the user's cache folder."""
    return Path(os.environ.get("CIFAR_EXP_CACHE") or platformdirs.user_cache_path("cifar_exp") / "images").absolute()


def limit() -> int:
    """Bytes that all entries may take: $CIFAR_EXP_CACHE_GB gigabytes, or 50.

    Raises:
        UserError: if the variable is not a positive number.
    """
    text = os.environ.get("CIFAR_EXP_CACHE_GB") or str(_DEFAULT_GB)
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = 0.0
    if not 0 < gigabytes < 1e9:
        raise UserError(f"CIFAR_EXP_CACHE_GB: got {text!r}, expected a number of gigabytes above 0")
    return int(gigabytes * 1e9)


def find(key: str) -> Entry | None:
    """Map the entry of this key, if there is a whole one, and mark it as used now."""
    path = folder() / key
    try:  # it may be evicted at any time
        content = _content(path)
        pixels = np.memmap(path / PIXELS, np.uint8, "r", shape=tuple(content["shape"]))
        digests = np.fromfile(path / DIGESTS, np.uint8).reshape(len(pixels), _DIGEST_BYTES)
        bad = {int(index): reason for index, reason in content["bad"].items()}
    except (OSError, ValueError, KeyError):
        return None
    with suppress(OSError):  # of another user
        os.utime(path / ENTRY)
    return Entry(key, pixels, digests, bad)


@contextmanager
def locked(key: str, wait: bool = True) -> Iterator[bool]:
    """Hold the lock of an entry. It ends with the process, however that ends.

    Args:
        key: of the entry.
        wait: until other processes have given it back.

    Yields:
        Whether the lock is held; always true with `wait`.

    Raises:
        UserError: if the folder of the cache cannot be made, or the lock is that of another user.
    """
    try:
        folder().mkdir(parents=True, exist_ok=True)
        file = (folder() / f"{key}.lock").open("a")
    except OSError as error:
        raise UserError(
            f"{folder()}: {error.strerror}; name another folder for decoded images with CIFAR_EXP_CACHE"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


class Partial:
    """An entry that is being filled, by the process that holds its lock."""

    def __init__(self, key: str, shape: tuple[int, ...], source: str) -> None:
        """Go on with what an earlier process has left, or begin.

        Args:
            key: of the entry.
            shape: (N, H, W, C) of its pixels.
            source: the folder or file that the images are made from, as it is listed.

        Raises:
            UserError: if the disk or the limit of the cache has no room for it.
        """
        self.key, self.shape, self.source = key, shape, source
        self.folder = folder() / f"{key}.partial"
        self.bad: dict[int, str] = {}
        self.done: set[int] = set()
        self._waiting: list[str] = []
        size = int(np.prod(shape))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for line in self._lines():
                self.done.add(int(line["block"]))
                self.bad |= {int(index): reason for index, reason in line["bad"].items()}
            if not self.done:
                _make_room(size, key)
            self.pixels = os.open(self.folder / PIXELS, os.O_RDWR | os.O_CREAT, 0o644)
            self._digests = os.open(self.folder / DIGESTS, os.O_RDWR | os.O_CREAT, 0o644)
            os.posix_fallocate(self.pixels, 0, max(size, 1))  # a full disk is found now
            os.posix_fallocate(self._digests, 0, max(shape[0] * _DIGEST_BYTES, 1))
        except OSError as error:
            raise self.refused(error) from error

    def add(self, block: int, first: int, digests: bytes, bad: dict[int, str]) -> None:
        """Note that the pixels of a block have been written. It counts when it is saved."""
        os.pwrite(self._digests, digests, first * _DIGEST_BYTES)
        self.bad |= bad
        self._waiting.append(json.dumps({"block": block, "bad": bad}))

    def noted(self) -> list[str]:
        """Lines on the blocks that were added since the last call, to be saved."""
        lines, self._waiting = self._waiting, []
        return lines

    def save(self, lines: list[str]) -> None:
        """Bring the pixels to the disk, then the lines that say so. This may take seconds."""
        os.fdatasync(self.pixels)
        os.fdatasync(self._digests)
        with (self.folder / BLOCKS).open("a") as file:
            file.writelines(f"{line}\n" for line in lines)
            file.flush()
            os.fdatasync(file.fileno())

    def finish(self) -> None:
        """Give the whole entry its name."""
        self.save(self.noted())
        content = {"shape": self.shape, "bad": self.bad, "source": self.source}
        with (self.folder / ENTRY).open("w") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        self.close()
        (self.folder / BLOCKS).unlink()
        shutil.rmtree(folder() / self.key, ignore_errors=True)  # a damaged one
        self.folder.rename(folder() / self.key)

    def close(self) -> None:
        """Close its files."""
        os.close(self.pixels)
        os.close(self._digests)

    def refused(self, error: OSError) -> UserError:
        """An error of the disk as one for the user. What has no room is removed."""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            shutil.rmtree(self.folder, ignore_errors=True)
            return UserError(
                f"{folder()}: no space for {np.prod(self.shape) / 1e9:,.1f} GB of decoded images; free some, or name a "
                "folder on another disk with CIFAR_EXP_CACHE"
            )
        return UserError(f"{folder()}: {error.strerror}; name another folder with CIFAR_EXP_CACHE")

    def _lines(self) -> Iterator[dict[str, Any]]:
        if not (self.folder / BLOCKS).exists():
            return
        for line in (self.folder / BLOCKS).read_text().splitlines():
            try:
                yield json.loads(line)
            except ValueError:  # cut off with its process
                return


@dataclass(frozen=True)
class Summary:
    """An entry of the cache, whole or being filled.

    Attributes:
        key: of the entry.
        images: number of its images.
        size: of their pixels, in bytes.
        used: when it was last used, in seconds since 1970.
        whole: whether all images are there; a damaged entry is not.
        source: the folder or file that they were first made from; empty until it is whole.
    """

    key: str
    images: int
    size: int
    used: float
    whole: bool
    source: str


def entries() -> list[Summary]:
    """All entries of the cache, the longest unused first."""
    found = []
    for path in folder().iterdir() if folder().is_dir() else ():
        if path.is_dir() and (path / PIXELS).exists():
            try:
                content = _content(path)
                whole = bool(content)
                used = (path / (ENTRY if whole else PIXELS)).stat().st_mtime
                size = (path / PIXELS).stat().st_size
                images = (path / DIGESTS).stat().st_size // _DIGEST_BYTES
            except OSError:  # evicted meanwhile, or closed
                continue
            source = content.get("source", "")
            found.append(Summary(path.name.removesuffix(".partial"), images, size, used, whole, source))
    return sorted(found, key=lambda entry: entry.used)


def remove(entry: Summary) -> bool:
    """Remove an entry, unless a process is filling it. Processes that have mapped it keep their images.

    Returns:
        Whether it was removed.
    """
    with locked(entry.key, wait=False) as held:
        if held:
            for name in (entry.key, f"{entry.key}.partial"):
                shutil.rmtree(folder() / name, ignore_errors=True)
        return held


def _content(path: Path) -> dict[str, Any]:
    """What an entry says of itself; nothing if it is not whole."""
    if path.suffix == ".partial":
        return {}
    try:
        content = json.loads((path / ENTRY).read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _make_room(size: int, key: str) -> None:
    """Remove the entries that are longest unused until this many bytes fit."""
    if size > limit():
        raise UserError(
            f"the decoded images take {size / 1e9:,.1f} GB, and the cache may take {limit() / 1e9:g} GB: set "
            "CIFAR_EXP_CACHE_GB, or choose a smaller data.size"
        )
    kept = [entry for entry in entries() if entry.key != key]
    taken = sum(entry.size for entry in kept)
    for entry in kept:
        if taken + size <= limit():
            return
        if remove(entry):
            taken -= entry.size
