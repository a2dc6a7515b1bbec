"""Searching the runs of an MLflow experiment by filter, sweep, id or name."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cifar_exp.errors import UserError, did_you_mean, reason
from cifar_exp.tracking import deleted, run_tags
from cifar_exp.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

SHORT_ID = 8  # characters of a run's id that are shown

_WITHOUT_MODEL = {run_tags.SWEEP_KIND, run_tags.EVALUATION_KIND, run_tags.EXPLANATION_KIND}  # kinds of runs
_ID_LENGTH = 32
_PAGE_SIZE = 1000  # runs per request
_MAX_LISTED = 5  # runs named in the message about an ambiguous name


def search(store: Store, condition: str = "", order_by: Sequence[str] = (), most: int | None = None) -> list[Run]:
    """Search the runs of the store's experiment, including the parent runs of sweeps.

    Args:
        store: tracking store and experiment.
        condition: filter in MLflow's syntax; all runs if empty.
        order_by: columns in MLflow's syntax, such as `"attributes.start_time DESC"`.
        most: number of runs, at most 1,000; None: all.

    Returns:
        The matching runs; an empty list if the store or the experiment does not exist.

    Raises:
        UserError: if the store cannot be read or the experiment was deleted.
    """
    if not store.exists():
        return []
    matching_runs: list[Run] = []
    token: str | None = ""
    with store.connected() as client:
        experiment = client.get_experiment_by_name(store.experiment)
        if experiment and experiment.lifecycle_stage == deleted.STAGE:
            raise UserError(deleted.experiment_message(store.uri, store.experiment, experiment.experiment_id))
        while experiment and token is not None and not (most and matching_runs):
            page = client.search_runs(
                [experiment.experiment_id],
                condition,
                order_by=list(order_by),
                max_results=most or _PAGE_SIZE,
                page_token=token or None,
            )
            matching_runs += page
            token = page.token or None
    return matching_runs


def quoted(text: str) -> str | None:
    """Quote a text for a condition in MLflow's syntax, which knows no escapes; None if that is not possible."""
    return next((f"{mark}{text}{mark}" for mark in "'\"" if not {mark, "\\"} & set(text)), None)


def get(store: Store, wanted: str) -> Run:
    """Find one run.

    Args:
        store: tracking store and experiment.
        wanted: id, first characters of the id (at least 4), or name. A full id is also found in other experiments.

    Raises:
        UserError: if no run or more than one run matches.
    """
    where = f"experiment {store.experiment!r} of {store.uri}"
    matching_runs: list[Run] = []
    if re.fullmatch(r"[0-9a-f]{4,32}", wanted):
        matching_runs = search(store, f"attributes.run_id LIKE '{wanted}%'")
        if not matching_runs and len(wanted) == _ID_LENGTH and store.exists():
            matching_runs = _in_another_experiment(store, wanted)
    if not matching_runs and wanted and (name := quoted(wanted)):
        matching_runs = search(store, f"attributes.run_name = {name}", ["attributes.start_time DESC"])
    if not matching_runs:
        newest = search(store, order_by=["attributes.start_time DESC"], most=_PAGE_SIZE)  # all may take long to read
        suggestion = did_you_mean(wanted, {str(run.info.run_name) for run in newest})
        raise UserError(
            f"no run {wanted!r} in {where}: give its id, the first characters of its id, or its name{suggestion}"
        )
    if len(matching_runs) > 1:
        listed = [f"{run.info.run_id[:SHORT_ID]} ({run.info.run_name})" for run in matching_runs[:_MAX_LISTED]]
        more = ", ..." if len(matching_runs) > _MAX_LISTED else ""
        raise UserError(
            f"{len(matching_runs)} runs in {where} match {wanted!r}: {', '.join(listed)}{more}; give a run id"
        )
    return matching_runs[0]


def _in_another_experiment(store: Store, run_id: str) -> list[Run]:
    from mlflow.exceptions import MlflowException

    with store.connected() as client:
        try:
            run = client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return []
            raise
    return [run] if run.info.lifecycle_stage == "active" else []


def select(
    store: Store, wanted: Sequence[str] = (), sweep: str | None = None, condition: str | None = None
) -> list[Run]:
    """Select runs of the store's experiment, without parent runs of sweeps, evaluations and explanations.

    Args:
        store: tracking store and experiment.
        wanted: runs in this order, each given by its id, the first characters of its id, or its name. Excludes `sweep`
            and `condition`.
        sweep: name of a sweep, to select its jobs.
        condition: filter in MLflow's syntax, such as `metrics."test/accuracy" > 0.7`.

    Returns:
        At least one run. The most accurate run comes first unless `wanted` is given. Without any selection, all runs.

    Raises:
        UserError: if nothing matches, a name is ambiguous, or the condition is not valid.
    """
    if wanted and (sweep or condition):
        raise UserError("give either single runs, or --sweep and --filter, not both")
    if wanted:
        named_runs = [get(store, name) for name in wanted]
        for run in named_runs:
            if _is_sweep(run):
                name = run.data.tags.get(run_tags.SWEEP, "")
                raise UserError(f"run {run.info.run_id} is a sweep; select its runs with --sweep {name}")
        return list({run.info.run_id: run for run in named_runs}.values())
    conditions = [condition] if condition else []
    named = quoted(sweep or "")
    if sweep:
        conditions.append(f"tags.`{run_tags.SWEEP}` = {named}")
    matching_runs = _search(store, " AND ".join(conditions), condition) if named else []
    runs = [run for run in matching_runs if has_model(run.data.tags)]
    if not runs:
        raise UserError(_no_runs_message(store, sweep, condition))
    return by_accuracy(runs)


def by_accuracy(runs: Sequence[Run]) -> list[Run]:
    """Sort runs by their test accuracy, the most accurate first. Equal ones stay in their order."""

    def rank(run: Run) -> float:
        accuracy = run.data.metrics.get("test/accuracy", math.nan)
        return -accuracy if math.isfinite(accuracy) else math.inf

    return sorted(runs, key=rank)


def _search(store: Store, conditions: str, user_filter: str | None) -> list[Run]:
    from mlflow.exceptions import MlflowException

    try:
        return search(store, conditions, ["attributes.start_time DESC"])
    except UserError as error:
        cause = error.__cause__
        if user_filter and isinstance(cause, MlflowException) and cause.error_code == "INVALID_PARAMETER_VALUE":
            raise UserError(f"--filter {user_filter!r}: {reason(cause)}") from error
        raise


def _no_runs_message(store: Store, sweep: str | None, condition: str | None) -> str:
    where = f"experiment {store.experiment!r} of {store.uri}"
    if condition:
        return f"no run in {where} meets {condition!r}" + (f" in sweep {sweep!r}" if sweep else "")
    if sweep:
        parents = search(store, f"tags.`{run_tags.KIND}` = '{run_tags.SWEEP_KIND}'", ["attributes.start_time DESC"])
        names = [run.data.tags[run_tags.SWEEP] for run in parents if run_tags.SWEEP in run.data.tags]
        last = f"; the latest sweep is {names[0]!r}" if names else ""
        return f"no runs of sweep {sweep!r} in {where}{did_you_mean(sweep, names) or last}"
    return f"no runs in {where}"


def has_model(tags: Mapping[str, str]) -> bool:
    """Whether a run with these tags may have a model: not the parent of a sweep, an evaluation or an explanation."""
    return tags.get(run_tags.KIND) not in _WITHOUT_MODEL


def _is_sweep(run: Run) -> bool:
    kind: str | None = run.data.tags.get(run_tags.KIND)
    return kind == run_tags.SWEEP_KIND
