"""Comparisons as text: for the terminal, Markdown, CSV and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len

from cifar_exp.errors import printable, shorten
from cifar_exp.review.comparison import Comparison
from cifar_exp.review.paired import SMALLEST_P
from cifar_exp.review.query import SHORT_ID

if TYPE_CHECKING:
    import pandas as pd

# Heading of the single cell that shows `low` and `high`.
_INTERVAL = "95 % interval"
_FORMS = {"val/best_epoch": ".0f", "train/seconds": ".1f", "train/seconds, mean": ".1f", "n": ".0f", "std": ".4f"}
_HEADINGS = {
    "test/accuracy": "test\naccuracy",
    "test/loss": "test\nloss",
    "test/ece": "calibration\nerror",
    "val/best_accuracy": "best val\naccuracy",
    "val/best_epoch": "best\nepoch",
    "val/accuracy": "last val\naccuracy",
    "val/loss": "last val\nloss",
    "train/seconds": "train\nseconds",
    "test/loss, mean": "mean\ntest loss",
    "val/best_accuracy, mean": "mean best\nval acc.",
    "train/seconds, mean": "mean\nseconds",
}
# Columns that are hidden first if the terminal is too narrow.
_HIDDEN_FIRST = (
    "parameters",
    "commit",
    "backend",
    "val/best_epoch",
    "val/loss",
    "test/ece",
    "test/loss",
    "val/accuracy",
    "test/loss, mean",
    "val/best_accuracy, mean",
)
_LONGEST_CELL = 60  # characters, in a terminal
_SIGNED = ("difference", "low", "high")
_P_VALUES = ("p_value", "p_holm")


def to_text(comparison: Comparison, width: int | None = None) -> str:
    """Format a comparison for the terminal.

    Args:
        comparison: to be shown.
        width: of the terminal, in characters. Long names are cut, and less important columns are hidden if the table is
            wider.
    """
    hidden: list[str] = []
    lines = _aligned_lines(comparison, hidden, cut=width is not None)
    for name in _HIDDEN_FIRST:
        if width is None or max(map(cell_len, lines)) <= width:
            break
        if name in comparison.frame:
            hidden.append(name)
            lines = _aligned_lines(comparison, hidden, cut=True)
    lines += [printable(note) for note in comparison.notes]
    if hidden:
        lines.append(f"Hidden for lack of space: {', '.join(hidden)}. --csv prints all columns.")
    return "\n".join(lines) + "\n"


def _aligned_lines(comparison: Comparison, hidden: Sequence[str], cut: bool) -> list[str]:
    """Headings in two lines, then the rows. (A table of rich takes seconds for a thousand rows.)"""
    headings, rows = cells(comparison, hidden)
    if cut:
        rows = [[shorten(cell, _LONGEST_CELL) for cell in row] for row in rows]
    heads = [in_two_lines(printable(heading)).split("\n") for heading in headings]
    shown = [*([head[at] for head in heads] for at in (0, 1)), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(map(cell_len, column)) for column in zip(*shown, strict=True)]
    align_right = numeric_columns(headings, rows)
    lines = []
    for row in shown:
        padded = []
        for cell, width, right in zip(row, widths, align_right, strict=True):
            padding = " " * (width - cell_len(cell))
            padded.append(padding + cell if right else cell + padding)
        lines.append("  ".join(padded).rstrip())
    return lines


def in_two_lines(heading: str) -> str:
    """Split a heading into two lines, so that its column is not wider than necessary."""
    first, dot, rest = heading.rpartition(".")
    return _HEADINGS.get(heading) or (f"{first}{dot}\n{rest}" if dot else f"\n{heading}")


def to_markdown(comparison: Comparison) -> str:
    """Format a comparison as a Markdown table, followed by a list of its notes."""
    headings, rows = cells(comparison)
    lines = ["| " + " | ".join(map(escaped, headings)) + " |"]
    lines.append("| " + " | ".join("---:" if right else "---" for right in numeric_columns(headings, rows)) + " |")
    lines += ["| " + " | ".join(map(escaped, row)) + " |" for row in rows]
    if comparison.notes:
        lines += ["", *(f"- {escaped(note)}" for note in comparison.notes)]
    return "\n".join(lines) + "\n"


def to_csv(comparison: Comparison) -> str:
    """Format a comparison as CSV with all columns, in full precision."""
    text: str = comparison.frame.to_csv(index=False)
    return text


def to_json(comparison: Comparison) -> str:
    """Format a comparison as a JSON list of rows with all columns, in full precision; missing values are null."""
    return json.dumps([dict(row) for row in _rows(comparison.frame)], indent=2, ensure_ascii=False) + "\n"


def cells(comparison: Comparison, hidden: Sequence[str] = ()) -> tuple[list[str], list[list[str]]]:
    """Format a comparison for display: short ids, four decimals, `low` and `high` in one cell.

    Args:
        comparison: to be shown.
        hidden: columns to leave out.

    Returns:
        Headings, and rows of as many cells.
    """
    frame = comparison.frame
    ids = [name for name in ("run_id",) if name in frame]
    names = [str(name) for name in frame.columns if name not in ("run_id", "run_ids", "high", *hidden)]
    headings = ["run"] * len(ids) + [_INTERVAL if name == "low" else name for name in names]
    rows = []
    for row in _rows(frame):
        shown = [str(row["run_id"] or "-")[:SHORT_ID]] if ids else []
        rows.append([*shown, *(_cell(name, row) for name in names)])
    return headings, rows


def numeric_columns(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[bool]:
    """Whether each column contains only numbers below its heading."""
    return [all(map(_is_number, column)) for _, *column in zip(headings, *rows, strict=True)]


def _cell(name: str, row: dict[str, Any]) -> str:
    value = row[name]
    if value is None or value == "":
        return "-"
    if name in _P_VALUES and value < SMALLEST_P:
        return f"<{SMALLEST_P}"
    if name == "low":
        sign = "+" if "difference" in row else ""
        return f"{value:{sign}.4f} to {row['high']:{sign}.4f}"
    if isinstance(value, float):
        form = _FORMS.get(name) or ("+.4f" if name in _SIGNED else ".4f" if _is_measured(name) else "g")
        return format(value, form)
    return str(value)


def _is_measured(name: str) -> bool:
    """Whether a column holds measured values, as opposed to parameters."""
    return "/" in name or name in ("mean", *_P_VALUES)


def _rows(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Rows as plain Python values; missing values are `None`."""
    for row in frame.astype(object).where(frame.notna(), None).to_dict("records"):
        yield {str(name): value.item() if hasattr(value, "item") else value for name, value in row.items()}


def _is_number(cell: str) -> bool:
    return cell == "-" or cell.lstrip("+-<").replace(".", "", 1).replace(",", "").isdigit() or " to " in cell


def escaped(text: str) -> str:
    """Escape text for Markdown, also for a cell of a table; it becomes one line."""
    one_line = printable(" ".join(text.split()))
    return "".join(f"\\{c}" if c in r"\`*_[]<>|#" else c for c in one_line)
