"""Which runs a table or a report is of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cifar_exp.errors import UserError, did_you_mean, reason
from cifar_exp.review import find
from cifar_exp.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

_SWEEP, _KIND = "cifar_exp.sweep", "cifar_exp.kind"
_UNQUOTABLE = {"'", "\\"}


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
        named = [find.run(store, one) for one in wanted]
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
        return find.runs(store, conditions, ["attributes.start_time DESC"])
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
        parents = find.runs(store, f"tags.`{_KIND}` = 'sweep'", ["attributes.start_time DESC"])
        names = [run.data.tags[_SWEEP] for run in parents if _SWEEP in run.data.tags]
        last = f"; the last one is {names[0]!r}" if names else ""
        return f"no runs of sweep {sweep!r} in {where}{did_you_mean(sweep, names) or last}"
    return f"no runs in {where}"


def _is_sweep(run: Run) -> bool:
    kind: str | None = run.data.tags.get(_KIND)
    return kind == "sweep"
