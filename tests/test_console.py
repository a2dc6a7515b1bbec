"""Tests of the terminal output: lines, progress bars, and both forwarded by other processes."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from cifar_exp import console


def capture_console(monkeypatch: pytest.MonkeyPatch, terminal: bool, written: io.StringIO | None = None) -> io.StringIO:
    """Replace the console by one that writes to the returned buffer, a new one by default."""
    written = written or io.StringIO()
    monkeypatch.setattr(
        console, "_console", Console(file=written, force_terminal=terminal, width=100, soft_wrap=True, highlight=False)
    )
    monkeypatch.setattr(console, "_screen", console._Screen())
    return written


def epoch(progress: console.EpochProgress, number: int) -> None:
    measured = dict.fromkeys(("train/loss", "train/accuracy", "val/loss", "val/accuracy"), 0.5)
    progress.epoch(number, measured | {"train/images_per_second": 1000.0})


def test_a_terminal_shows_a_progress_bar_for_each_run_below_the_log_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    written = capture_console(monkeypatch, terminal=True)
    console.set_up()
    with console.EpochProgress("[1/2] first", 5) as first, console.EpochProgress("[2/2] second", 7) as second:
        epoch(first, 1)
        second.skip(3)
        assert isinstance(console._screen, console._Screen) and console._screen._bars is not None
        console._screen._bars.refresh()  # rich does this ten times a second
        console.show("line", "[2/2] second  said")
        frame = written.getvalue().rpartition("said")[2]
        assert "[1/2] first" in frame and "epoch 1/5" in frame
        assert "[2/2] second" in frame and "epoch 3/7" in frame
    assert console._screen._bars is None
    console.show("line", "afterwards")
    assert written.getvalue().endswith("afterwards\n")


def test_without_a_terminal_only_lines_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    written = capture_console(monkeypatch, terminal=False)
    console.set_up()
    with console.EpochProgress("[1/2] first", 5) as first:
        epoch(first, 1)
        console.show("progress", "[2/2] second", 3, 7)
    (line,) = written.getvalue().splitlines()
    assert line.startswith("[1/2] first  epoch 1/5  loss 0.5000 ") and "ETA" in line


def test_a_line_during_which_a_signal_came_is_not_printed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(io.StringIO):
        """A file to which a first line is written when Ctrl-C is pressed."""

        pressed = False

        def flush(self) -> None:
            if not self.pressed:
                self.pressed = True
                raise KeyboardInterrupt

    written = Interrupted()
    capture_console(monkeypatch, terminal=False, written=written)
    with pytest.raises(KeyboardInterrupt):
        console.show("line", "first")
    console.show("line", "second")
    assert written.getvalue() == "first\nsecond\n"


def test_output_of_one_process_is_shown_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[Any, ...]] = []
    written = capture_console(monkeypatch, terminal=True)
    console.set_up()
    monkeypatch.setattr(console, "_screen", console._Forwarder(lambda *event: sent.append(event)))
    with console.EpochProgress("[1/1] run", 2) as progress:
        epoch(progress, 1)
    assert written.getvalue() == ""
    assert [event[0] for event in sent] == ["progress", "progress", "line", "end_progress"]

    monkeypatch.setattr(console, "_screen", console._Screen())
    for method, *values in sent:
        console.show(method, *values)
    assert "epoch 1/2" in written.getvalue() and "[1/1] run  epoch 1/2  loss 0.5000" in written.getvalue()


def test_names_from_elsewhere_do_not_control_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written = capture_console(monkeypatch, terminal=True)
    console.say("first \x1b[2J\x1b]0;x\x07\n  second \x9b1m")
    console.refuse("third\n\x1b[1;1H fourth")
    assert written.getvalue() == "first \ufffd[2J\ufffd]0;x\ufffd\n  second \ufffd1m\n"
    assert capsys.readouterr().err == "cifar_exp: third \ufffd[1;1H fourth\n"
