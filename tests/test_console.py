"""What a person sees: lines, bars in a terminal, and both from other processes."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from cifar_exp import console


def shown(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> io.StringIO:
    """What is written from now on."""
    written = io.StringIO()
    monkeypatch.setattr(
        console, "_console", Console(file=written, force_terminal=terminal, width=100, soft_wrap=True, highlight=False)
    )
    monkeypatch.setattr(console, "_screen", console._Screen())
    return written


def epoch(progress: console.EpochProgress, number: int) -> None:
    measured = dict.fromkeys(("train/loss", "train/accuracy", "val/loss", "val/accuracy"), 0.5)
    progress.epoch(number, measured | {"train/images_per_second": 1000.0})


def test_a_terminal_has_a_bar_for_every_run_that_trains_below_their_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    written = shown(monkeypatch, terminal=True)
    console.set_up()
    with console.EpochProgress("[1/2] first", 5) as first, console.EpochProgress("[2/2] second", 7) as second:
        epoch(first, 1)
        second.skip(3)
        assert isinstance(console._screen, console._Screen) and console._screen._bars is not None
        console._screen._bars.refresh()  # as it does ten times a second
        console.show("line", "[2/2] second  said")
        frame = written.getvalue().rpartition("said")[2]
        assert "[1/2] first" in frame and "epoch 1/5" in frame
        assert "[2/2] second" in frame and "epoch 3/7" in frame
    assert console._screen._bars is None
    console.show("line", "afterwards")
    assert written.getvalue().endswith("afterwards\n")


def test_elsewhere_than_in_a_terminal_there_are_lines_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    written = shown(monkeypatch, terminal=False)
    console.set_up()
    with console.EpochProgress("[1/2] first", 5) as first:
        epoch(first, 1)
        console.show("progress", "[2/2] second", 3, 7)
    (line,) = written.getvalue().splitlines()
    assert line.startswith("[1/2] first  epoch 1/5  loss 0.5000 ") and "ETA" in line


def test_what_one_process_has_sent_another_one_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[Any, ...]] = []
    written = shown(monkeypatch, terminal=True)
    console.set_up()
    monkeypatch.setattr(console, "_screen", console._Elsewhere(lambda *event: sent.append(event)))
    with console.EpochProgress("[1/1] run", 2) as progress:
        epoch(progress, 1)
    assert written.getvalue() == ""
    assert [event[0] for event in sent] == ["progress", "progress", "line", "over"]

    monkeypatch.setattr(console, "_screen", console._Screen())
    for what, *values in sent:
        console.show(what, *values)
    assert "epoch 1/2" in written.getvalue() and "[1/1] run  epoch 1/2  loss 0.5000" in written.getvalue()
