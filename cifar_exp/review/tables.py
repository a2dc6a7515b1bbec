"""A comparison as text: for a terminal, Markdown, CSV, JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len

from cifar_exp.review.comparison import Comparison
from cifar_exp.review.paired import SMALLEST_P
from cifar_exp.review.query import SHORT

if TYPE_CHECKING:
    import pandas as pd

# Shown in one column of a terminal or page: the interval is one cell.
_INTERVAL = "95 % interval"
_FORMS = {"val/best_epoch": ".0f", "train/seconds": ".1f", "train/seconds, mean": ".1f", "n": ".0f", "std": ".4f"}
_HEADINGS = {
    "test/accuracy": "test\naccuracy",
    "test/loss": "test\nloss",
    "val/best_accuracy": "best val\naccuracy",
    "val/best_epoch": "best\nepoch",
    "val/accuracy": "last val\naccuracy",
    "val/loss": "last val\nloss",
    "train/seconds": "train\nseconds",
    "test/loss, mean": "mean\ntest loss",
    "val/best_accuracy, mean": "mean best\nval acc.",
    "train/seconds, mean": "mean\nseconds",
}
_FIRST_TO_GO = (
    "parameters",
    "commit",
    "backend",
    "val/best_epoch",
    "val/loss",
    "test/loss",
    "val/accuracy",
    "test/loss, mean",
    "val/best_accuracy, mean",
)
_SIGNED = ("difference", "low", "high")


def show(comparison: Comparison, width: int | None = None) -> str:
    """For a terminal of this width: without the columns that it has no room for."""
    left: list[str] = []
    lines = _aligned(comparison, left)
    for name in _FIRST_TO_GO:
        if width is None or max(map(cell_len, lines)) <= width:
            break
        if name in comparison.frame:
            left.append(name)
            lines = _aligned(comparison, left)
    lines += [printable(note) for note in comparison.notes]
    if left:
        lines.append(f"Without {', '.join(left)}, for lack of room; --csv has all.")
    return "\n".join(lines) + "\n"


def _aligned(comparison: Comparison, without: Sequence[str]) -> list[str]:
    """Headings in two lines, then the rows. (rich's own table takes seconds for a thousand.)"""
    headings, rows = cells(comparison, without)
    heads = [in_two_lines(printable(heading)).split("\n") for heading in headings]
    shown = [*([head[at] for head in heads] for at in (0, 1)), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(map(cell_len, column)) for column in zip(*shown, strict=True)]
    right = numeric(rows)
    lines = []
    for row in shown:
        padded = []
        for cell, width, to_the_right in zip(row, widths, right, strict=True):
            padding = " " * (width - cell_len(cell))
            padded.append(padding + cell if to_the_right else cell + padding)
        lines.append("  ".join(padded).rstrip())
    return lines


def in_two_lines(heading: str) -> str:
    """So that a column is as narrow as its numbers."""
    first, cut, rest = heading.rpartition(".")
    return _HEADINGS.get(heading) or (f"{first}{cut}\n{rest}" if cut else f"\n{heading}")


def markdown(comparison: Comparison) -> str:
    """A table, and the notes as a list."""
    headings, rows = cells(comparison)
    lines = ["| " + " | ".join(map(_escaped, headings)) + " |"]
    lines.append("| " + " | ".join("---:" if right else "---" for right in numeric(rows)) + " |")
    lines += ["| " + " | ".join(map(_escaped, row)) + " |" for row in rows]
    if comparison.notes:
        lines += ["", *(f"- {_escaped(note)}" for note in comparison.notes)]
    return "\n".join(lines) + "\n"


def csv(comparison: Comparison) -> str:
    """All columns, every digit."""
    written: str = comparison.frame.to_csv(index=False)
    return written


def as_json(comparison: Comparison) -> str:
    """A list of rows with all columns, every digit; null where there is nothing."""
    return json.dumps([dict(row) for row in _rows(comparison.frame)], indent=2, ensure_ascii=False) + "\n"


def cells(comparison: Comparison, without: Sequence[str] = ()) -> tuple[list[str], list[list[str]]]:
    """Headings and rows as a person reads them: short ids, four decimals, `low` and `high` in one cell."""
    frame = comparison.frame
    ids = [name for name in ("run_id",) if name in frame]
    names = [str(name) for name in frame.columns if name not in ("run_id", "run_ids", "high", *without)]
    headings = ["run"] * len(ids) + [_INTERVAL if name == "low" else name for name in names]
    rows = []
    for row in _rows(frame):
        shown = [str(row["run_id"] or "-")[:SHORT]] if ids else []
        rows.append([*shown, *(_cell(name, row) for name in names)])
    return headings, rows


def numeric(rows: Sequence[Sequence[str]]) -> list[bool]:
    """Whether a column is one of numbers, of each."""
    return [all(map(_is_number, column)) for column in zip(*rows, strict=True)]


def _cell(name: str, row: dict[str, Any]) -> str:
    value = row[name]
    if value is None or value == "":
        return "-"
    if name == "p_value" and value < SMALLEST_P:
        return f"<{SMALLEST_P}"
    if name == "low":
        sign = "+" if "difference" in row else ""
        return f"{value:{sign}.4f} to {row['high']:{sign}.4f}"
    if isinstance(value, float):
        form = _FORMS.get(name) or ("+.4f" if name in _SIGNED else ".4f" if _is_measured(name) else "g")
        return format(value, form)
    return str(value)


def _is_measured(name: str) -> bool:
    """Whether it is a metric, and no parameter."""
    return "/" in name or name in ("mean", "p_value")


def _rows(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Plain Python values, None where there is nothing."""
    for row in frame.astype(object).where(frame.notna(), None).to_dict("records"):
        yield {str(name): value.item() if hasattr(value, "item") else value for name, value in row.items()}


def _is_number(cell: str) -> bool:
    return cell == "-" or cell.lstrip("+-<").replace(".", "", 1).replace(",", "").isdigit() or " to " in cell


def printable(text: str) -> str:
    """What comes from a store moves no cursor and changes no colour."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _escaped(text: str) -> str:
    """As it is, in a cell of a Markdown table."""
    one_line = " ".join(text.split())
    return "".join(f"\\{c}" if c in r"\`*_[]<>|#" else c for c in one_line)
