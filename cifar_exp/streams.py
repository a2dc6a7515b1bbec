"""Standard streams that outlast whoever reads them: a pipe to `head`, a terminal that is closed."""

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


def outlast(also_full_disks: bool = False) -> None:
    """Let writing to stdout and stderr never fail for want of a reader; what nobody reads is dropped.

    Args:
        also_full_disks: whether to drop what does not fit on the disk that they are redirected to: for programs whose
            result is elsewhere.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed, as by `>&-`: a file would get its number, and what others print there
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
    dropped = _NO_READER | _NO_SPACE if also_full_disks else _NO_READER
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is getattr(sys, f"__{name}__"):  # not one that somebody has put there to read it
            setattr(sys, name, _stream(getattr(sys, name), number, dropped))


def _stream(before: io.TextIOWrapper | None, number: int, dropped: Collection[int]) -> io.TextIOWrapper:
    """As Python made it, but for what is done with errors."""
    raw = _Lasting(number, dropped)
    if before is None:
        return io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace")
    before.flush()
    return io.TextIOWrapper(
        raw if before.write_through else io.BufferedWriter(raw),  # with -u
        encoding=before.encoding,
        errors="backslashreplace" if before.errors == "strict" else before.errors,
        line_buffering=before.line_buffering,
        write_through=before.write_through,
    )


class _Lasting(io.FileIO):
    """A file descriptor that leads nowhere once nobody reads it."""

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
