"""Runs side by side: what differs between them, what they came to, and over repeated seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cifar_exp.errors import UserError, did_you_mean
from cifar_exp.review.paired import CONFIDENCE, Paired
from cifar_exp.review.run_record import RunRecord, value

if TYPE_CHECKING:
    import pandas as pd

# What says only where and how a run was started. Everything else that differs is shown.
_FREE = ("tracking.", "resume", "name", "note", "data.dir", "training.checkpoint.")
# Best and last, and what it cost.
METRICS = (
    "test/accuracy",
    "test/loss",
    "val/best_accuracy",
    "val/best_epoch",
    "val/accuracy",
    "val/loss",
    "train/seconds",
)
_MEANS = ("test/loss", "val/best_accuracy", "train/seconds")  # beside the accuracy, of a group
_MANY = 10  # tests, before it has to be said what many tests do
_SHORT = 12  # characters of a commit or digest

# What else may differ, and is a column then.
_SURROUNDINGS: Mapping[str, Callable[[RunRecord], str | None]] = {
    "parameters": lambda run: f"{run.metrics['model/parameters']:.0f}" if "model/parameters" in run.metrics else None,
    "device": lambda run: run.tags.get("cifar_exp.device"),
    "backend": lambda run: run.tags.get("cifar_exp.backend"),
    "commit": lambda run: _commit(run),
    "test images": lambda run: run.test_digest and run.test_digest[:_SHORT],
    "warning": lambda run: run.tags.get("cifar_exp.warning"),
}


@dataclass(frozen=True)
class Comparison:
    """A table, and what is to be said under it."""

    frame: pd.DataFrame
    differing: tuple[str, ...]
    """The columns of what differs."""
    notes: tuple[str, ...] = ()


def compare(runs: Sequence[RunRecord]) -> Comparison:
    """One row per run: run_id, name, what differs, METRICS, outcome, review, and status where one did not finish.

    Arguments that only one choice of a group has (`optimizer.momentum`, with `optimizer=sgd,adam`) are in the notes.
    """
    import pandas as pd

    differ = differing(runs)
    folded = _folded(runs, differ)
    columns: dict[str, list[Any]] = {"run_id": [run.id for run in runs], "name": [run.name for run in runs]}
    shown = {key: [value(key, run.params.get(key)) for run in runs] for key in differ if key not in folded}
    for name, told in _SURROUNDINGS.items():
        if len(set(values := [told(run) for run in runs])) > 1:
            shown[name] = [value(name, text) if name == "parameters" else text for text in values]
    columns |= shown
    for name in METRICS:
        columns[name] = [run.metrics.get(name) for run in runs]
    columns["outcome"] = [run.outcome for run in runs]
    columns["review"] = [run.review for run in runs]
    if len({run.status for run in runs}) > 1:
        columns["status"] = [run.status for run in runs]
    frame = pd.DataFrame(columns)
    frame[list(METRICS)] = frame[list(METRICS)].astype(float)
    return Comparison(frame, tuple(shown), tuple(_said_of(runs, folded)))


def differing(runs: Sequence[RunRecord]) -> list[str]:
    """The parameters that are not the same in all, in the order of conf/: model, optimizer, data, ..."""
    keys = dict.fromkeys(key for run in runs for key in run.params if not key.startswith(_FREE))
    return sorted(
        (key for key in keys if len({_logged(run, key) for run in runs}) > 1),
        key=lambda key: (_place(key), not key.endswith(".name"), key),
    )


def grouped(runs: Sequence[RunRecord], key: str = "seed") -> Comparison:
    """One row for the runs that are alike in every parameter but this one.

    Columns: name, what differs, n, mean, std, low and high (95 % confidence, t distribution) of the test accuracy,
    the means of other metrics, outcome and review (each with its number), the values of the key, run_ids. Of runs with
    the same value the last one counts. Runs without a test accuracy are left out.
    """
    import pandas as pd

    known = {name for run in runs for name in run.params}
    if key not in known:
        raise UserError(f"--group {key}: no such parameter{did_you_mean(key, known)}")
    measured = [run for run in runs if run.accuracy is not None]
    if not measured:
        raise UserError("none of these runs has a test accuracy")
    alike: dict[tuple[str, ...], dict[str, RunRecord]] = {}
    keys = sorted(name for name in known if not name.startswith(_FREE) and name != key)
    for run in sorted(measured, key=lambda run: run.began):
        same = alike.setdefault(tuple(_logged(run, name) for name in keys), {})
        same[_logged(run, key)] = run
    groups = [list(same.values()) for same in alike.values()]
    among = compare([group[0] for group in groups])
    columns = [name for name in among.differing if name != key]
    rows = pd.DataFrame([_group(group, key) for group in groups])
    frame = pd.concat([rows[["name"]], among.frame[columns], rows.drop(columns="name")], axis=1)
    interval = f"{CONFIDENCE * 100:.0f} % interval from the t distribution"
    notes = [*among.notes, f"mean, std: of test/accuracy over {key}; {interval}"]
    if left := len(measured) - sum(map(len, groups)):
        notes.append(f"{left} left out: a later run has the same {key}")
    if left := len(runs) - len(measured):
        notes.append(f"{left} left out: without a test accuracy")
    order = frame["mean"].sort_values(ascending=False).index
    return Comparison(frame.loc[order].reset_index(drop=True), tuple(columns), tuple(notes))


def against(comparison: Comparison, tests: Sequence[Paired | None]) -> Comparison:
    """With a paired test of each row against a baseline: difference, low, high, p_value, and its words as a note."""
    frame = comparison.frame.copy()
    at = list(frame.columns).index("test/accuracy") + 1
    columns: dict[str, list[float | None]] = {
        "difference": [test.difference if test else None for test in tests],
        "low": [test.interval[0] if test else None for test in tests],
        "high": [test.interval[1] if test else None for test in tests],
        "p_value": [test.p_value if test else None for test in tests],
    }
    for offset, (name, values) in enumerate(columns.items()):
        frame.insert(at + offset, name, values)
        frame[name] = frame[name].astype(float)
    said = [test.words for test in tests if test]
    if len(said) >= _MANY:
        said.append(f"Of {len(said)} such tests, chance alone makes one in 20 find a difference larger than chance.")
    return Comparison(frame, comparison.differing, (*comparison.notes, *said))


def _group(group: Sequence[RunRecord], key: str) -> dict[str, Any]:
    import numpy as np
    from scipy import stats

    accuracies = np.array([run.accuracy for run in group], dtype=float)
    n, mean = len(group), float(accuracies.mean())
    std = float(accuracies.std(ddof=1)) if n > 1 else None
    low = high = None
    if std is not None:
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * std / n**0.5
        low, high = mean - half, mean + half
    name = group[0].name.replace(f"-{key.rpartition('.')[2]}={group[0].params.get(key)}", "")
    means = {f"{metric}, mean": _mean(run.metrics.get(metric) for run in group) for metric in _MEANS}
    return {
        "name": name,
        "n": n,
        "mean": mean,
        "std": std,
        "low": low,
        "high": high,
        **means,
        "outcome": _counted(run.outcome for run in group),
        "review": _counted(run.review for run in group),
        key: " ".join(str(run.params.get(key)) for run in group),
        "run_ids": " ".join(run.id or "-" for run in group),
    }


def _folded(runs: Sequence[RunRecord], differ: Sequence[str]) -> dict[str, str]:
    """Arguments that not every choice of their group has, and that say no more than the choice -> its key."""
    found = {}
    for key in differ:
        choice = f"{key.partition('.')[0]}.name"
        if key == choice or choice not in differ:
            continue
        values: dict[str, set[str]] = {}
        for run in runs:
            values.setdefault(_logged(run, choice), set()).add(_logged(run, key))
        if all(len(each) == 1 for each in values.values()) and {"None"} in values.values():
            found[key] = choice
    return found


def _said_of(runs: Sequence[RunRecord], folded: Mapping[str, str]) -> list[str]:
    """`optimizer sgd: momentum 0.0, nesterov False`."""
    said: dict[tuple[str, str], dict[str, str]] = {}
    for run in runs:
        for key, choice in folded.items():
            if (logged := _logged(run, key)) != "None":
                said.setdefault((choice, _logged(run, choice)), {})[key.partition(".")[2]] = logged
    lines = []
    for (choice, name), arguments in said.items():
        listed = ", ".join(f"{key} {logged}" for key, logged in sorted(arguments.items()))
        lines.append(f"{choice.partition('.')[0]} {name}: {listed}")
    return lines


_ORDER = ("model", "optimizer", "augmentation", "data", "training", "seed")


def _place(key: str) -> int:
    group = key.partition(".")[0]
    return _ORDER.index(group) if group in _ORDER else len(_ORDER)


def _logged(run: RunRecord, key: str) -> str:
    return run.params.get(key, "None")


def _commit(run: RunRecord) -> str | None:
    dirty = "+" if run.tags.get("cifar_exp.git_dirty") == "true" else ""
    return run.tags.get("cifar_exp.git_commit", "")[:_SHORT] + dirty or None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [one for one in values if one is not None]
    return sum(known) / len(known) if known else None


def _counted(words: Iterable[str]) -> str:
    """`2 completed, 1 collapsed`, or the word alone if it is the same in all."""
    counts: dict[str, int] = {}
    for word in words:
        counts[word or "-"] = counts.get(word or "-", 0) + 1
    return next(iter(counts)) if len(counts) == 1 else ", ".join(f"{count} {word}" for word, count in counts.items())
