"""The state of a training after an epoch, in files that are whole or are not used; neither pickle nor Keras.

A file is three parts: a line with the format's name and the SHA-256 of all that follows; a line of JSON,
`{"history": {metric: [value, ...]}, "arrays": [[name, dtype, shape], ...]}`; the arrays' bytes, one after another.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cifar_exp.errors import reason

log = logging.getLogger(__name__)

_FORMAT = b"cifar_exp checkpoint 1 "
_NAME = re.compile(r"epoch-(\d{5,})\.checkpoint")
# Little-endian, as numpy writes them; a file may come from anywhere, so that it may name no others.
_DTYPES = frozenset({"|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8"})

Arrays = Mapping[str, npt.NDArray[Any]]


class Damaged(Exception):
    """A file that is no whole checkpoint."""


@dataclass(frozen=True)
class Checkpoint:
    """What a training goes on from."""

    history: dict[str, list[float]]
    """Each metric's value at each epoch so far, from epoch 1."""
    arrays: Arrays
    """Weights, optimizer and random states, under the names that training_state gives them."""
    file: Path | None = None
    """It was read from."""

    @property
    def epoch(self) -> int:
        """The last that it holds, from 1."""
        return len(self.history["val/accuracy"])

    def write(self, path: Path) -> None:
        """Under this name there is what was there before, or the whole checkpoint, even if the machine goes down.

        Raises:
            OSError: naming the file, for a full disk or a folder that may not be written.
        """
        described = [[name, array.dtype.str, array.shape] for name, array in self.arrays.items()]
        header = json.dumps({"history": self.history, "arrays": described}, allow_nan=False).encode() + b"\n"
        digest = hashlib.sha256(header)
        for array in self.arrays.values():
            digest.update(array.tobytes())
        partial = path.with_name(f".{path.name}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                file.write(_FORMAT + digest.hexdigest().encode() + b"\n" + header)
                for array in self.arrays.values():
                    file.write(array.tobytes())
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            _sync(path.parent)
        except OSError as error:
            partial.unlink(missing_ok=True)  # gives a full disk its room back
            raise OSError(error.errno, f"checkpoint not written: {error.strerror}", str(path)) from error

    @classmethod
    def read(cls, path: Path) -> Checkpoint:
        """The checkpoint in this file.

        Raises:
            Damaged: if it is not whole, or was never a checkpoint.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise Damaged(reason(error)) from error
        first, _, body = content.partition(b"\n")
        if not first.startswith(_FORMAT):
            raise Damaged("it does not begin as a checkpoint does")
        if first != _FORMAT + hashlib.sha256(body).hexdigest().encode():
            raise Damaged("its content is not what its checksum says")
        try:
            end = body.index(b"\n") + 1
            header = json.loads(body[:end])
            return cls(_history(header["history"]), _arrays(header["arrays"], body, end), path)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise Damaged(f"its header makes no sense: {reason(error)}") from error


class Checkpoints:
    """A folder with those of one training: the newest, the one before it, and the one of the best val/accuracy."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def newest(self) -> Checkpoint | None:
        """The newest that is whole; None if there is none."""
        for epoch in reversed(self.epochs()):
            try:
                return Checkpoint.read(self._file(epoch))
            except Damaged as damage:
                log.warning("%s is not used: %s", self._file(epoch), damage)
        return None

    def latest(self) -> Path | None:
        """The file of the newest, whole or not."""
        epochs = self.epochs()
        return self._file(epochs[-1]) if epochs else None

    def epochs(self) -> list[int]:
        """Those there are files of, whole or not, in order."""
        names = (_NAME.fullmatch(path.name) for path in self.folder.glob("epoch-*"))
        return sorted(int(name[1]) for name in names if name)

    def save(self, checkpoint: Checkpoint) -> None:
        """Write it, and only then remove what it makes superfluous.

        Raises:
            OSError: as Checkpoint.write does; those before it are untouched.
        """
        checkpoint.write(self._file(checkpoint.epoch))
        accuracies = checkpoint.history["val/accuracy"]
        # Later ones are left over: they were damaged, or the training would have gone on from them.
        earlier = [epoch for epoch in self.epochs() if epoch <= checkpoint.epoch]
        best = max(earlier, key=lambda epoch: (accuracies[epoch - 1], -epoch))
        for epoch in set(self.epochs()) - {*earlier[-2:], best}:
            self._file(epoch).unlink(missing_ok=True)
        for left in self.folder.glob(".epoch-*.partial"):  # of a process that was killed
            left.unlink(missing_ok=True)

    def add(self, file: Path) -> None:
        """Take in a file from elsewhere, if it is whole."""
        try:
            epoch = Checkpoint.read(file).epoch
        except Damaged as damage:
            log.warning("%s is not used: %s", file.name, damage)
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        file.replace(self._file(epoch))

    def keep_newest(self) -> None:
        """Remove all but the newest: the training has paused, perhaps for good."""
        for epoch in self.epochs()[:-1]:
            self._file(epoch).unlink(missing_ok=True)

    def remove(self) -> None:
        """Nobody goes on from them any more."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch:05}.checkpoint"


def _history(content: Any) -> dict[str, list[float]]:
    """Raises ValueError unless every metric has a finite number for each of the same epochs."""
    lengths = {len(values) for values in content.values()}
    if "val/accuracy" not in content or len(lengths) != 1 or lengths == {0}:
        raise ValueError("not every metric has a value for every epoch")
    for value in (value for values in content.values() for value in values):
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{value!r} is no finite number")
    return {name: [float(value) for value in values] for name, values in content.items()}


def _arrays(described: Any, body: bytes, offset: int) -> Arrays:
    """Raises ValueError unless they are exactly the rest of the file, from this offset on."""
    arrays = {}
    for name, dtype, shape in described:
        sized = all(isinstance(size, int) and size >= 0 for size in shape)
        if not isinstance(name, str) or dtype not in _DTYPES or not sized:
            raise ValueError(f"array {name!r} is {dtype} {shape}")
        arrays[name] = array = np.ndarray(shape, dtype, body, offset)
        offset += array.nbytes
    if offset != len(body):
        raise ValueError(f"{len(body) - offset} bytes are left over")
    return arrays


def _sync(folder: Path) -> None:
    """A new name is safe only once its folder is written too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
