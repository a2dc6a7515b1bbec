"""What the pages list: runs that are running, that were decided on, sweeps, and champions."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from mlflow.entities import ViewType
from mlflow.server import handlers

from cifar_exp.review import evaluations, promotion_records, query, remote, verdicts
from cifar_exp.review.evaluations import LoggedEvaluation
from cifar_exp.review.promotion_records import Promotion
from cifar_exp.server import audit, database, people, shown
from cifar_exp.server.shown import Progress, ShownRun
from cifar_exp.tracking import run_tags

if TYPE_CHECKING:
    from mlflow.entities import Run

RUNS = 500  # looked at for a list: the newest
DECIDED = 12
POINTS = 1000  # of a curve
_TOGETHER, _MOST_POINTS = 100, 25_000  # runs whose curves are read at once, and points of them all
EVENT_FIELDS = ("at", "who", "action", "text", "origin")  # of an entry of a history

Points = list[tuple[int, float]]


def search(experiment_ids: Sequence[str], condition: str, order: str = "attributes.end_time DESC") -> list[Run]:
    """The newest runs of some experiments that meet a condition in MLflow's syntax, of those that may have a model."""
    if not experiment_ids:
        return []
    found = database.tracking().search_runs(list(experiment_ids), condition, ViewType.ACTIVE_ONLY, RUNS, [order])
    return [run for run in found if query.has_model(run.data.tags)]


def running(experiment_ids: Sequence[str]) -> list[tuple[ShownRun, Progress]]:
    """Trainings that have not ended, with their progress."""
    found = search(experiment_ids, "attributes.status = 'RUNNING'", "attributes.start_time DESC")
    curves = histories([run.info.run_id for run in found], shown.CURVE)
    return [(shown.run(run), shown.progress(run, curves.get(run.info.run_id, []))) for run in found]


def histories(run_ids: Sequence[str], metric: str) -> dict[str, Points]:
    """(epoch, value) of a metric of several runs; of long curves about `POINTS`, with the first and the last."""
    found: dict[str, Points] = defaultdict(list)
    store = database.tracking()
    for first in range(0, len(run_ids), _TOGETHER):
        part = run_ids[first : first + _TOGETHER]
        points = store.get_metric_history_bulk(part, metric, _MOST_POINTS)
        if len(points) == _MOST_POINTS:  # some may be missing; a query for each run takes longer
            points = store.get_metric_history_bulk_interval(part, metric, POINTS, None, None)
        for point in points:
            found[point.run_id].append((point.step, point.value))
    return {run_id: sorted(points) for run_id, points in found.items()}


def sweep(experiment_id: str, name: str) -> list[Run]:
    """The jobs of a sweep, the most accurate first."""
    value = query.quoted(name)
    return query.by_accuracy(search([experiment_id], f"tags.`{run_tags.SWEEP}` = {value}")) if value else []


def evaluations_of(run: Run) -> list[LoggedEvaluation]:
    """Evaluations of a run, the newest first: those in its own experiment, which whoever may read the run may read."""
    condition = f"{evaluations.CONDITION} AND tags.`{run_tags.EVALUATES}` = '{run.info.run_id}'"
    ids, order = [run.info.experiment_id], [evaluations.NEWEST_FIRST]
    return evaluations.read(database.tracking().search_runs(ids, condition, ViewType.ACTIVE_ONLY, RUNS, order))


def decided(user: str) -> list[tuple[audit.Row, str, str]]:
    """Recent rows of the audit trail about runs and models that the user may read: (row, name, address)."""
    with database.tracking().engine.connect() as connection:
        number, _ = audit.head(connection)
        rows = audit.read(connection, after=max(0, number - 10 * DECIDED))
    listed: list[tuple[audit.Row, str, str]] = []
    for row in reversed(rows):
        if len(listed) < DECIDED and (named := _subject(user, row.subject)):
            listed.append((row, *named))
    return listed


def _subject(user: str, subject: str) -> tuple[str, str] | None:
    """Name and address of what a row is about, if the user may know of it."""
    kind, _, name = subject.partition(" ")
    if kind == "model":
        readable = people.may_read_model(user, name.rpartition("@")[0])
        return (name, f"/team/history?model={quote(name)}") if readable else None
    logged = database.run(name)
    if logged is None or not people.may_read_experiment(user, logged.info.experiment_id):
        return None
    return logged.info.run_name or name, f"/team/run?id={name}"


def champions(user: str) -> list[Promotion]:
    """The versions that have an alias now, of all registered models that the user may read, with their runs."""
    store = handlers._get_model_registry_store()
    found = []
    for model in store.search_registered_models(max_results=200):
        if people.may_read_model(user, model.name):
            for alias in sorted(model.aliases):
                given = promotion_records.history(database.ServerStore(""), model.name, alias)
                found += [one for one in given[-1:] if _may_read_run(user, one.run_id)]
    return found


def _may_read_run(user: str, run_id: str) -> bool:
    logged = database.run(run_id)
    return logged is None or people.may_read_experiment(user, logged.info.experiment_id)


def events(subject: str) -> list[dict[str, str]]:
    """History of a run or a model, the oldest first: what the audit trail has, and verdicts from before the rules."""
    with database.tracking().engine.connect() as connection:
        rows = audit.read(connection, [subject])
    found = [
        {"at": row.at, "who": row.who, "action": row.action, "text": _text(json.loads(row.after)), "origin": row.origin}
        for row in rows
    ]
    kept = {json.loads(row.after).get("tag") for row in rows}
    kind, _, run_id = subject.partition(" ")
    logged = database.run(run_id) if kind == "run" else None
    for key, value in logged.data.tags.items() if logged else ():
        for verdict in verdicts.in_tags({key: value}) if key not in kept else ():
            text = "; ".join(part for part in (verdict.note, verdict.even_though) if part)
            at = verdict.at.isoformat(timespec="milliseconds")
            found.append({"at": at, "who": verdict.by, "action": verdict.name, "text": text, "origin": remote.BEFORE})
    return sorted(found, key=lambda event: event["at"])


def _text(after: Mapping[str, Any]) -> str:
    """What was said, in one line."""
    against = f"even though {'; '.join(after.get('objections', []))}: " if after.get("even_though") else ""
    parts: Iterable[str] = (
        f"asks {after['reviewer']}" if after.get("reviewer") else "",
        f"version {after['version']}" if after.get("version") else "",
        f"it was version {after['was']}" if after.get("was") else "",
        *(str(after.get(key, "")) for key in ("note", "text", "why")),
        against + str(after.get("even_though", "")),
    )
    return ". ".join(part.rstrip(".") for part in parts if part)
