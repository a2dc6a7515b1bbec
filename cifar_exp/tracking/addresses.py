"""Web addresses of what a store has, in MLflow's UI and on the team's page."""

from __future__ import annotations

import json
import shlex
from urllib.parse import quote, urlencode

from cifar_exp.tracking import deleted, server
from cifar_exp.tracking.store import Store

EMBEDDED = "http://127.0.0.1:5000"
"""Where MLflow's UI answers if it is started for an SQLite store."""

_TRAINING_UI = "workflowType=machine_learning"  # by default MLflow shows its UI for language models
_UNQUOTED = "'"


def run(store: Store, run_id: str) -> str:
    """Address of a run in MLflow's UI."""
    return f"{_root(store)}/#/experiments/{store.experiment_id}/runs/{run_id}?{_TRAINING_UI}"


def sweep(store: Store, parent_id: str) -> str:
    """Address of the jobs of a sweep with their curves, best first, in MLflow's UI.

    They are sorted by a metric, because MLflow's UI shows runs unnested only then.
    """
    query = {
        "compareRunsMode": "CHART",
        "orderByKey": "metrics.`test/accuracy`",
        "orderByAsc": "false",
        "searchFilter": f"tags.`mlflow.parentRunId` = '{parent_id}'",
    }
    encoded = "&".join(f"{key}={quote(value, safe=_UNQUOTED)}" for key, value in query.items())
    return f"{_root(store)}/#/experiments/{store.experiment_id}/runs?{_TRAINING_UI}&{encoded}"


def run_page(store: Store, run_id: str) -> str:
    """Address of a run: on the team's page if the server has one, else in MLflow's UI."""
    return _team_page(store, "run", id=run_id) or run(store, run_id)


def sweep_page(store: Store, name: str, parent_id: str) -> str:
    """Address of a sweep: on the team's page if the server has one, else in MLflow's UI."""
    return _team_page(store, "sweep", experiment=store.experiment_id, name=name) or sweep(store, parent_id)


def compare(store: Store, run_ids: list[str]) -> str:
    """Address of the comparison of several runs in MLflow's UI."""
    runs, experiments = (quote(json.dumps(ids)) for ids in (run_ids, [store.experiment_id]))
    return f"{_root(store)}/#/compare-runs?runs={runs}&experiments={experiments}&{_TRAINING_UI}"


def how_to_open(store: Store, address: str) -> str:
    """Lines that tell the user how to open a page of the UI, and for an SQLite store how to start the UI."""
    if command := ui_command(store):
        return f"Start the UI:  {command}\nThen open:     {address}"
    return f"Open:  {address}"


def ui_command(store: Store) -> str | None:
    """Command that starts the UI of an SQLite store; None for a server, whose UI is always running."""
    if store.is_server:
        return None
    return shlex.join([deleted.mlflow_program(), "ui", "--backend-store-uri", store.uri])


def _team_page(store: Store, page: str, **query: str) -> str | None:
    if not store.is_server or not server.has_team_page(store.uri):
        return None
    return f"{_root(store)}/team/{page}?{urlencode(query)}"


def _root(store: Store) -> str:
    return store.uri.rstrip("/") if store.is_server else EMBEDDED
