"""How a command ends: its exit code, and SIGTERM as Ctrl-C."""

from __future__ import annotations

import signal
from types import FrameType

FAILED, REFUSED = 1, 2
_SIGNALLED = 128


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command the way Ctrl-C does."""


def of_stop(stop: KeyboardInterrupt) -> int:
    """The code of what was stopped: 130 by Ctrl-C, 143 by SIGTERM."""
    return _SIGNALLED + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)


def take_signals() -> None:
    """Let SIGTERM raise Terminated in the main thread."""
    signal.signal(signal.SIGTERM, _terminate)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated
