"""Runs -> trials: a search is rebuilt from what its jobs have logged, here or in the store."""

from __future__ import annotations

import logging
import math
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cifar_exp.config.dimension import Point
from cifar_exp.config.space import Space
from cifar_exp.errors import UserError
from cifar_exp.search.settings import OF_EPOCHS, Settings
from cifar_exp.search.trials import COMPLETE, FAILED, INTERRUPTED, MAXIMIZE, PRUNED, RUNNING, Trial
from cifar_exp.sweep.result import PRUNED as PRUNED_JOB
from cifar_exp.sweep.result import JobResult
from cifar_exp.tracking import job_record, run_tags
from cifar_exp.tracking.job_record import JobRecord
from cifar_exp.tracking.store import Store

log = logging.getLogger(__name__)

_ACCURACY = "val/accuracy"
_NUMBER = re.compile("[0-9]{1,18}")


def read(folder: Path, store: Store, sweep: str, space: Space, settings: Settings) -> list[Trial]:
    """Read all trials of a search, and the runs that confirm some of them.

    Args:
        folder: of the sweep.
        store: read for trials that ran on other machines, if it is a server.
        sweep: name of the search.
        space: of the search.
        settings: of the search.

    Raises:
        UserError: if a trial is not of this space, or the store cannot be read.
    """
    here = {record.tags.get(run_tags.JOB, ""): record for record in _in_folder(folder)}
    if any(not _is_of_search(record) for record in here.values()):
        raise UserError(f"sweep.name={sweep}: this is a sweep, not a search; give the search another name")
    if store.is_server and not store.away():
        wanted = {_ACCURACY, *settings.metrics} & OF_EPOCHS.keys()
        for record in job_record.from_store(store, sweep, wanted):
            local = here.get(record.tags.get(run_tags.JOB, ""))
            is_newer = local is None or len(local.series(_ACCURACY)) < len(record.series(_ACCURACY))
            if _is_of_search(record) and is_newer:
                here[record.tags[run_tags.JOB]] = record
    trials = []
    for record in here.values():
        point = _point(record, space)
        if point is None:
            raise UserError(
                f"sweep.name={sweep}: job {record.tags[run_tags.JOB]} of it is not of this space "
                f"({record.tags.get(run_tags.OVERRIDES)}); give its ranges, or another name"
            )
        trials.append(_trial(record, point, settings))
    return sorted(trials, key=lambda trial: (trial.confirmed, trial.trial, trial.seed))


def of_sweep(root: Path, store: Store, sweep: str, space: Space, settings: Settings) -> list[Trial]:
    """Read the finished jobs of an ordinary sweep as trials with the numbers 0, -1, -2, ...

    Raises:
        UserError: if there is no such sweep, or none of its jobs is of this space.
    """
    records = list(_in_folder(root / sweep))
    if not records and store.exists() and not store.away():
        records = job_record.from_store(store, sweep, OF_EPOCHS.keys() & settings.metrics)
    if not records:
        raise UserError(
            f"hydra.sweeper.from_sweep={sweep}: no jobs of such a sweep, neither in {root} nor in {store.uri}"
        )
    found: list[Trial] = []
    for record in records:
        point = _point(record, space)
        trial = _trial(record, point, settings) if point is not None else None
        if trial and trial.state == COMPLETE:
            found.append(replace(trial, trial=-len(found), job=0, confirmed=False))
    if not found:
        raise UserError(
            f"hydra.sweeper.from_sweep={sweep}: none of its {len(records)} jobs has finished with settings of this "
            f"space: {', '.join(space.keys)}"
        )
    log.info("%d of %d jobs of sweep %s are known to the sampler", len(found), len(records), sweep)
    return found


def started(trial: Trial, now: int) -> Trial:
    """The trial when it starts or goes on.

    Args:
        trial: as it was before.
        now: milliseconds since 1970.
    """
    return replace(trial, state=RUNNING, started=trial.started or now, ended=now)


def reported(trial: Trial, history: Sequence[float], settings: Settings) -> Trial:
    """The running trial with the first objective after each epoch so far."""
    value = _best(history, settings.directions[0])
    return replace(trial, history=tuple(history), epochs=len(history), values=(value, *trial.values[1:]))


