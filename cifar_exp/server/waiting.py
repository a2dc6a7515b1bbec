"""The queue: runs that wait for a review.

MLflow's search reads every parameter and metric of each run, a second for 500 runs. Which of them wait is read from
their tags alone; only the runs that are shown are read whole.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow.entities import ViewType
from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlRun, SqlTag
from sqlalchemy import or_, select

from cifar_exp.review import query, remarks, verdicts
from cifar_exp.server import database, shown
from cifar_exp.server.shown import ShownRun
from cifar_exp.tracking import run_tags

if TYPE_CHECKING:
    from mlflow.entities import Run

RUNS = 500  # looked at: the newest
GROUPS = 20  # shown
BEST = 3  # runs of a sweep that are shown
_WAITING = (verdicts.UNREVIEWED, verdicts.RERUN)


@dataclass(frozen=True)
class Waiting:
    """Runs of one sweep, or a single run, that wait for a review.

    Attributes:
        sweep: name of the sweep; empty for a single run.
        experiment_id: of the runs.
        runs: the best ones.
        others: how many more wait.
    """

    sweep: str
    experiment_id: str
    runs: tuple[ShownRun, ...]
    others: int


@dataclass(frozen=True)
class Queue:
    """What waits for a review.

    Attributes:
        groups: first what the reader was asked for, then the newest sweep first; at most `GROUPS`.
        others: how many more sweeps and single runs wait.
    """

    groups: tuple[Waiting, ...]
    others: int


@dataclass(frozen=True)
class _Candidate:
    run_id: str
    experiment_id: str
    tags: dict[str, str]
    accuracy: float

    @property
    def state(self) -> str:
        given = verdicts.in_tags(self.tags)
        return given[-1].state if given else verdicts.UNREVIEWED


def queue(user: str, experiment_ids: Sequence[str]) -> Queue:
    """What waits for a review among the newest finished runs of some experiments.

    Args:
        user: the reader.
        experiment_ids: those that the reader may read.
    """
    candidates = _candidates(experiment_ids) if experiment_ids else []
    approved = _whole([one for one in candidates if one.state == verdicts.APPROVED])
    changed = {run_id for run_id, run in approved.items() if verdicts.state(run) in _WAITING}
    groups: dict[tuple[str, str], list[_Candidate]] = defaultdict(list)
    for one in candidates:
        if one.state in _WAITING or one.run_id in changed:
            groups[one.experiment_id, one.tags.get(run_tags.SWEEP) or one.run_id].append(one)

    def is_asked(one: _Candidate) -> bool:
        return user in remarks.asked(one.tags)

    ordered = sorted(groups.values(), key=lambda group: not any(map(is_asked, group)))
    best = [sorted(group, key=lambda one: (not is_asked(one), -one.accuracy))[:BEST] for group in ordered[:GROUPS]]
    runs = _whole([one for group in best for one in group])
    listed = []
    for group, chosen in zip(ordered, best, strict=False):
        found = tuple(shown.run(runs[one.run_id]) for one in chosen if one.run_id in runs)
        sweep = group[0].tags.get(run_tags.SWEEP, "")
        listed.append(Waiting(sweep, group[0].experiment_id, found, len(group) - len(chosen)))
    return Queue(tuple(listed), len(ordered) - len(listed))


def _candidates(experiment_ids: Sequence[str]) -> list[_Candidate]:
    """The newest finished runs that have a model to review."""
    newest = (
        select(SqlRun.run_uuid, SqlRun.experiment_id)
        .where(
            SqlRun.experiment_id.in_([int(one) for one in experiment_ids]),
            SqlRun.status == "FINISHED",
            SqlRun.lifecycle_stage == "active",
        )
        .order_by(SqlRun.end_time.desc(), SqlRun.run_uuid)
        .limit(RUNS)
    )
    with database.tracking().engine.connect() as connection:
        runs = connection.execute(newest).all()
        ids = [run_id for run_id, _ in runs]
        own = (run_tags.SWEEP, run_tags.KIND, run_tags.OUTCOME)
        needed = or_(SqlTag.key.startswith("review."), SqlTag.key.in_(own))
        tags: dict[str, dict[str, str]] = defaultdict(dict)
        of_runs = select(SqlTag.run_uuid, SqlTag.key, SqlTag.value).where(SqlTag.run_uuid.in_(ids), needed)
        for run_id, key, value in connection.execute(of_runs):
            tags[run_id][key] = value
        metric = select(SqlLatestMetric.run_uuid, SqlLatestMetric.value).where(
            SqlLatestMetric.run_uuid.in_(ids), SqlLatestMetric.key == shown.ACCURACY
        )
        accuracies = {run_id: value for run_id, value in connection.execute(metric)}
    return [
        _Candidate(run_id, str(experiment_id), tags[run_id], accuracies.get(run_id, 0.0))
        for run_id, experiment_id in runs
        if query.has_model(tags[run_id]) and tags[run_id].get(run_tags.OUTCOME) != run_tags.PRUNED
    ]


def _whole(candidates: Sequence[_Candidate]) -> dict[str, Run]:
    """Run id -> run with everything that it has logged."""
    if not candidates:
        return {}
    ids = ", ".join(f"'{one.run_id}'" for one in candidates)
    experiments = sorted({one.experiment_id for one in candidates})
    condition = f"attributes.run_id IN ({ids})"
    found = database.tracking().search_runs(experiments, condition, ViewType.ACTIVE_ONLY, len(candidates))
    return {run.info.run_id: run for run in found}
