"""Searching the runs of an experiment: all that match a filter, or those that a person names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cifar_exp.errors import UserError, did_you_mean, reason
from cifar_exp.tracking import deleted
from cifar_exp.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

SHORT = 8  # characters of a run's id that tell it from others

_SWEEP, _KIND = "cifar_exp.sweep", "cifar_exp.kind"
_UNQUOTABLE = {"'", "\\"}
_ID = 32
_PAGE = 1000  # runs in an answer
_LISTED = 5  # of several that a name could mean


def search(store: Store, condition: str = "", order_by: Sequence[str] = ()) -> list[Run]:
    """Those of the store's experiment that meet a condition in MLflow's own form; none where there is no experiment.

    Raises:
        UserError: if the store cannot be read.
    """
    if not store.exists():
        return []
    found: list[Run] = []
    token: str | None = ""
    with store.asked() as client:
        experiment = client.get_experiment_by_name(store.experiment)
        if experiment and experiment.lifecycle_stage == deleted.STAGE:
            raise UserError(deleted.experiment(store.uri, store.experiment, experiment.experiment_id))
        while experiment and token is not None:
            page = client.search_runs(
                [experiment.experiment_id],
                condition,
                order_by=list(order_by),
                max_results=_PAGE,
                page_token=token or None,
            )
            found += page
            token = page.token or None
    return found


def get(store: Store, wanted: str) -> Run:
    """The run of this id, of an id that begins so, or of this name, if only one has it.

    Raises:
        UserError: if there is none, or several.
    """
    where = f"experiment {store.experiment!r} of {store.uri}"
    found: list[Run] = []
    if re.fullmatch(r"[0-9a-f]{4,32}", wanted):
        found = search(store, f"attributes.run_id LIKE '{wanted}%'")
        if not found and len(wanted) == _ID and store.exists():
            found = _of_another_experiment(store, wanted)
    if not found and wanted and not _UNQUOTABLE & set(wanted):
        found = search(store, f"attributes.run_name = '{wanted}'", ["attributes.start_time DESC"])
    if not found:
        raise UserError(f"no run {wanted!r} in {where}: give its id, the first characters of that, or its name")
    if len(found) > 1:
        named = [f"{one.info.run_id[:SHORT]} ({one.info.run_name})" for one in found[:_LISTED]]
        more = ", ..." if len(found) > _LISTED else ""
        raise UserError(f"{len(found)} runs in {where} are {wanted!r}: {', '.join(named)}{more}; give the id of one")
    return found[0]


def _of_another_experiment(store: Store, run_id: str) -> list[Run]:
    from mlflow.exceptions import MlflowException

    with store.asked() as client:
        try:
            found = client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return []
            raise
    return [found] if found.info.lifecycle_stage == "active" else []


def select(
    store: Store, wanted: Sequence[str] = (), sweep: str | None = None, condition: str | None = None
) -> list[Run]:
    """Runs of the store's experiment, but no parents of sweeps.

    Args:
        store: holds them.
        wanted: these, in this order, each by its id, the first characters of that, or its name; else
        sweep: the jobs of the sweep of this name;
        condition: those that meet it, in MLflow's own form: `metrics."test/accuracy" > 0.7`. Of neither, all.

    Returns:
        At least one; the most accurate first where they were not named one by one.

    Raises:
        UserError: if there are none, if a name means none or several, or the condition is none.
    """
    if wanted and (sweep or condition):
        raise UserError("name runs one by one, or a sweep or a filter, not both")
    if wanted:
        named = [get(store, one) for one in wanted]
        for run in named:
            if _is_sweep(run):
                name = run.data.tags.get(_SWEEP, "")
                raise UserError(f"run {run.info.run_id} is a sweep; --sweep {name} takes its runs")
        return list({run.info.run_id: run for run in named}.values())
    conditions = [condition] if condition else []
    if sweep:
        conditions.append(f"tags.`{_SWEEP}` = '{sweep}'")
    found = [] if sweep and _UNQUOTABLE & set(sweep) else _search(store, " AND ".join(conditions), condition)
    runs = [run for run in found if not _is_sweep(run)]
    if not runs:
        raise UserError(_nothing(store, sweep, condition))
    return sorted(runs, key=lambda run: -run.data.metrics.get("test/accuracy", -1.0))  # stable: the last one first


def _search(store: Store, conditions: str, filtered: str | None) -> list[Run]:
    from mlflow.exceptions import MlflowException

    try:
        return search(store, conditions, ["attributes.start_time DESC"])
    except UserError as error:
        cause = error.__cause__
        if filtered and isinstance(cause, MlflowException) and cause.error_code == "INVALID_PARAMETER_VALUE":
            raise UserError(f"--filter {filtered!r}: {reason(cause)}") from error
        raise


def _nothing(store: Store, sweep: str | None, condition: str | None) -> str:
    where = f"experiment {store.experiment!r} of {store.uri}"
    if condition:
        return f"no run in {where} meets {condition!r}" + (f" in sweep {sweep!r}" if sweep else "")
    if sweep:
        parents = search(store, f"tags.`{_KIND}` = 'sweep'", ["attributes.start_time DESC"])
        names = [run.data.tags[_SWEEP] for run in parents if _SWEEP in run.data.tags]
        last = f"; the last one is {names[0]!r}" if names else ""
        return f"no runs of sweep {sweep!r} in {where}{did_you_mean(sweep, names) or last}"
    return f"no runs in {where}"


def _is_sweep(run: Run) -> bool:
    kind: str | None = run.data.tags.get(_KIND)
    return kind == "sweep"
