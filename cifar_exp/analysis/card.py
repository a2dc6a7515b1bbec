"""The card of a run: what its model is for, what it learned from, what was measured, and what was not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cifar_exp.analysis import ensemble_run, slices
from cifar_exp.errors import UserError
from cifar_exp.evaluation import intervals
from cifar_exp.review import evaluations, run_record, tables, verdicts
from cifar_exp.review.comparison import IGNORED_PREFIXES
from cifar_exp.review.evaluations import LoggedEvaluation
from cifar_exp.tracking import fetch, run_tags
from cifar_exp.tracking.store import Store
from cifar_exp.tracking.untrusted import parse_json

if TYPE_CHECKING:
    from mlflow.entities import Run

_ENVIRONMENT, _ENVIRONMENT_BYTES = "config/environment.txt", 1 << 18
_SLICES_BYTES = 1 << 20
_LISTED_SLICES = 8
_CALIBRATION: Mapping[str, str] = {
    "test/nll": "negative log-likelihood, nats",
    "test/brier": "Brier score",
    "test/ece": "expected calibration error",
    "test/ece_adaptive": "expected calibration error, bins of equal counts",
    "test/ece_scaled": "expected calibration error after temperature scaling",
    "val/temperature": "temperature, fitted on the validation images",
}
_RESULTS: Mapping[str, str] = {
    "test/balanced_accuracy": "balanced accuracy",
    "test/f1_macro": "macro F1",
    "test/loss": "mean cross-entropy, nats",
}
_BEST: Mapping[str, str] = {"val/best_accuracy": "best accuracy of an epoch", "val/best_epoch": "that epoch"}
_VALIDATION: Mapping[str, str] = {
    "val/accuracy": "accuracy",
    "val/loss": "mean cross-entropy, nats",
}


@dataclass(frozen=True)
class Table:
    """Rows of text."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Section:
    """A part of the card.

    Attributes:
        title: of the section.
        paragraphs: above its table.
        table: its figures, if any.
        code: a command, if any.
    """

    title: str
    paragraphs: tuple[str, ...] = ()
    table: Table | None = None
    code: str = ""


@dataclass(frozen=True)
class Card:
    """All that a card says of a run. It holds only what was logged.

    Attributes:
        title: name of the run.
        subtitle: its id, owner, outcome and review.
        sections: in their order.
    """

    title: str
    subtitle: str
    sections: tuple[Section, ...]


def read(store: Store, run: Run, defaults: Mapping[str, Any]) -> Card:
    """Collect what was logged of a run.

    Args:
        store: contains the run.
        run: the run; not the parent run of a sweep.
        defaults: parameters of a run without overrides, as they would be logged.

    Raises:
        UserError: if the run is a sweep, or the store cannot be read.
    """
    verdicts.check_reviewable(run)
    info, tags, metrics = run.info, run.data.tags, run.data.metrics
    parts = [
        _intended_use(run),
        _data(run),
        _recipe(run, defaults),
        _results(run),
        _of_classes(metrics),
        _named("Calibration", metrics, _CALIBRATION, "On the test images, unless said otherwise."),
        _slices(store, run),
        *_evaluations(evaluations.of_runs(store, [run])),
        _environment(store, run),
        _reproduce(run),
    ]
    known = [part for part in parts if part]
    outcome = tags.get(run_tags.OUTCOME, "outcome unknown")
    subtitle = f"run {info.run_id}, by {verdicts.owner(run) or 'unknown'}; {outcome}, {verdicts.state(run)}"
    return Card(str(info.run_name), subtitle, (*known, _limits(run, {part.title for part in known})))


def _intended_use(run: Run) -> Section:
    note = run.data.params.get("note")
    stated = note if note and note != "None" else 'Not stated. A run states it with note="...".'
    given = verdicts.history(run)
    reviews = [f"Reviewed: {' '.join(line.strip() for line in verdict.lines)}." for verdict in given]
    return Section("Intended use", (stated, *reviews))


def _data(run: Run) -> Section | None:
    rows = []
    for entry in run.inputs.dataset_inputs if run.inputs else []:
        dataset = entry.dataset
        profile, source = _json(dataset.profile), _json(dataset.source)
        tags = source["tags"] if isinstance(source.get("tags"), dict) else {}
        where = source.get("url") or source.get("uri") or tags.get("mlflow.source.name") or ""
        shape = profile.get("shape")
        size = " x ".join(map(str, shape[1:])) if isinstance(shape, list) else ""
        rows.append((dataset.name, str(profile.get("images", "")), size, str(dataset.digest), str(where)))
    if not rows:
        return None
    return Section("Data", (), Table(("data set", "images", "shape", "SHA-256 (start)", "source"), tuple(rows)))


def _recipe(run: Run, defaults: Mapping[str, Any]) -> Section:
    params = run.data.params
    if run.data.tags.get(run_tags.KIND) == run_tags.ENSEMBLE_KIND:
        rows = tuple((str(member), str(weight)) for member, weight in ensemble_run.members(run).items())
        how = f"An ensemble: mean of the {params.get('ensemble.mean', '')} of its members."
        return Section("Recipe", (how,), Table(("member", "weight"), rows))
    differing = [
        (key, value, str(defaults[key]) if key in defaults else "-")
        for key, value in sorted(params.items())
        if not key.startswith(IGNORED_PREFIXES) and value != str(defaults.get(key))
    ]
    if not differing:
        return Section("Recipe", ("All settings are the defaults.",))
    head = f"The {len(differing)} settings that differ from the defaults; all settings are in config/config.yaml."
    return Section("Recipe", (head,), Table(("setting", "value", "default"), tuple(differing)))