def ended(trial: Trial, result: JobResult | None, settings: Settings, now: int) -> Trial:
    """The trial after its job has ended.

    Args:
        trial: as it was before.
        result: of the job; None if it was stopped before it began.
        settings: of the search.
        now: milliseconds since 1970.
    """
    if result is None:
        return replace(trial, state=INTERRUPTED, ended=now)
    run_id, name = result.run_id or trial.run_id, result.name or trial.name
    if result.status not in ("FINISHED", PRUNED_JOB):
        state = FAILED if result.status == "FAILED" else INTERRUPTED
        diverged = (result.error or "").startswith(run_tags.DIVERGED)
        return replace(trial, state=state, ended=now, run_id=run_id, name=name, diverged=diverged)
    series, last = result.history or {}, result.metrics or {}
    state = PRUNED if result.status == PRUNED_JOB else COMPLETE
    row = replace(trial, ended=now, run_id=run_id, name=name, seconds=sum(series.get("train/epoch_seconds", ())))
    return _measured(row, state, series, last, settings)


def _in_folder(folder: Path) -> Iterable[JobRecord]:
    for path in sorted(folder.glob("*/"), key=lambda path: (len(path.name), path.name)):
        if path.name.isdecimal() and (record := job_record.from_folder(path)):
            yield record


def _is_of_search(record: JobRecord) -> bool:
    """Whether a run is a trial, or confirms one; a store may hold other runs with such tags."""
    numbers = (record.tags.get(run_tags.JOB), record.tags.get(run_tags.CONFIRMS) or record.tags.get(run_tags.TRIAL))
    return all(_number(text) is not None for text in numbers) and _overrides(record) is not None


def _number(text: str | None) -> int | None:
    return int(text) if text and _NUMBER.fullmatch(text) else None


def _overrides(record: JobRecord) -> list[str] | None:
    try:
        return shlex.split(record.tags.get(run_tags.OVERRIDES, ""))
    except ValueError:
        return None


def _point(record: JobRecord, space: Space) -> Point | None:
    """The point of a run: from its overrides, or for settings that it was not given, from its parameters."""
    texts = dict(record.params)
    texts |= {key: record.params[f"{key}.name"] for key in space.keys if f"{key}.name" in record.params}
    if (overrides := _overrides(record)) is None:
        return None
    texts |= dict(override.split("=", 1) for override in overrides if "=" in override)
    return space.point(texts)


def _trial(record: JobRecord, point: Point, settings: Settings) -> Trial:
    tags = record.tags
    row = Trial(
        trial=_number(tags.get(run_tags.CONFIRMS) or tags.get(run_tags.TRIAL)) or 0,
        state=INTERRUPTED,
        params=point,
        values=(None,) * len(settings.metrics),
        started=record.began,
        ended=record.ended,
        run_id=record.run_id,
        name=record.name,
        job=_number(tags.get(run_tags.JOB)) or 0,
        confirmed=run_tags.CONFIRMS in tags,
        seed=_number(record.params.get("seed")) or 0,
        seconds=sum(record.series("train/epoch_seconds")) or (record.ended - record.began) / 1000,
    )
    outcome = tags.get(run_tags.OUTCOME)
    states = {"FINISHED": PRUNED if outcome == run_tags.PRUNED else COMPLETE, "FAILED": FAILED}
    state = states.get(record.status or "", INTERRUPTED)
    if state == FAILED:
        row = replace(row, diverged=outcome == run_tags.DIVERGED)
    series = {metric: record.series(metric) for metric in record.metrics}
    last = {metric: next(iter(steps.values())) for metric, steps in record.metrics.items() if set(steps) == {0}}
    return _measured(row, state, series, last, settings)


def _measured(
    row: Trial, state: str, series: Mapping[str, Sequence[float]], last: Mapping[str, float], settings: Settings
) -> Trial:
    """The trial with its objectives; failed if it is complete and lacks one."""
    values: list[float | None] = []
    for metric, direction in zip(settings.metrics, settings.directions, strict=True):
        value: Any = _best(series.get(metric, ()), direction) if metric in OF_EPOCHS else last.get(metric)
        values.append(value)
    if state == COMPLETE and None in values:
        state = FAILED
    history = series.get(settings.metrics[0], ()) if settings.metrics[0] in OF_EPOCHS else ()
    return replace(
        row, state=state, values=tuple(values), history=tuple(history), epochs=len(series.get(_ACCURACY, ()))
    )


def _best(history: Sequence[float], direction: str) -> float | None:
    finite = [value for value in history if math.isfinite(value)]
    if not finite:
        return None
    return max(finite) if direction == MAXIMIZE else min(finite)
