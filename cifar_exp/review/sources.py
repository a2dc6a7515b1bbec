"""Tables that compare the reported results of the published experiments with the logged runs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich.table import Table

from cifar_exp.review import published
from cifar_exp.review.published import Entry, FinishedRun
from cifar_exp.review.query import SHORT_ID
from cifar_exp.tracking import run_tags
from cifar_exp.tracking.store import Store

NOT_RUN = "not run"
EXPECTED = (-0.07, 0.02)  # range of accuracy differences that need no remark

_MIN_RANKED = 3

Row = Mapping[str, Any]


def table(entries: Sequence[Entry], matched: Mapping[str, Sequence[FinishedRun]], store: Store) -> pd.DataFrame:
    """Compare published experiments with their runs.

    Args:
        entries: published experiments.
        matched: name of an entry -> its runs.
        store: contains the runs.

    Returns:
        One row per entry: name; scored (test or val); accuracy, loss and seconds per epoch (means over the runs), and
        source_accuracy, source_loss and source_seconds as reported; difference (of the accuracies); rank and
        source_rank among the rows that have both accuracies; runs, collapsed (counts); run_ids, seeds, accuracies,
        devices and images (one item per run, the newest first); remark; overrides.
    """
    frame = pd.DataFrame([_row(entry, matched.get(entry.name, []), store) for entry in entries])
    numeric = ["source_accuracy", "accuracy", "source_loss", "loss", "source_seconds", "seconds"]
    frame[numeric] = frame[numeric].astype(float)
    frame.insert(4, "difference", frame["accuracy"] - frame["source_accuracy"])
    both = frame["difference"].notna()
    for prefix in ("source_", ""):
        ranks = frame.loc[both, f"{prefix}accuracy"].rank(ascending=False, method="min")
        frame[f"{prefix}rank"] = ranks.reindex(frame.index).astype("Int64")
    return frame


def correlation(frame: pd.DataFrame) -> float | None:
    """Spearman's rank correlation between the sources' accuracies and ours; `None` for fewer than three entries."""
    both = frame.loc[frame["difference"].notna(), ["source_accuracy", "accuracy"]]
    if len(both) < _MIN_RANKED:
        return None
    value = both["source_accuracy"].rank().corr(both["accuracy"].rank())
    return float(value) if pd.notna(value) else None


def terminal(frame: pd.DataFrame) -> Table:
    """Format the table for a terminal of 120 columns."""
    shown = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    shown.add_column("\nname", no_wrap=True)
    shown.add_column("\non", no_wrap=True)
    for heading in ("accuracy\nsource", "\nours", "\ndiff.", "loss\nsource", "\nours", "s/epoch\nsource", "\nours"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for heading in ("rank\nsource", "\nours"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("\nrun")
    for row in _rows(frame):
        count = f" ({row['runs']})" if row["runs"] > 1 else ""
        shown.add_row(*_cells(row, _ours(row) + count), _run_cell(row))
    return shown


def markdown(frame: pd.DataFrame, store: Store, note: str = "") -> str:
    """Format the table as the page docs/experiments.md.

    Args:
        frame: as returned by `table`.
        store: named on the page.
        note: additional sentence below the introduction.
    """
    head = ["experiment", "on", "accuracy: source", "ours", "difference", "loss: source", "ours"]
    head += ["s/epoch: source", "ours", "rank: source", "ours", "run", "seed"]
    lines = ["| " + " | ".join(head) + " |", "| --- | --- |" + " ---: |" * (len(head) - 4) + " --- | --- |"]
    footnotes: list[str] = []
    for row in _rows(frame):
        ours = _ours(row).replace("*", "\\*")
        if row["runs"] > 1:
            ours += f" ({row['runs']} runs: {', '.join(f'{value:.4f}' for value in row['accuracies'])})"
        cells = _cells(row, ours)
        if row["remark"]:
            footnotes.append(f"[^{len(footnotes) + 1}]: {row['remark']}")
            cells[0] += f"[^{len(footnotes)}]"
        run = _run_cell(row, every=True)
        lines.append("| " + " | ".join([*cells, run, ", ".join(row["seeds"])]) + " |")
    introduction = (
        "Each experiment of [conf/experiment](../conf/experiment) as its source reports it, beside the finished runs "
        "of it: those that have every one of its settings, and its number of parameters. This page is what "
        "`cifar-exp sources --markdown` prints; `cifar-exp sources --run` runs what is missing."
    )
    listed_notes = [f"- {line}".replace("*", "\\*") for line in notes(frame, store)]
    parts = [["# Published experiments"], [introduction], [note] if note else [], lines, listed_notes, footnotes]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def notes(frame: pd.DataFrame, store: Store) -> list[str]:
    """Sentences to be shown below the table."""
    value, both = correlation(frame), int(frame["difference"].notna().sum())
    sentences = [
        f"{(frame['runs'] > 0).sum()} of {len(frame)} have a finished run in experiment {store.experiment!r}.",
        f"Ranking: Spearman correlation {value:.2f} between the sources' and ours, over {both} with both accuracies."
        if value is not None
        else f"Ranking: none, {both} with both accuracies.",
        "on: what the source scored last, and we beside it; val is the validation set after the last epoch.",
    ]
    if devices := _distinct(frame["devices"]):
        sentences.append(f"s/epoch: ours is the median, on {', '.join(devices)}.")
    if (frame["runs"] > 1).any():
        sentences.append("Of several runs it is the mean.")
    if any(_distinct(frame["images"])):
        sentences.append("* Not measured on the official images; which they were is recorded with each run.")
    low, high = EXPECTED
    outside = (frame["difference"] < low) | (frame["difference"] > high)
    if names := list(frame.loc[outside & (frame["remark"] == ""), "name"]):
        sentences.append(
            f"Outside {low:+} to {high:+} of the source's accuracy, and without a remark: {', '.join(names)}."
        )
    return sentences


def remarks(frame: pd.DataFrame) -> list[str]:
    """Explanations of differences from the source, one line per entry that has one."""
    return [f"{row['name']}: {row['remark']}" for row in _rows(frame) if row["remark"]]


def csv(frame: pd.DataFrame) -> str:
    """Format the table as CSV with all columns. Items of lists are separated by spaces or, in texts, by semicolons."""
    lists = ["run_ids", "seeds", "accuracies", "overrides"]
    texts = frame.assign(**{name: frame[name].map(lambda items: " ".join(map(str, items))) for name in lists})
    for name in ("devices", "images"):
        texts[name] = frame[name].map(lambda items: "; ".join(dict.fromkeys(items)))
    return texts.to_csv(index=False)


def _printed_loss(run: FinishedRun, scored: str) -> float | None:
    """What Keras's `evaluate` prints as the loss, which the sources report: with the penalties of the layers."""
    metrics = run.metrics
    return metrics.get(f"{scored}/objective", metrics.get(f"{scored}/loss"))  # earlier versions logged only the latter


