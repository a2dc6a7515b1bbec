"""Runs that differ in one parameter only, such as the seed or the fold: mean and interval of their test accuracies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cifar_exp.errors import UserError, did_you_mean
from cifar_exp.evaluation.intervals import CONFIDENCE
from cifar_exp.review.comparison import IGNORED_PREFIXES, MEANS, Comparison, column, compare, logged_param

if TYPE_CHECKING:
    from cifar_exp.review.run_record import RunRecord

# parameters that repeat a training -> what their values are called
REPETITIONS: Mapping[str, str] = {"data.fold": "folds", "seed": "seeds"}
_SENTENCES = 10  # groups that are described in words


def grouped(runs: Sequence[RunRecord], key: str = "seed") -> Comparison:
    """Group runs that differ in one parameter only, with statistics of the test accuracy.

    Args:
        runs: to be grouped. Runs without a test accuracy are left out. Of several runs of a group with the same value
            of `key`, only the latest counts.
        key: parameter that may differ within a group.

    Returns:
        One row per group: name, the parameters that differ between groups; n, mean, std, low and high (95 % confidence
        interval, t distribution) of the test accuracy; means of other metrics; outcome and review with their counts;
        the values of `key`; run_ids.

    Raises:
        UserError: if no run has the parameter, or none has a test accuracy.
    """
    import pandas as pd

    param_names = {name for run in runs for name in run.params}
    if key not in param_names:
        raise UserError(f"--group {key}: no such parameter{did_you_mean(key, param_names)}")
    measured = [run for run in runs if run.accuracy is not None]
    if not measured:
        raise UserError("none of these runs has a test accuracy")
    groups = _groups(measured, key)
    between_groups = compare([group[0] for group in groups])
    columns = [name for name in between_groups.differing if name != column(key)]
    rows = pd.DataFrame([_group_row(group, key) for group in groups])
    frame = pd.concat([rows[["name"]], between_groups.frame[columns], rows.drop(columns="name")], axis=1)
    interval = f"{CONFIDENCE * 100:.0f} % interval from the t distribution"
    notes = [*between_groups.notes, f"mean, std: of test/accuracy over {key}; {interval}"]
    if repeated := len(measured) - sum(map(len, groups)):
        notes.append(f"{repeated} left out: a later run has the same {key}")
    if unmeasured := len(runs) - len(measured):
        notes.append(f"{unmeasured} left out: without a test accuracy")
    order = frame["mean"].sort_values(ascending=False).index
    return Comparison(frame.loc[order].reset_index(drop=True), tuple(columns), tuple(notes))


def repeated(runs: Sequence[RunRecord], key: str) -> list[list[RunRecord]]:
    """Groups of at least two runs with a test accuracy that differ in the fold, or in the seed, only.

    Args:
        runs: to be grouped.
        key: of `REPETITIONS`. Runs without cross-validation have no fold.
    """
    measured = [run for run in runs if run.accuracy is not None]
    if key == "data.fold":
        measured = [run for run in measured if logged_param(run, "data.folds") != "None"]
    return [group for group in _groups(measured, key) if len(group) > 1]


def sentences(runs: Sequence[RunRecord]) -> list[str]:
    """Mean and interval of the test accuracy over the folds and the seeds of these runs, one sentence per group."""
    told = []
    for key, values in REPETITIONS.items():
        rows = sorted((_group_row(group, key) for group in repeated(runs, key)), key=lambda row: -row["mean"])
        told += [
            f"{row['name']}: mean test accuracy {row['mean']:.4f} over {row['n']} {values} "
            f"({CONFIDENCE * 100:.0f} % interval {row['low']:.4f} to {row['high']:.4f}, t distribution)"
            for row in rows[:_SENTENCES]
        ]
        if len(rows) > _SENTENCES:
            told.append(f"and {len(rows) - _SENTENCES:,} more over {values}: --group {key}")
    return told


def _groups(runs: Sequence[RunRecord], key: str) -> list[list[RunRecord]]:
    """Runs whose parameters are equal but for `key`, the latest of each value of it, in the order of their start."""
    keys = sorted({name for run in runs for name in run.params if not name.startswith(IGNORED_PREFIXES)} - {key})
    runs_by_params: dict[tuple[str, ...], dict[str, RunRecord]] = {}
    for run in sorted(runs, key=lambda run: run.start_time):
        by_value = runs_by_params.setdefault(tuple(logged_param(run, name) for name in keys), {})
        by_value[logged_param(run, key)] = run
    return [list(by_value.values()) for by_value in runs_by_params.values()]


def _group_row(group: Sequence[RunRecord], key: str) -> dict[str, Any]:
    import numpy as np
    from scipy import stats

    accuracies = np.array([run.accuracy for run in group], dtype=float)
    n, mean = len(group), float(accuracies.mean())
    std = float(accuracies.std(ddof=1)) if n > 1 else None
    low = high = None
    if std is not None:
        half_width = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * std / n**0.5
        low, high = mean - half_width, mean + half_width
    name = group[0].name.replace(f"-{key.rpartition('.')[2]}={group[0].params.get(key)}", "")
    means = {f"{metric}, mean": _mean(run.metrics.get(metric) for run in group) for metric in MEANS}
    return {
        "name": name,
        "n": n,
        "mean": mean,
        "std": std,
        "low": low,
        "high": high,
        **means,
        "outcome": _count_values(run.outcome for run in group),
        "review": _count_values(run.review for run in group),
        column(key): " ".join(str(run.params.get(key)) for run in group),
        "run_ids": " ".join(run.id or "-" for run in group),
    }


def _mean(values: Iterable[float | None]) -> float | None:
    known = [one for one in values if one is not None]
    return sum(known) / len(known) if known else None


def _count_values(values: Iterable[str]) -> str:
    """Counts such as `2 completed, 1 collapsed`, or the value alone if all are equal."""
    counts: dict[str, int] = {}
    for value in values:
        counts[value or "-"] = counts.get(value or "-", 0) + 1
    return next(iter(counts)) if len(counts) == 1 else ", ".join(f"{count} {value}" for value, count in counts.items())
