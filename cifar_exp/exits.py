"""Exit codes, and the signals that stop a command in the same way as Ctrl-C."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

FAILED, REFUSED = 1, 2
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
"""Sent by Ctrl-C, an operator, a closing terminal, a batch system before a time limit, a limit on CPU time."""

_GROUP_SIGNALS = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)  # sent to all processes of a group
_SIGNALLED = 128
_SAME = 1.0  # seconds; one keystroke can reach a process in several ways
_REPEATED_AFTER = 0.05  # seconds

_received: list[int] = []
_raised_at: float | None = None
_delays = 0
_pending = False
_repeated = False


def stop_code() -> int:
    """Exit code of a command that a signal stopped, and ignore further signals while the process ends.

    The first received signal decides. The exception does not tell it: Ray replaces the KeyboardInterrupt by its own.

    Returns:
        128 + signal: 130 for Ctrl-C, 143 for SIGTERM.
    """
    for number in STOPPING:
        if signal.getsignal(number) is _on_signal:
            signal.signal(number, signal.SIG_IGN)
    return _SIGNALLED + (received() or [signal.SIGINT])[0]


def take_signals() -> None:
    """Let every signal in `STOPPING` raise KeyboardInterrupt in the main thread.

    Signals that are ignored, as under `nohup`, stay ignored. A KeyboardInterrupt that is raised where Python drops
    exceptions, as in the callbacks of the garbage collector, is raised once more a moment later.
    """
    global _raised_at
    _received.clear()
    _raised_at = None
    sys.unraisablehook = _on_dropped
    for number in STOPPING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _on_signal)


@contextmanager
def taken_signals() -> Iterator[None]:
    """Context manager that calls `take_signals` and puts back the handlers that were there before.

    In other threads than the main thread, which receive no signals, it has no effect.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, hook = {number: signal.getsignal(number) for number in STOPPING}, sys.unraisablehook
    take_signals()
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            if handler is not None:  # None: installed by other than Python code
                signal.signal(number, handler)
        _received.clear()


def received() -> list[int]:
    """Signals that this process received since `take_signals`, in order.

    They tell that a command was stopped even if other code replaced the KeyboardInterrupt by another exception, as an
    interrupted import does.
    """
    return list(_received)


@contextmanager
def delay_signals() -> Iterator[None]:
    """Context manager that delays the KeyboardInterrupt of a signal until its end, for example while a result is saved.

    It can be nested. In other threads than the main thread, which receive no signals, it has no effect.
    """
    global _delays, _pending
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _delays += 1
    try:
        yield
    finally:
        _delays -= 1
        raise_now = _pending and not _delays
        if raise_now:
            _pending = False
    if raise_now:
        _raise()


def stop_pending() -> bool:
    """Whether a signal came during `delay_signals`, so that code that waits should wait no longer."""
    return _pending


@contextmanager
def block_group_signals() -> Iterator[None]:
    """Context manager that blocks signals to the process group; processes started in it inherit the block.

    Such processes are ended by this process instead. Signals that come meanwhile are delivered afterwards.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _GROUP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_group_signals() -> None:
    """Ignore signals that a terminal or a batch system sends to the whole process group."""
    for number in _GROUP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _on_signal(number: int, frame: FrameType | None) -> None:
    global _pending, _repeated
    repeated, _repeated = _repeated, False
    if not repeated:
        _received.append(number)
        if _raised_at is not None and time.monotonic() - _raised_at < _SAME:
            return
    if _delays:
        _pending = True
    else:
        _raise()


def _raise() -> None:
    global _raised_at
    _raised_at = time.monotonic()
    raise KeyboardInterrupt


def _on_dropped(dropped: sys.UnraisableHookArgs) -> None:
    """Called with an exception that Python drops."""
    if _received and issubclass(dropped.exc_type, KeyboardInterrupt):
        again = threading.Timer(_REPEATED_AFTER, _repeat, (_received[-1],))  # raised here, it would be dropped again
        again.daemon = True
        again.start()
    else:
        sys.__unraisablehook__(dropped)


def _repeat(number: int) -> None:
    """Send a signal once more to the main thread, if it is still handled."""
    global _repeated
    thread = threading.main_thread().ident
    if thread is not None and signal.getsignal(number) is _on_signal:
        _repeated = True
        signal.pthread_kill(thread, number)
