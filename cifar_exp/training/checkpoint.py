"""Checkpoints: the state of a training after an epoch, in a file format without pickle or Keras.

A file has three parts: a line with the name of the format and the SHA-256 of everything after it; a line of JSON,
`{"history": {metric: [value, ...]}, "arrays": [[name, dtype, shape], ...], "run": fingerprint}`; the bytes of the
arrays in this order.
Files with a wrong checksum are not used.
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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cifar_exp.errors import reason

log = logging.getLogger(__name__)

_FORMAT = b"cifar_exp checkpoint 1 "
_NAME = re.compile(r"epoch-(\d{5,})\.checkpoint")
# Plain little-endian numbers. A file may come from a shared server, so other dtypes, such as objects, are refused.
_DTYPES = frozenset({"|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8"})

METRICS = frozenset({
    "train/loss", "train/objective", "train/accuracy", "train/learning_rate", "train/epoch_seconds",
    "train/images_per_second", "val/loss", "val/objective", "val/accuracy",
})  # fmt: skip
"""What `fit` measures in every epoch."""

Arrays = Mapping[str, npt.NDArray[Any]]


class DamagedCheckpoint(Exception):
    """Raised for a file that is incomplete, changed or not a checkpoint."""


@dataclass(frozen=True)
class Checkpoint:
    """State of a training after an epoch.

    Attributes:
        history: metric name -> value of each epoch, from epoch 1.
        arrays: weights, optimizer and random states by name, as `state.capture` returns them.
        file: the file that it was read from, if any.
        run: fingerprint of its run; None in a file of an earlier version.
    """

    history: dict[str, list[float]]
    arrays: Arrays
    file: Path | None = None
    run: str | None = None

    @property
    def epoch(self) -> int:
        """Number of the last trained epoch, from 1."""
        return len(self.history["val/accuracy"])

    def write(self, path: Path) -> None:
        """Write the checkpoint to a file, atomically.

        If the process is killed or the machine fails, `path` has its previous content or the whole checkpoint.

        Raises:
            OSError: if it cannot be written, for example because the disk is full. The message names the file.
        """
        described = [[name, array.dtype.str, array.shape] for name, array in self.arrays.items()]
        content = {"history": self.history, "arrays": described, "run": self.run}
        header = json.dumps(content, allow_nan=False).encode() + b"\n"
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
            partial.unlink(missing_ok=True)  # free its space on a full disk
            raise OSError(error.errno, f"checkpoint not written: {error.strerror}", str(path)) from error

    @classmethod
    def read(cls, path: Path) -> Checkpoint:
        """Read the checkpoint in a file.

        Raises:
            DamagedCheckpoint: if the file is incomplete, changed, not a checkpoint or cannot be read.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DamagedCheckpoint(reason(error)) from error
        first, _, body = content.partition(b"\n")
        if not first.startswith(_FORMAT):
            raise DamagedCheckpoint("it is not a checkpoint: it begins differently")
        if first != _FORMAT + hashlib.sha256(body).hexdigest().encode():
            raise DamagedCheckpoint("its content does not match its checksum")
        try:
            end = body.index(b"\n") + 1
            header = json.loads(body[:end])
            return cls(_history(header["history"]), _arrays(header["arrays"], body, end), path, header.get("run"))
        except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise DamagedCheckpoint(f"its header is not valid: {reason(error)}") from error


