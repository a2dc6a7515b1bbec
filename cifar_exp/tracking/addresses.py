"""Web addresses of what a store has, in MLflow's UI and on the team's page."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from cifar_exp.tracking import deleted, server

if TYPE_CHECKING:
    from cifar_exp.tracking.store import Store

EMBEDDED = "http://127.0.0.1:5000"
"""Where MLflow's UI answers if it is started for an SQLite store."""

_TRAINING_UI = "workflowType=machine_learning"  # by default MLflow shows its UI for language models
_UNQUOTED = "'"


class Addresses:
    """Addresses of the experiment of a store."""

    def __init__(self, store: Store) -> None:
        """Build the addresses of this store."""
        self._store = store

    def run(self, run_id: str) -> str:
        """Web address of a run."""
        return f"{self._root}/#/experiments/{self._store.experiment_id}/runs/{run_id}?{_TRAINING_UI}"

    def sweep(self, parent_id: str) -> str:
        """Web address of the jobs of a sweep with their curves, best first. Sorting by a metric shows them unnested."""
        query = {
            "compareRunsMode": "CHART",
            "orderByKey": "metrics.`test/accuracy`",
            "orderByAsc": "false",
            "searchFilter": f"tags.`mlflow.parentRunId` = '{parent_id}'",
        }
        encoded = "&".join(f"{key}={quote(value, safe=_UNQUOTED)}" for key, value in query.items())
        return f"{self._root}/#/experiments/{self._store.experiment_id}/runs?{_TRAINING_UI}&{encoded}"

    def run_page(self, run_id: str) -> str:
        """Web address of a run: on the team's page if the server has one, else in MLflow's UI."""
        return self._team_page("run", id=run_id) or self.run(run_id)

    def sweep_page(self, name: str, parent_id: str) -> str:
        """Web address of a sweep: on the team's page if the server has one, else in MLflow's UI."""
        page = self._team_page("sweep", experiment=self._store.experiment_id, name=name)
        return page or self.sweep(parent_id)

    def _team_page(self, page: str, **query: str) -> str | None:
        if not self._store.is_server or not server.has_team_page(self._store.uri):
            return None
        return f"{self._root}/team/{page}?{urlencode(query)}"

    def compare(self, run_ids: list[str]) -> str:
        """Web address of the comparison of several runs."""
        runs, experiments = (quote(json.dumps(ids)) for ids in (run_ids, [self._store.experiment_id]))
        return f"{self._root}/#/compare-runs?runs={runs}&experiments={experiments}&{_TRAINING_UI}"

    @property
    def _root(self) -> str:
        return self._store.uri.rstrip("/") if self._store.is_server else EMBEDDED

    def how_to_open(self, address: str) -> str:
        """Lines that tell the user how to open a page of the UI, and for an SQLite store how to start the UI."""
        if command := self.ui_command():
            return f"Start the UI:  {command}\nThen open:     {address}"
        return f"Open:  {address}"

    def ui_command(self) -> str | None:
        """Command that starts the UI of an SQLite store; None for a server, whose UI is always running."""
        if self._store.is_server:
            return None
        return shlex.join([deleted.mlflow_program(), "ui", "--backend-store-uri", self._store.uri])
