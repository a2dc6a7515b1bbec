"""How a command ends: its exit code, and the signals that stop it as Ctrl-C does."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

FAILED, REFUSED = 1, 2
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
"""Ctrl-C, an operator, a terminal that closes, the warnings of batch systems, a limit on CPU time."""

_TO_GROUPS = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)  # terminals and Slurm: to every process
_SIGNALLED = 128
_SAME = 1.0  # seconds; one keystroke reaches a process in several ways

_received: list[int] = []
_raised_at: float | None = None
_held = 0
_hurried = False


def of_stop() -> int:
    """The exit code of what a KeyboardInterrupt ended, 128 + signal: 130 by Ctrl-C, 143 by SIGTERM.

    Not told by the exception: Ray raises one of its own in place of the one that it was interrupted by. Nothing is left
    to be stopped then: further signals are ignored while the process ends.
    """
    for number in STOPPING:
        if signal.getsignal(number) is _stop:
            signal.signal(number, signal.SIG_IGN)
    return _SIGNALLED + (received() or [signal.SIGINT])[0]


def take_signals() -> None:
    """Let every signal that asks a process to end raise KeyboardInterrupt in the main thread.

    One that is ignored stays so, as `nohup` has it.
    """
    global _raised_at
    _received.clear()
    _raised_at = None
    for number in STOPPING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


def received() -> list[int]:
    """The signals that have asked this process to end, the first one first.

    Code in between may have made another exception of the KeyboardInterrupt: an import that is interrupted does.
    """
    return list(_received)


@contextmanager
def held() -> Iterator[None]:
    """Write the end of something down: a signal that comes meanwhile raises KeyboardInterrupt after it."""
    global _held, _hurried
    if threading.current_thread() is not threading.main_thread():  # no signal reaches it
        yield
        return
    _held += 1
    try:
        yield
    finally:
        _held -= 1
        late = _hurried and not _held
        if late:
            _hurried = False
    if late:
        _raise()


def hurried() -> bool:
    """Whether a signal has come while others are held: what may take less time then should."""
    return _hurried


@contextmanager
def blocked() -> Iterator[None]:
    """Start processes that signals to the whole group do not reach: this process has them end.

    What comes meanwhile is delivered afterwards.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _TO_GROUPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_to_parent() -> None:
    """Ignore what a terminal or a batch system sends to the whole group."""
    for number in _TO_GROUPS:
        signal.signal(number, signal.SIG_IGN)


def _stop(number: int, frame: FrameType | None) -> None:
    global _hurried
    _received.append(number)
    if _raised_at is not None and time.monotonic() - _raised_at < _SAME:
        return
    if _held:
        _hurried = True
    else:
        _raise()


def _raise() -> None:
    global _raised_at
    _raised_at = time.monotonic()
    raise KeyboardInterrupt
