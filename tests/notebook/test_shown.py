"""Tests of what a notebook shows: HTML in which nothing from a store is markup, and errors in one line."""

from __future__ import annotations

import html

import pytest

from cifar_exp.errors import Diverged, OutOfMemory, Stopped, UserError
from cifar_exp.notebook import shown
from cifar_exp.review import comparison
from cifar_exp.review.run_record import RunRecord

HOSTILE = "<script>alert('x')</script>\"onload=\"y"


def test_all_text_is_escaped() -> None:
    record = RunRecord(HOSTILE, HOSTILE, HOSTILE, 0, 1, {"model.name": HOSTILE}, {"val/loss": 1.0}, {}, None)
    other = RunRecord("b", "b", "FINISHED", 0, 1, {"model.name": "b"}, {"val/loss": 2.0}, {}, None)
    one = shown.run(HOSTILE, HOSTILE, HOSTILE, {"test/accuracy": 0.5}, HOSTILE, HOSTILE)
    several = shown.runs(comparison.compare([record, other]), [HOSTILE, None])
    for page in (one, several):
        assert "<script" not in page and '"onload' not in page
        assert html.escape("<script>") in page


def test_a_run_without_results_is_shown() -> None:
    assert "<b>bn</b> KILLED, interrupted" in shown.run("bn", "KILLED", "interrupted", {}, None, "")


@pytest.mark.parametrize(
    ("value", "text"), [(float("nan"), "nan"), (float("-inf"), "-inf"), (1234.0, "1,234"), (0.5, "0.5000")]
)
def test_a_loss_that_is_not_finite_is_shown(value: float, text: str) -> None:
    assert f"<td>{text}</td>" in shown.run("bn", "FAILED", "diverged", {"test/loss": value}, None, "")


@pytest.mark.parametrize("kind", [UserError, Diverged, OutOfMemory, Stopped])
def test_an_error_is_one_line_in_a_notebook(kind: type[BaseException], capsys: pytest.CaptureFixture[str]) -> None:
    interactiveshell = pytest.importorskip("IPython.core.interactiveshell")
    shell = interactiveshell.InteractiveShell()
    shell.push({"error": kind("loss is\nnan")})
    shell.run_cell("raise error")
    assert capsys.readouterr().out.splitlines() == [f"{kind.__name__}: loss is nan"]
