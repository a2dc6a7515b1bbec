"""Comparison of runs in one table: differing parameters, results, and statistics over repeated seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cifar_exp.errors import UserError, did_you_mean
from cifar_exp.review.paired import CONFIDENCE, Paired
from cifar_exp.review.run_record import RunRecord, parse_param

if TYPE_CHECKING:
    import pandas as pd

# Parameters that only say where and how a run was started. All other differences are shown.
_IGNORED_PREFIXES = ("tracking.", "resume", "name", "note", "data.dir", "training.checkpoint.")
# Best and last results, and their cost.
METRICS = (
    "test/accuracy",
    "test/loss",
    "val/best_accuracy",
    "val/best_epoch",
    "val/accuracy",
    "val/loss",
    "train/seconds",
)
_GROUP_MEANS = ("test/loss", "val/best_accuracy", "train/seconds")  # shown in addition to the test accuracy
_MANY_TESTS = 10  # from here on, a note warns of false positives
_SHORT_HASH = 12  # characters of a commit or digest that are shown

# Columns that are shown if they differ between the runs.
_OPTIONAL_COLUMNS: Mapping[str, Callable[[RunRecord], str | None]] = {
    "parameters": lambda run: f"{run.metrics['model/parameters']:.0f}" if "model/parameters" in run.metrics else None,
    "device": lambda run: run.tags.get("cifar_exp.device"),
    "backend": lambda run: run.tags.get("cifar_exp.backend"),
    "commit": lambda run: _commit(run),
    "test images": lambda run: run.test_digest and run.test_digest[:_SHORT_HASH],
    "warning": lambda run: run.tags.get("cifar_exp.warning"),
}


@dataclass(frozen=True)
class Comparison:
    """A table of runs.

    Attributes:
        frame: one row per run or group of runs.
        differing: columns of the parameters that differ.
        notes: sentences to be shown below the table.
    """

    frame: pd.DataFrame
    differing: tuple[str, ...]
    notes: tuple[str, ...] = ()


def compare(runs: Sequence[RunRecord]) -> Comparison:
    """Compare runs.

    Returns:
        One row per run: run_id, name, the parameters that differ, `METRICS`, outcome, review, and status if it differs.
        Parameters that only one choice of a group has (`optimizer.momentum`, with `optimizer=sgd,adam`) are in the
        notes.
    """
    import pandas as pd

    differ = differing(runs)
    folded = _folded(runs, differ)
    columns: dict[str, list[Any]] = {"run_id": [run.id for run in runs], "name": [run.name for run in runs]}
    shown = {key: [parse_param(key, run.params.get(key)) for run in runs] for key in differ if key not in folded}
    for name, read in _OPTIONAL_COLUMNS.items():
        if len(set(values := [read(run) for run in runs])) > 1:
            shown[name] = [parse_param(name, text) if name == "parameters" else text for text in values]
    columns |= shown
    for name in METRICS:
        columns[name] = [run.metrics.get(name) for run in runs]
    columns["outcome"] = [run.outcome for run in runs]
    columns["review"] = [run.review for run in runs]
    if len({run.status for run in runs}) > 1:
        columns["status"] = [run.status for run in runs]
    frame = pd.DataFrame(columns)
    frame[list(METRICS)] = frame[list(METRICS)].astype(float)
    return Comparison(frame, tuple(shown), tuple(_folded_notes(runs, folded)))


def differing(runs: Sequence[RunRecord]) -> list[str]:
    """Names of the parameters that differ between the runs, ordered by group: model, optimizer, augmentation, ..."""
    keys = dict.fromkeys(key for run in runs for key in run.params if not key.startswith(_IGNORED_PREFIXES))
    return sorted(
        (key for key in keys if len({_param(run, key) for run in runs}) > 1),
        key=lambda key: (_group_order(key), not key.endswith(".name"), key),
    )


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
    runs_by_params: dict[tuple[str, ...], dict[str, RunRecord]] = {}
    keys = sorted(name for name in param_names if not name.startswith(_IGNORED_PREFIXES) and name != key)
    for run in sorted(measured, key=lambda run: run.start_time):
        by_value = runs_by_params.setdefault(tuple(_param(run, name) for name in keys), {})
        by_value[_param(run, key)] = run
    groups = [list(by_value.values()) for by_value in runs_by_params.values()]
    between_groups = compare([group[0] for group in groups])
    columns = [name for name in between_groups.differing if name != key]
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


def with_paired_tests(comparison: Comparison, tests: Sequence[Paired | None]) -> Comparison:
    """Add the paired test of each run against a baseline.

    Args:
        comparison: of single runs.
        tests: one per row; `None` where there is no test.

    Returns:
        The comparison with the columns difference, low, high and p_value, and a sentence per test in the notes.
    """
    frame = comparison.frame.copy()
    position = list(frame.columns).index("test/accuracy") + 1
    columns: dict[str, list[float | None]] = {
        "difference": [test.difference if test else None for test in tests],
        "low": [test.interval[0] if test else None for test in tests],
        "high": [test.interval[1] if test else None for test in tests],
        "p_value": [test.p_value if test else None for test in tests],
    }
    for offset, (name, values) in enumerate(columns.items()):
        frame.insert(position + offset, name, values)
        frame[name] = frame[name].astype(float)
    sentences = [test.words for test in tests if test]
    if len(sentences) >= _MANY_TESTS:
        sentences.append(f"Of {len(sentences)} such tests, about one in 20 finds a difference by chance alone.")
    return Comparison(frame, comparison.differing, (*comparison.notes, *sentences))


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
    means = {f"{metric}, mean": _mean(run.metrics.get(metric) for run in group) for metric in _GROUP_MEANS}
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
        key: " ".join(str(run.params.get(key)) for run in group),
        "run_ids": " ".join(run.id or "-" for run in group),
    }


def _folded(runs: Sequence[RunRecord], differ: Sequence[str]) -> dict[str, str]:
    """Parameters that only some choices of their group have and that the choice determines -> key of the choice."""
    folded = {}
    for key in differ:
        choice = f"{key.partition('.')[0]}.name"
        if key == choice or choice not in differ:
            continue
        values: dict[str, set[str]] = {}
        for run in runs:
            values.setdefault(_param(run, choice), set()).add(_param(run, key))
        if all(len(each) == 1 for each in values.values()) and {"None"} in values.values():
            folded[key] = choice
    return folded


def _folded_notes(runs: Sequence[RunRecord], folded: Mapping[str, str]) -> list[str]:
    """Notes such as `optimizer sgd: momentum 0.0, nesterov False`."""
    arguments_by_choice: dict[tuple[str, str], dict[str, str]] = {}
    for run in runs:
        for key, choice in folded.items():
            if (logged := _param(run, key)) != "None":
                arguments = arguments_by_choice.setdefault((choice, _param(run, choice)), {})
                arguments[key.partition(".")[2]] = logged
    lines = []
    for (choice, name), arguments in arguments_by_choice.items():
        listed = ", ".join(f"{key} {logged}" for key, logged in sorted(arguments.items()))
        lines.append(f"{choice.partition('.')[0]} {name}: {listed}")
    return lines


_ORDER = ("model", "optimizer", "augmentation", "data", "training", "seed")


def _group_order(key: str) -> int:
    group = key.partition(".")[0]
    return _ORDER.index(group) if group in _ORDER else len(_ORDER)


def _param(run: RunRecord, key: str) -> str:
    return run.params.get(key, "None")


def _commit(run: RunRecord) -> str | None:
    dirty = "+" if run.tags.get("cifar_exp.git_dirty") == "true" else ""
    return run.tags.get("cifar_exp.git_commit", "")[:_SHORT_HASH] + dirty or None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [one for one in values if one is not None]
    return sum(known) / len(known) if known else None


def _count_values(values: Iterable[str]) -> str:
    """Counts such as `2 completed, 1 collapsed`, or the value alone if all are equal."""
    counts: dict[str, int] = {}
    for value in values:
        counts[value or "-"] = counts.get(value or "-", 0) + 1
    return next(iter(counts)) if len(counts) == 1 else ", ".join(f"{count} {value}" for value, count in counts.items())
