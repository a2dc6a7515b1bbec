"""A run's own record of what it measured: one line an event, appended to a file beside its artifacts.

Training writes here and never waits for a server; `replay` sends it on. A line is a JSON object with the CRC-32 of its
event, so that a damaged one is recognized, and is never changed: its time is when it was written.
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


@dataclass(frozen=True)
class Event:
    """Something to be remembered of a run."""

    kind: str
    content: dict[str, Any] = field(default_factory=dict)
    time: int = 0
    """Milliseconds since 1970."""


@dataclass(frozen=True)
class Damage:
    """A line that is not what was written."""

    line: int
    reason: str


class Journal:
    """The file, open for writing by this process alone: a lock that ends with the process says that it lives."""

    def __init__(self, folder: Path) -> None:
        """Go on with the folder's journal, or begin one.

        Raises:
            UserError: if another process writes it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._file = (folder / FILE).open("ab", buffering=0)
        if not _lock(self._file.fileno()):
            self._file.close()
            raise UserError(f"{folder}: another process is writing this run")
        self._writing = threading.Lock()
        with (folder / _RESERVE).open("wb") as reserve:
            os.posix_fallocate(reserve.fileno(), 0, _RESERVED)
        if _unfinished(folder / FILE):
            self._file.write(b"\n")  # what a killed process left is a damaged line of its own

    def append(self, kind: str, content: dict[str, Any], safe: bool = False, when: int | None = None) -> None:
        """Write an event down.

        Args:
            kind: of the event; `replay` knows what to do with it.
            content: JSON.
            safe: return once it is on the disk, not just on its way there.
            when: it was, in milliseconds since 1970; default: now.
        """
        event = Event(kind, content, time.time_ns() // 1_000_000 if when is None else when)
        with self._writing:
            before = os.fstat(self._file.fileno()).st_size
            try:
                _write(self._file, _line(event))
            except OSError:
                os.ftruncate(self._file.fileno(), before)  # half a line is no event
                raise
            if safe:
                os.fsync(self._file.fileno())

    def use_reserve(self) -> None:
        """Give up the space that is held so that a run can tell of a full disk."""
        (self.folder / _RESERVE).unlink(missing_ok=True)

    def close(self) -> None:
        """Let others have it."""
        self.use_reserve()
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read(folder: Path, first: int = 0) -> Iterator[Event | Damage]:
    """Every whole line from number `first` on, from 0: what was written, or that it is damaged.

    A last line without an end is being written, or was when its process was killed: it is not among them.
    """
    with (folder / FILE).open("rb") as file:
        for number, line in enumerate(file):
            if not line.endswith(b"\n"):
                return
            if number >= first:
                yield _event(line, number)


def was_closed(folder: Path) -> bool:
    """Whether the process that wrote it got to its end."""
    return not (folder / _RESERVE).exists()


def is_live(folder: Path) -> bool:
    """Whether a process is writing it."""
    with (folder / FILE).open("rb") as file:
        return not _lock(file.fileno())


def _line(event: Event) -> bytes:
    content = json.dumps(asdict(event), separators=(",", ":"))
    return f'{{"crc32":"{zlib.crc32(content.encode()):08x}","event":{content}}}\n'.encode()


def _event(line: bytes, number: int) -> Event | Damage:
    try:
        read = json.loads(line)
        event = Event(**read["event"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return Damage(number + 1, "is no event")
    return event if _line(event) == line else Damage(number + 1, "is not what was written: its checksum differs")


def _write(file: io.FileIO, line: bytes) -> None:
    """All of it: on a disk that is all but full the first part may be written."""
    while line:
        line = line[file.write(line) :]


def _unfinished(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False
