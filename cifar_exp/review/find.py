"""The runs of an experiment, and the one that a person means."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cifar_exp.errors import UserError
from cifar_exp.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

SHORT = 8  # characters of a run's id that tell it from others

_ID = 32
_PAGE = 1000  # runs in an answer
_LISTED = 5  # of several that a name could mean


def runs(store: Store, condition: str = "", order_by: Sequence[str] = ()) -> list[Run]:
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


def run(store: Store, wanted: str) -> Run:
    """The run of this id, of an id that begins so, or of this name, if only one has it.

    Raises:
        UserError: if there is none, or several.
    """
    where = f"experiment {store.experiment!r} of {store.uri}"
    found: list[Run] = []
    if re.fullmatch(r"[0-9a-f]{4,32}", wanted):
        found = runs(store, f"attributes.run_id LIKE '{wanted}%'")
        if not found and len(wanted) == _ID and store.exists():
            found = _of_another_experiment(store, wanted)
    if not found and wanted and not {"'", "\\"} & set(wanted):
        found = runs(store, f"attributes.run_name = '{wanted}'", ["attributes.start_time DESC"])
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
