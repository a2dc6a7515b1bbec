"""Journal of a run: a file to which every event is appended as one line, beside the artifacts of the run.

Training writes to the journal and never waits for a server; `replay` sends the events to MLflow. Each line is a JSON
object with an event and its CRC-32, so that damaged lines are recognized. Lines are never changed.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from cifar_exp.errors import UserError

FILE = "journal.jsonl"
_RESERVE, _RESERVED = "journal.reserve", 1 << 18  # bytes
_ATTEMPTS, _PAUSE = 5, 0.02  # to lock a journal; seconds between two


@dataclass(frozen=True)
class Event:
    """Anything that a run logs."""

    kind: str
    content: dict[str, Any] = field(default_factory=dict)
    time: int = 0
    """When it was written, in milliseconds since 1970."""


@dataclass(frozen=True)
class Damage:
    """A line of a journal that was changed or is incomplete."""

    line: int
    reason: str


class Journal:
    """Journal that is open for writing. Its file is locked, so that others know that the process is alive."""

    def __init__(self, folder: Path) -> None:
        """Open the journal of a folder, or create one.

        Raises:
            UserError: if another process is writing it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._file = (folder / FILE).open("ab", buffering=0)
        if not _lock_for_writing(self._file.fileno()):
            self._file.close()
            raise _is_written(folder)
        self._writing = threading.Lock()
        with (folder / _RESERVE).open("wb") as reserve:
            os.posix_fallocate(reserve.fileno(), 0, _RESERVED)
        if _has_partial_line(folder / FILE):
            self._file.write(b"\n")  # the partial line of a killed process becomes a damaged line of its own

    def append(self, kind: str, content: dict[str, Any], safe: bool = False, when: int | None = None) -> None:
        """Append an event.

        Args:
            kind: of the event, one of those that `delivery` can send.
            content: values that JSON can represent.
            safe: whether to return only after the event is synced to disk.
            when: time of the event in milliseconds since 1970; default: now.

        Raises:
            OSError: if the event cannot be written; the journal is then unchanged.
        """
        event = Event(kind, content, time.time_ns() // 1_000_000 if when is None else when)
        with self._writing:
            before = os.fstat(self._file.fileno()).st_size
            try:
                _write(self._file, _line(event))
            except OSError:
                os.ftruncate(self._file.fileno(), before)  # remove the partial line
                raise
            if safe:
                os.fsync(self._file.fileno())

    def release_reserve(self) -> None:
        """Free the reserved space, so that the end of a run can be written to a full disk."""
        (self.folder / _RESERVE).unlink(missing_ok=True)

    def close(self) -> None:
        """Close and unlock the file."""
        self.release_reserve()
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read(folder: Path, first: int = 0) -> Iterator[Event | Damage]:
    """Read the lines of a journal.

    A last line without a line end is skipped: it is being written, or its process was killed while writing it.

    Args:
        folder: folder of the journal.
        first: index of the first line to read, from 0.

    Yields:
        The event of each line, or `Damage` for a damaged line.
    """
    with (folder / FILE).open("rb") as file:
        for number, line in enumerate(file):
            if not line.endswith(b"\n"):
                return
            if number >= first:
                yield _event(line, number)


def was_closed(folder: Path) -> bool:
    """Whether the last process that wrote the journal closed it."""
    return not (folder / _RESERVE).exists()


def is_live(folder: Path) -> bool:
    """Whether a process is writing the journal."""
    with (folder / FILE).open("rb") as file:
        return not _lock(file.fileno(), fcntl.LOCK_SH)  # several processes may ask at once


def refuse_live(folder: Path) -> None:
    """Raise an error if a process is writing the journal of a folder, which may have none.

    Raises:
        UserError: if one does.
    """
    if (folder / FILE).exists() and is_live(folder):
        raise _is_written(folder)


def _is_written(folder: Path) -> UserError:
    return UserError(f"{folder}: another process is writing this run")


def _line(event: Event) -> bytes:
    content = json.dumps(asdict(event), separators=(",", ":"))
    return f'{{"crc32":"{zlib.crc32(content.encode()):08x}","event":{content}}}\n'.encode()


def _event(line: bytes, number: int) -> Event | Damage:
    try:
        read = json.loads(line)
        event = Event(**read["event"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return Damage(number + 1, "is not an event")
    return event if _line(event) == line else Damage(number + 1, "is not what was written: its checksum differs")


def _write(file: io.FileIO, line: bytes) -> None:
    """Write all bytes; one call may write only a part when the disk is almost full."""
    while line:
        line = line[file.write(line) :]


def _has_partial_line(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _lock_for_writing(descriptor: int) -> bool:
    """Lock a file. Others may hold it for the moment in which they ask whether it is locked."""
    for _ in range(_ATTEMPTS):
        if _lock(descriptor, fcntl.LOCK_EX):
            return True
        time.sleep(_PAUSE)
    return False


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        return True
    except OSError:
        return False
