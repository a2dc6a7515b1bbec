"""Comparison of runs in one table: differing parameters and results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cifar_exp.review.paired import Paired
from cifar_exp.review.run_record import RunRecord, parse_param
from cifar_exp.tracking import run_tags

if TYPE_CHECKING:
    import pandas as pd

# Parameters that only say where and how a run was started. All other differences are shown.
IGNORED_PREFIXES = ("tracking.", "resume", "name", "note", "data.dir", "training.checkpoint.")
# Best and last results, and their cost.
METRICS = (
    "test/accuracy",
    "test/loss",
    "test/ece",
    "val/best_accuracy",
    "val/best_epoch",
    "val/accuracy",
    "val/loss",
    "train/seconds",
)
_SHORT_HASH = 12  # characters of a commit or digest that are shown

# Columns that are shown if they differ between the runs.
_OPTIONAL_COLUMNS: Mapping[str, Callable[[RunRecord], str | None]] = {
    "parameters": lambda run: f"{run.metrics['model/parameters']:.0f}" if "model/parameters" in run.metrics else None,
    "device": lambda run: run.tags.get(run_tags.DEVICE),
    "backend": lambda run: run.tags.get(run_tags.BACKEND),
    "commit": lambda run: _commit(run),
    "test images": lambda run: run.test_digest and run.test_digest[:_SHORT_HASH],
    "warning": lambda run: run.tags.get(run_tags.WARNING),
}
MEANS = ("test/loss", "val/best_accuracy", "train/seconds")  # of groups of runs, in addition to the test accuracy
_OWN_COLUMNS = frozenset(
    (
        *("run_id", "run_ids", "name", "n", "mean", "std", "low", "high", "difference", "p_value", "p_holm"),
        *("outcome", "review", "status", *METRICS, *(f"{metric}, mean" for metric in MEANS), *_OPTIONAL_COLUMNS),
    )
)


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
    shown = {
        column(key): [parse_param(key, run.params.get(key)) for run in runs] for key in differ if key not in folded
    }
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


def column(key: str) -> str:
    """Column of a parameter: its name, or `params.KEY` if another column has that name."""
    return f"params.{key}" if key in _OWN_COLUMNS else key


def differing(runs: Sequence[RunRecord]) -> list[str]:
    """Names of the parameters that differ between the runs, ordered by group: model, optimizer, augmentation, ..."""
    keys = dict.fromkeys(key for run in runs for key in run.params if not key.startswith(IGNORED_PREFIXES))
    return sorted(
        (key for key in keys if len({logged_param(run, key) for run in runs}) > 1),
        key=lambda key: (_group_order(key), not key.endswith(".name"), key),
    )


def with_paired_tests(comparison: Comparison, tests: Sequence[Paired | None]) -> Comparison:
    """Add the paired test of each run against a baseline.

    Args:
        comparison: of single runs.
        tests: one per row; `None` where there is no test.

    Returns:
        The comparison with the columns difference, low, high, p_value and, of several tests, p_holm, the p-value
        corrected for their number; and a sentence per test in the notes.
    """
    frame = comparison.frame.copy()
    position = list(frame.columns).index("test/accuracy") + 1
    columns: dict[str, list[float | None]] = {
        "difference": [test.difference if test else None for test in tests],
        "low": [test.interval[0] if test else None for test in tests],
        "high": [test.interval[1] if test else None for test in tests],
        "p_value": [test.p_value if test else None for test in tests],
    }
    if any(test and test.corrected is not None for test in tests):
        columns["p_holm"] = [test.corrected if test else None for test in tests]
    for offset, (name, values) in enumerate(columns.items()):
        frame.insert(position + offset, name, values)
        frame[name] = frame[name].astype(float)
    sentences = [test.words for test in tests if test]
    if "p_holm" in columns:
        sentences.append(
            "p_holm: the p-value corrected for the number of these pairs (Holm); low and high are of each pair alone."
        )
    return Comparison(frame, comparison.differing, (*comparison.notes, *sentences))


def _folded(runs: Sequence[RunRecord], differ: Sequence[str]) -> dict[str, str]:
    """Parameters that only some choices of their group have and that the choice determines -> key of the choice."""
    folded = {}
    for key in differ:
        choice = f"{key.partition('.')[0]}.name"
        if key == choice or choice not in differ:
            continue
        values: dict[str, set[str]] = {}
        for run in runs:
            values.setdefault(logged_param(run, choice), set()).add(logged_param(run, key))
        if all(len(each) == 1 for each in values.values()) and {"None"} in values.values():
            folded[key] = choice
    return folded


def _folded_notes(runs: Sequence[RunRecord], folded: Mapping[str, str]) -> list[str]:
    """Notes such as `optimizer sgd: momentum 0.0, nesterov False`."""
    arguments_by_choice: dict[tuple[str, str], dict[str, str]] = {}
    for run in runs:
        for key, choice in folded.items():
            if (logged := logged_param(run, key)) != "None":
                arguments = arguments_by_choice.setdefault((choice, logged_param(run, choice)), {})
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


def logged_param(run: RunRecord, key: str) -> str:
    """The parameter as it was logged; `"None"` if it was not."""
    return run.params.get(key, "None")


def _commit(run: RunRecord) -> str | None:
    dirty = "+" if run.tags.get(run_tags.GIT_DIRTY) == "true" else ""
    return run.tags.get(run_tags.GIT_COMMIT, "")[:_SHORT_HASH] + dirty or None
