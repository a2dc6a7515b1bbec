"""How a command ends: its exit code, and SIGTERM as Ctrl-C."""

from __future__ import annotations

import signal
from types import FrameType

FAILED, REFUSED = 1, 2
_SIGNALLED = 128
_stopped_by = signal.SIGINT


def of_stop() -> int:
    """The code of what a KeyboardInterrupt ended: 130 by Ctrl-C, 143 by SIGTERM.

    Not told by the exception: Ray raises one of its own in place of the one that it was interrupted by.
    """
    return _SIGNALLED + _stopped_by


def take_signals() -> None:
    """Let SIGTERM raise KeyboardInterrupt in the main thread."""
    signal.signal(signal.SIGTERM, _terminate)


def _terminate(number: int, frame: FrameType | None) -> None:
    global _stopped_by
    _stopped_by = signal.SIGTERM
    raise KeyboardInterrupt