class Checkpoints:
    """Checkpoints of one training: the newest, the one before it, and the one with the best validation accuracy.

    Args:
        folder: of the files; it is created when the first checkpoint is saved.
        run: fingerprint of the training; checkpoints of another one are not used.
    """

    def __init__(self, folder: Path, run: str | None = None) -> None:
        self.folder, self._run = folder, run
        self._foreign = set[int]()  # epochs of files of another training, which are removed when this one saves its own

    def newest(self) -> Checkpoint | None:
        """Read the newest checkpoint of this training that is not damaged; None if there is none."""
        for epoch in reversed(self.epochs()):
            try:
                found = Checkpoint.read(self._file(epoch))
            except DamagedCheckpoint as damage:
                log.warning("%s is not used: %s", self._file(epoch), damage)
                continue
            if self._run is None or found.run in (None, self._run):
                return found
            log.warning("%s is not used: it is of another run", self._file(epoch))
            self._foreign.add(epoch)
        return None

    def latest(self) -> Path | None:
        """Return the file of the newest checkpoint of this training, which may be damaged; None if there is none."""
        epochs = [epoch for epoch in self.epochs() if epoch not in self._foreign]
        return self._file(epochs[-1]) if epochs else None

    def epochs(self) -> list[int]:
        """Return the epochs of all files, including damaged ones, in ascending order."""
        names = (_NAME.fullmatch(path.name) for path in self.folder.glob("epoch-*"))
        return sorted(int(name[1]) for name in names if name)

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, then remove the files that are no longer kept.

        Raises:
            OSError: if it cannot be written; earlier checkpoints are unchanged.
        """
        replace(checkpoint, run=self._run).write(self._file(checkpoint.epoch))
        self._foreign.discard(checkpoint.epoch)
        accuracies = checkpoint.history["val/accuracy"]
        # Files of later epochs are damaged or foreign: otherwise the training would have resumed from them.
        earlier = [epoch for epoch in self.epochs() if epoch <= checkpoint.epoch and epoch not in self._foreign]
        best = max(earlier, key=lambda epoch: (accuracies[epoch - 1], -epoch))
        for epoch in set(self.epochs()) - {*earlier[-2:], best}:
            self._file(epoch).unlink(missing_ok=True)
        for partial in self.folder.glob(".epoch-*.partial"):  # of a killed process
            partial.unlink(missing_ok=True)

    def add(self, file: Path) -> None:
        """Move a checkpoint file from elsewhere into the folder; a damaged file is logged and left where it is."""
        try:
            epoch = Checkpoint.read(file).epoch
        except DamagedCheckpoint as damage:
            log.warning("%s is not used: %s", file.name, damage)
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        file.replace(self._file(epoch))

    def keep_newest(self) -> None:
        """Remove all but the newest: the training has paused, perhaps for good."""
        for epoch in self.epochs()[:-1]:
            self._file(epoch).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove all checkpoints, after the training has finished."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch:05}.checkpoint"


def _history(content: Any) -> dict[str, list[float]]:
    """Check the history of a header.

    Raises:
        ValueError: unless every metric of a training has a finite number for every epoch.
    """
    if content.keys() != METRICS:
        raise ValueError("its metrics are not those of a training of this version")
    lengths = {len(values) for values in content.values()}
    if len(lengths) != 1 or lengths == {0}:
        raise ValueError("not every metric has a value for every epoch")
    for value in (value for values in content.values() for value in values):
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{value!r} is not a finite number")
    return {name: [float(value) for value in values] for name, values in content.items()}


def _arrays(described: Any, body: bytes, offset: int) -> Arrays:
    """Read the arrays of a file.

    Args:
        described: [name, dtype, shape] of each array, from the header.
        body: content of the file after its first line.
        offset: of the first array in `body`, in bytes.

    Raises:
        ValueError: if a description is not valid, or the arrays do not take exactly the rest of the file.
    """
    arrays = {}
    for name, dtype, shape in described:
        is_shape = all(isinstance(size, int) and size >= 0 for size in shape)
        if not isinstance(name, str) or dtype not in _DTYPES or not is_shape:
            raise ValueError(f"array {name!r} is {dtype} {shape}")
        arrays[name] = array = np.ndarray(shape, dtype, body, offset)
        offset += array.nbytes
    if offset != len(body):
        raise ValueError(f"{len(body) - offset} bytes follow the arrays")
    return arrays


def _sync(folder: Path) -> None:
    """Sync a folder to disk, so that a renamed file keeps its new name after a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
