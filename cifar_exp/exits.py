"""Exit codes, and the signals that stop a command in the same way as Ctrl-C."""

from __future__ import annotations

import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from cifar_exp.errors import Diverged, OutOfMemory, UserError

FAILED, REFUSED = 1, 2
SIGNALLED = 128  # plus the number of the signal
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
"""Sent by Ctrl-C, an operator, a closing terminal, a batch system before a time limit, a limit on CPU time."""

_GROUP_SIGNALS = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)  # sent to all processes of a group
_SAME = 1.0  # seconds; one keystroke can reach a process in several ways
# Their C++ code calls functions of Python that should not raise KeyboardInterrupt: TensorFlow crashes or ignores it.
_FRAMEWORKS = frozenset({"jax", "keras", "tensorflow", "torch"})

_received: list[int] = []
_raised_at: float | None = None
_due = False  # whether a KeyboardInterrupt is still to be raised
_delays = 0
_on_stop: list[Callable[[], object]] = []


def stop_code() -> int:
    """Exit code of a command that a signal stopped, and ignore further signals while the process ends.

    The first received signal decides. The exception does not tell it: Ray replaces the KeyboardInterrupt by its own.

    Returns:
        128 + signal: 130 for Ctrl-C, 143 for SIGTERM.
    """
    for number in STOPPING:
        if signal.getsignal(number) is _on_signal:
            signal.signal(number, signal.SIG_IGN)
    return SIGNALLED + (received() or [signal.SIGINT])[0]


def explain(error: BaseException, stopped: str = "stopped") -> tuple[int, object]:
    """Exit code of a command that an exception has ended, and what to say about it in one line.

    Prints the traceback of an exception that nobody expected.

    Args:
        error: the exception.
        stopped: what to say if a signal has stopped the command.
    """
    if isinstance(error, UserError):
        return REFUSED, error
    if isinstance(error, KeyboardInterrupt):
        return stop_code(), stopped
    if isinstance(error, OSError | Diverged | OutOfMemory):  # OSError: a full disk, a folder without write permission
        return FAILED, f"failed: {error}"
    if received():  # other code replaced the KeyboardInterrupt by this exception
        return stop_code(), stopped
    traceback.print_exception(error)
    return FAILED, f"failed: {type(error).__name__}: {error}"


def take_signals() -> None:
    """Let every signal in `STOPPING` raise KeyboardInterrupt in the main thread.

    Signals that are ignored, as under `nohup`, stay ignored. While a deep-learning framework is called, the
    KeyboardInterrupt waits until it returns. Where Python drops it, as in the callbacks of weak references, it is
    raised once more.
    """
    global _raised_at, _due
    _received.clear()
    _raised_at, _due = None, False
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
    global _delays, _due
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _delays += 1
    try:
        yield
    finally:
        _delays -= 1
        raise_now = _due and not _delays
        if raise_now:
            _due = False
    if raise_now:
        _raise()


@contextmanager
def on_stop(end_early: Callable[[], object]) -> Iterator[None]:
    """Context manager that calls a function as soon as a signal comes, for example to end a long call of Keras.

    Args:
        end_early: is called between two instructions of any code, so it should only set a value.
    """
    _on_stop.append(end_early)
    try:
        yield
    finally:
        _on_stop.remove(end_early)


def stop_pending() -> bool:
    """Whether a signal came whose KeyboardInterrupt waits, so that code that takes long should end early."""
    return _due


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
    global _due
    _received.append(number)
    if _raised_at is not None and time.monotonic() - _raised_at < _SAME:
        return
    _due = True
    for end_early in _on_stop:
        end_early()
    if _delays:
        return
    if caller := _caller_of_framework(frame):
        _raise_at_next_line(caller)
    else:
        _raise()


def _on_dropped(dropped: sys.UnraisableHookArgs) -> None:
    """Called with an exception that Python drops, for example from a finalizer."""
    if _received and issubclass(dropped.exc_type, KeyboardInterrupt):
        frame = sys._getframe(1)
        _raise_at_next_line(_caller_of_framework(frame) or frame)
    else:
        sys.__unraisablehook__(dropped)


def _caller_of_framework(frame: FrameType | None) -> FrameType | None:
    """Frame that called the framework that is running, if one is: the outermost call counts."""
    caller = None
    while frame:
        module = str(frame.f_globals.get("__name__"))
        frame = frame.f_back
        if module.partition(".")[0] in _FRAMEWORKS:
            caller = frame
    return caller


def _raise_at_next_line(frame: FrameType) -> None:
    """Raise KeyboardInterrupt in a frame as soon as it goes on. Python ends the tracing when it is raised."""
    global _due
    _due = True
    frame.f_trace = lambda *_: _raise()
    sys.settrace(lambda *_: None)


def _raise() -> None:
    global _raised_at, _due
    _raised_at, _due = time.monotonic(), False
    raise KeyboardInterrupt
