"""Standard streams that keep working when their reader is gone: a pipe to `head`, a closed terminal."""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_NO_READER = frozenset({errno.EPIPE, errno.EIO})
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def tolerate_missing_readers(also_full_disks: bool = False) -> None:
    """Replace stdout and stderr by streams that drop output which nobody can read, instead of raising an error.

    Args:
        also_full_disks: whether to also drop output that does not fit on the disk that a stream is redirected to. Meant
            for programs whose results are not on these streams.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed, as by `>&-`; otherwise the next opened file would get its number and the output
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
    dropped = _NO_READER | _NO_SPACE if also_full_disks else _NO_READER
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is getattr(sys, f"__{name}__"):  # leave a stream that captures the output
            setattr(sys, name, _stream(getattr(sys, name), number, dropped))


def _stream(original: io.TextIOWrapper | None, number: int, dropped: Collection[int]) -> io.TextIOWrapper:
    """Create a stream with the settings of Python's own, except that errors in `dropped` are ignored."""
    raw = _ForgivingFile(number, dropped)
    if original is None:
        return io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace")
    original.flush()
    return io.TextIOWrapper(
        raw if original.write_through else io.BufferedWriter(raw),  # write_through: python -u
        encoding=original.encoding,
        errors="backslashreplace" if original.errors == "strict" else original.errors,
        line_buffering=original.line_buffering,
        write_through=original.write_through,
    )


class _ForgivingFile(io.FileIO):
    """File descriptor that is redirected to /dev/null as soon as it has no reader."""

    def __init__(self, number: int, dropped: Collection[int]) -> None:
        super().__init__(number, "w", closefd=False)
        self._dropped = dropped

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            while (written := super().write(data)) is None:  # a terminal that another program has made non-blocking
                select.select([], [self], [])
            return written
        except OSError as error:
            if error.errno not in self._dropped:
                raise
            if error.errno in _NO_READER:
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            return memoryview(data).nbytes