def _row(entry: Entry, runs: Sequence[FinishedRun], store: Store) -> dict[str, object]:
    accuracies = [run.metrics[f"{entry.scored}/accuracy"] for run in runs]
    losses = [value for run in runs if (value := _printed_loss(run, entry.scored)) is not None]
    seconds = [value for run in runs if (value := published.epoch_seconds(store, run)) is not None]
    return {
        "name": entry.name,
        "scored": entry.scored,
        "source_accuracy": entry.reference.accuracy,
        "accuracy": statistics.fmean(accuracies) if accuracies else None,
        "source_loss": entry.reference.loss,
        "loss": statistics.fmean(losses) if losses else None,
        "source_seconds": entry.reference.seconds,
        "seconds": statistics.fmean(seconds) if seconds else None,
        "runs": len(runs),
        "run_ids": [run.id for run in runs],
        "seeds": [run.params.get("seed", "?") for run in runs],
        "accuracies": accuracies,
        "collapsed": sum(run.tags.get(run_tags.OUTCOME) == run_tags.COLLAPSED for run in runs),
        "devices": [run.tags.get(run_tags.DEVICE, "?") for run in runs],
        "images": [run.images for run in runs],
        "remark": entry.reference.remark or "",
        "overrides": entry.overrides,
    }


def _rows(frame: pd.DataFrame) -> list[Row]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _cells(row: Row, ours: str) -> list[str]:
    """Cells up to the ranks, as in both tables."""
    cells = [str(row["name"]), str(row["scored"]), _number(row["source_accuracy"], ".4f"), ours]
    cells += [_number(row["difference"], "+.4f"), _number(row["source_loss"], ".4f"), _number(row["loss"], ".4f")]
    cells += [_number(row[key], ".1f" if row[key] < 100 else ".0f") for key in ("source_seconds", "seconds")]
    return [*cells, _number(row["source_rank"], "d"), _number(row["rank"], "d")]


def _ours(row: Row) -> str:
    return _number(row["accuracy"], ".4f") + ("*" if any(row["images"]) else "")


def _number(value: Any, form: str) -> str:
    return format(value, form) if pd.notna(value) else "-"


def _run_cell(row: Row, every: bool = False) -> str:
    runs, collapsed, ids = row["runs"], row["collapsed"], row["run_ids"]
    if not ids:
        return NOT_RUN
    shown = ", ".join(run_id[:SHORT_ID] for run_id in (ids if every else ids[:1]))
    if collapsed:
        shown += f" {run_tags.COLLAPSED}" if collapsed == runs else f" {collapsed} {run_tags.COLLAPSED}"
    return shown


def _distinct(lists: pd.Series) -> list[str]:
    return list(dict.fromkeys(item for items in lists for item in items))
