"""Terminal output of runs: log lines, and a progress bar for each run that is training."""

from __future__ import annotations

import html
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

from cifar_exp.errors import printable

_console = Console(soft_wrap=True, highlight=False, force_jupyter=False)  # lines as text, in a notebook as well
_log = logging.getLogger("cifar_exp")


class _Screen:
    """Terminal of this process."""

    def __init__(self) -> None:
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._cells: dict[str, Any] = {}  # title of a run -> handle of its bar in the output of a notebook's cell

    def line(self, text: str) -> None:
        """Print a line, above the progress bars if there are any."""
        say(text)

    def progress(self, title: str, epoch: int, epochs: int) -> None:
        """Move the progress bar of a run, in a terminal or a notebook. Elsewhere only log lines report the epochs."""
        if Console().is_jupyter:
            self._progress_in_notebook(title, epoch, epochs)
            return
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

    def end_progress(self, title: str) -> None:
        """Remove the progress bar of a run."""
        if title in self._cells:
            self._cells.pop(title).update({"text/html": ""}, raw=True)
        if self._bars is None or title not in self._tasks:
            return
        self._bars.remove_task(self._tasks.pop(title))
        if not self._tasks:
            self._bars.stop()
            self._bars = None

    def _progress_in_notebook(self, title: str, epoch: int, epochs: int) -> None:
        from IPython.display import display  # there is one in every notebook

        bar = f'<progress style="width: 40ex" max="{epochs}" value="{epoch}"></progress>'
        shown = {"text/html": f"{bar} epoch {epoch}/{epochs} of {html.escape(title)}", "text/plain": title}
        if title in self._cells:
            self._cells[title].update(shown, raw=True)
        else:
            self._cells[title] = display(shown, raw=True, display_id=True)


class _Forwarder:
    """Sends all output to another process, which prints it."""

    def __init__(self, send: Callable[..., None]) -> None:
        self._send = send

    def line(self, text: str) -> None:
        self._send("line", text)

    def progress(self, title: str, epoch: int, epochs: int) -> None:
        self._send("progress", title, epoch, epochs)

    def end_progress(self, title: str) -> None:
        self._send("end_progress", title)


_screen: _Screen | _Forwarder = _Screen()


def forward(send: Callable[..., None]) -> None:
    """Let another process print the output of this one.

    Args:
        send: called with the arguments that the other process must pass to `show`.
    """
    global _screen
    _screen = _Forwarder(send)


def show(method: str, *values: Any) -> None:
    """Show output that another process forwarded.

    Args:
        method: `"line"`, `"progress"` or `"end_progress"`.
        values: its arguments.
    """
    getattr(_screen, method)(*values)


class _LineHandler(logging.Handler):
    """Prints log records as plain lines."""

    def emit(self, record: logging.LogRecord) -> None:
        _screen.line(self.format(record))


def set_up() -> None:
    """Print the log records of the package. Further calls in the same process have no effect."""
    if not any(isinstance(handler, _LineHandler) for handler in _log.handlers):
        _log.addHandler(_LineHandler())
        _log.setLevel(logging.INFO)
        _log.propagate = False


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Context manager that also writes the log records of the package, with their times, to a file."""
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
    """Context manager that shows the progress of a training: a line per epoch, and in a terminal a progress bar.

    Args:
        title: of the run; each line begins with it.
        epochs: number of epochs of the whole training.
    """

    def __init__(self, title: str, epochs: int) -> None:
        self._title, self._epochs = title, epochs
        self._began = self._last = time.monotonic()
        self._skipped = 0

    def __enter__(self) -> EpochProgress:
        _screen.progress(self._title, 0, self._epochs)
        return self

    def __exit__(self, *error: object) -> None:
        _screen.end_progress(self._title)

    def skip(self, epochs: int) -> None:
        """Count epochs that were trained before the run was resumed."""
        self._skipped = epochs
        _screen.progress(self._title, epochs, self._epochs)

    def epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        """Report the end of an epoch.

        Args:
            epoch: number of the epoch, from 1.
            metrics: of this epoch, by the names under which they are logged.
        """
        _screen.progress(self._title, epoch, self._epochs)
        now = time.monotonic()
        seconds, self._last = now - self._last, now
        seconds_left = (self._epochs - epoch) * (now - self._began) / (epoch - self._skipped)
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
            f"  ETA {clock(seconds_left)}" if epoch < self._epochs else "",
        )


def say(text: str) -> None:
    """Print a text to stdout without logging it. It may hold names from a store, so that only its lines are kept."""
    try:
        _console.print("\n".join(map(printable, text.split("\n"))), markup=False)
    except BaseException:  # Ctrl-C or a full disk; rich keeps what it was writing and would print it again
        with _console.capture():
            pass
        raise


@cache
def say_once(text: str) -> None:
    """Print a line to stdout, only once per process for the same text."""
    say(text)


def refuse(reason: object) -> None:
    """Print an error message to stderr as one line."""
    print(f"cifar_exp: {printable(' '.join(str(reason).split()))}", file=sys.stderr)


def clock(seconds: float) -> str:
    """A duration as minutes and seconds, with hours if there are any: `1:02:03`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