def _results(run: Run) -> Section | None:
    metrics, rows = run.data.metrics, []
    images = run_record.images(run, "test")
    if (accuracy := metrics.get("test/accuracy")) is not None:
        found = intervals.of_accuracy(accuracy, images)
        interval = f"{found[0]:.4f} to {found[1]:.4f} (Wilson, {images:,} images)" if found else ""
        rows.append(("test", "accuracy", f"{accuracy:.4f}", interval))
    of_epoch = "validation" if ensemble_run.members(run) else "validation, last epoch"
    for split, names in (("test", _RESULTS), ("validation", _BEST), (of_epoch, _VALIDATION)):
        rows += [(split, text, _number(metrics[name]), "") for name, text in names.items() if name in metrics]
    about = {"model/parameters": "parameters", "train/seconds": "seconds of training"}
    rows += [("model", text, f"{metrics[name]:,.0f}", "") for name, text in about.items() if name in metrics]
    gain = [f"Gain over its best member: {metrics['ensemble/gain']:+.4f}."] if "ensemble/gain" in metrics else []
    return (
        Section("Results", tuple(gain), Table(("on", "what", "value", "95 % interval"), tuple(rows))) if rows else None
    )


def _of_classes(metrics: Mapping[str, float]) -> Section | None:
    prefix = "test/recall/"
    names = [name.removeprefix(prefix) for name in metrics if name.startswith(prefix)]
    columns = ("recall", "precision", "f1", "support")
    rows = tuple(
        (name, *(_number(metrics[key]) if (key := f"test/{column}/{name}") in metrics else "-" for column in columns))
        for name in names
    )
    return Section("Classes", ("On the test images.",), Table(("class", *columns), rows)) if rows else None


def _named(title: str, metrics: Mapping[str, float], names: Mapping[str, str], head: str) -> Section | None:
    rows = tuple((text, _number(metrics[name]), name) for name, text in names.items() if name in metrics)
    return Section(title, (head,), Table(("what", "value", "metric"), rows)) if rows else None


def _slices(store: Store, run: Run) -> Section | None:
    try:
        found = slices.parse(fetch.file(store, run, slices.FILE, _SLICES_BYTES))
    except (UserError, ValueError):  # the card says that they were not measured
        return None
    compared = slices.table(found, _LISTED_SLICES)
    if not found:
        return Section("Slices", compared.notes)
    headings, rows = tables.cells(compared, ("p_value",))
    head = f"The {len(rows)} least accurate of {len(found)} parts of the test images."
    return Section("Slices", (head, *compared.notes), Table(tuple(headings), tuple(tuple(row) for row in rows)))


def _evaluations(found: Sequence[LoggedEvaluation]) -> list[Section]:
    """What `cifar-exp evaluate` has measured: accuracies, and robustness."""
    accuracies, robustness = [], []
    for one in found:
        accuracies.append((one.images, f"{one.accuracy:.4f}", one.interval_in_words))
        if one.corruption_error is not None:
            robustness.append((one.images, "mean corruption error", one.corruption_error_in_words))
        for attack, epsilon, accuracy in one.attacks:
            robustness.append((one.images, f"accuracy under {attack}, epsilon {epsilon}/255", f"{accuracy:.4f}"))
    tables_of = {
        "Evaluations": Table(("on", "accuracy", "95 % interval"), tuple(accuracies)),
        "Robustness": Table(("on", "what", "value"), tuple(robustness)),
    }
    return [Section(title, (), table) for title, table in tables_of.items() if table.rows]


def _environment(store: Store, run: Run) -> Section | None:
    try:
        text = fetch.file(store, run, _ENVIRONMENT, _ENVIRONMENT_BYTES).decode(errors="replace")
    except UserError:
        text = ""
    rows = [_split(line) for line in text.partition("\n\n")[0].splitlines() if line.strip()]
    packages = [_split(line.replace("==", " ")) for line in text.partition("\n\n")[2].splitlines()]
    rows += [row for row in packages if row[0].lower() in ("keras", "mlflow", "numpy", "tensorflow", "jax", "torch")]
    return Section("Environment", (), Table(("what", "version"), tuple(rows))) if rows else None


def _split(line: str) -> tuple[str, str]:
    name, _, value = line.partition(" ")
    return name, value


def _reproduce(run: Run) -> Section:
    tags = run.data.tags
    commit = tags.get(run_tags.GIT_COMMIT, "unknown")
    dirty = " with uncommitted changes" if tags.get(run_tags.GIT_DIRTY) == "true" else ""
    again = "" if tags.get(run_tags.COMMAND) else f"\ncifar-exp reproduce {run.info.run_id}"
    return Section("How to reproduce", (f"Commit {commit}{dirty}.",), None, f"{run_record.command(tags)}{again}")


def _limits(run: Run, measured: set[str]) -> Section:
    """What speaks against the run, what its figures do not show, and what was not measured."""
    limits = [f"An approval needs a reason: {objection}." for objection in verdicts.objections(run)]
    if warning := run.data.tags.get(run_tags.WARNING):
        limits.append(f"Warning: {warning}.")
    if "seed" in run.data.params:
        limits.append(
            f"One training, with seed {run.data.params['seed']}. The interval of the accuracy is over test images; "
            "another seed gives another model."
        )
    if run.data.params.get("ensemble.selected") == "True":
        limits.append("Its members were chosen on the validation images, which makes its results on these too good.")
    missing = [title for title in ("Results", "Calibration", "Slices", "Robustness") if title not in measured]
    if missing:
        limits.append(f"Not measured, or not logged: {', '.join(missing).lower()}.")
    return Section("Known limits", tuple(limits) or ("None are logged.",))


def _json(text: str | None) -> dict[str, Any]:
    """A logged JSON object; empty if it is none."""
    try:
        value = parse_json(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) > 1 else f"{value:.4f}"
