"""What a person sees while it runs: lines, and in a terminal a bar for every run that trains, which keeps moving."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_console = Console(soft_wrap=True, highlight=False)
_log = logging.getLogger("cifar_exp")


class _Screen:
    """Shows it here."""

    def __init__(self) -> None:
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def line(self, text: str) -> None:
        """Above the bars, where there are any."""
        _console.print(text, markup=False)

    def progress(self, title: str, epoch: int, epochs: int) -> None:
        """So far a run has come; where this is no terminal, its lines say so."""
        if not _console.is_terminal:
            return
        if self._bars is None:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("epoch {task.completed:.0f}/{task.total:.0f}"),
                TimeElapsedColumn(),
                TextColumn("ETA"),
                TimeRemainingColumn(elapsed_when_finished=False),
            )
            self._bars = Progress(*columns, console=_console, transient=True)
            self._bars.start()
        if title not in self._tasks:
            self._tasks[title] = self._bars.add_task(title, total=epochs)
        self._bars.update(self._tasks[title], completed=epoch)

    def over(self, title: str) -> None:
        """This run trains no more."""
        if self._bars is None or title not in self._tasks:
            return
        self._bars.remove_task(self._tasks.pop(title))
        if not self._tasks:
            self._bars.stop()
            self._bars = None


class _Elsewhere:
    """Sends it to the process that shows it."""

    def __init__(self, send: Callable[..., None]) -> None:
        self._send = send

    def line(self, text: str) -> None:
        self._send("line", text)

    def progress(self, title: str, epoch: int, epochs: int) -> None:
        self._send("progress", title, epoch, epochs)

    def over(self, title: str) -> None:
        self._send("over", title)


_screen: _Screen | _Elsewhere = _Screen()


def show_elsewhere(send: Callable[..., None]) -> None:
    """Let another process show what this one would: `send` brings it there, where it is given to `show`."""
    global _screen
    _screen = _Elsewhere(send)


def show(what: str, *values: Any) -> None:
    """What another process has sent here."""
    getattr(_screen, what)(*values)


class _Lines(logging.Handler):
    """Log records as plain lines."""

    def emit(self, record: logging.LogRecord) -> None:
        _screen.line(self.format(record))


def set_up() -> None:
    """Show what the package logs; once a process."""
    if not any(isinstance(handler, _Lines) for handler in _log.handlers):
        _log.addHandler(_Lines())
        _log.setLevel(logging.INFO)
        _log.propagate = False


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Write what the package logs to this file too, with times."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    _log.addHandler(handler)
    try:
        yield
    finally:
        _log.removeHandler(handler)
        handler.close()


class EpochProgress:
    """One line an epoch, and in a terminal a bar below them with the time that is left."""

    def __init__(self, title: str, epochs: int) -> None:
        self._title, self._epochs = title, epochs
        self._began = self._last = time.monotonic()
        self._skipped = 0

    def __enter__(self) -> EpochProgress:
        _screen.progress(self._title, 0, self._epochs)
        return self

    def __exit__(self, *error: object) -> None:
        _screen.over(self._title)

    def skip(self, epochs: int) -> None:
        """So many were trained before."""
        self._skipped = epochs
        _screen.progress(self._title, epochs, self._epochs)

    def epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        """This epoch has ended."""
        _screen.progress(self._title, epoch, self._epochs)
        now = time.monotonic()
        seconds, self._last = now - self._last, now
        left = (self._epochs - epoch) * (now - self._began) / (epoch - self._skipped)
        _log.info(
            "%s  epoch %*d/%d  loss %.4f  accuracy %.4f  val_loss %.4f  val_accuracy %.4f  %.1f s  %s images/s%s",
            self._title,
            len(str(self._epochs)),
            epoch,
            self._epochs,
            metrics["train/loss"],
            metrics["train/accuracy"],
            metrics["val/loss"],
            metrics["val/accuracy"],
            seconds,
            f"{metrics['train/images_per_second']:,.0f}",
            f"  ETA {_clock(left)}" if epoch < self._epochs else "",
        )


def say(text: str) -> None:
    """A line for the person at the terminal, not for the log."""
    _console.print(text, markup=False)


@cache
def say_once(text: str) -> None:
    """A line for the person at the terminal, however often it is said."""
    say(text)


def refuse(reason: object) -> None:
    """The one line of a refusal, on stderr."""
    print(f"cifar_exp: {' '.join(str(reason).split())}", file=sys.stderr)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
