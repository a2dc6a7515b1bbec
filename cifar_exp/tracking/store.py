"""The MLflow store: which one, its experiments, and the addresses that show them in a browser."""

from __future__ import annotations

import getpass
import json
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote
from uuid import uuid4

from cifar_exp.config.schema import TrackingConfig
from cifar_exp.errors import UserError, reason
from cifar_exp.importing import importing
from cifar_exp.tracking import deleted, server

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

EMBEDDED = "sqlite:///mlflow.db"
EMBEDDED_ADDRESS = "http://127.0.0.1:5000"

_TRAINING_FACE = "workflowType=machine_learning"  # the UI has another for language models, which it shows first
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
_UNQUOTED = "'"


_one_at_a_time = threading.Lock()


def import_mlflow() -> None:
    """Whole, before anything of it is used: of two threads that import it at once, one may see half of it."""
    with _one_at_a_time, importing("mlflow"):
        import mlflow  # noqa: F401


@dataclass(frozen=True)
class Store:
    """A tracking store and an experiment in it."""

    uri: str
    experiment: str

    @classmethod
    def of(cls, config: TrackingConfig) -> Store:
        """The one that the config names, else $MLFLOW_TRACKING_URI, else an SQLite file in this folder."""
        return cls(config.uri or os.environ.get("MLFLOW_TRACKING_URI") or EMBEDDED, config.experiment)

    def check(self, may_be_away: bool = False) -> str | None:
        """Refuse a store that would not take what a run logs, and an experiment that was deleted.

        Returns:
            Why it is away, where it may be.

        Raises:
            UserError: if it would not, or is away.
        """
        away = self.away()
        if away and not may_be_away:
            raise server.refusal(self.uri, away)
        if not away and (self.is_server or (self.file and self.file.exists())):
            deleted.check(self.uri, self.file.resolve() if self.file else None, self.experiment)
        return away

    def away(self) -> str | None:
        """Why a server cannot be asked just now; None if it can, and of a store that is no server.

        Raises:
            UserError: if it does not let this user in, or is no MLflow server.
        """
        return server.check(self.uri) if self.is_server else None

    @cached_property
    def client(self) -> MlflowClient:
        """MLflow's, imported when first needed.

        Raises:
            UserError: if there is no such kind of store.
        """
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # the program prints better ones
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        for way in ("DOWNLOAD", "UPLOAD"):  # or a server with a bucket sends its clients there, who may not reach it
            os.environ.setdefault(f"MLFLOW_ENABLE_PROXY_MULTIPART_{way}", "false")
        os.environ.pop("MLFLOW_RUN_ID", None)  # it would take the place of the parent that a run is given
        logging.getLogger("alembic").setLevel(logging.WARNING)  # a new SQLite file logs every migration
        import_mlflow()
        import mlflow

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        try:
            self._make()
            return mlflow.MlflowClient(self.uri)
        except mlflow.MlflowException as error:
            raise self._refusal(error) from error

    @contextmanager
    def asked(self) -> Iterator[MlflowClient]:
        """Its client, once it is there and lets this user in; what it refuses then is a refusal.

        Raises:
            UserError: if it is away, does not answer or does not permit it.
        """
        if not self.exists():
            raise UserError(f"tracking store {self.uri}: there is none (a run makes it, where it is started)")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # by default it tries for minutes
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
        self.check()
        client = self.client
        with self.refusing():
            yield client

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """What it, or the way to it, does not answer is a refusal.

        Raises:
            UserError: for an error of MLflow's client.
        """
        import_mlflow()
        from mlflow.exceptions import MlflowException

        try:
            yield
        except (MlflowException, OSError) as error:  # requests' own are OSErrors
            if isinstance(error, MlflowException) and error.get_http_status_code() == HTTPStatus.FORBIDDEN:
                raise server.refusal(self.uri, f"user {self.user!r} may not do that there (403)") from error
            raise self._refusal(error) from error

    @contextmanager
    def as_default(self) -> Iterator[None]:
        """For what MLflow asks of the process's store, whatever store it is called with."""
        import_mlflow()
        import mlflow

        before = os.environ.get("MLFLOW_TRACKING_URI")
        mlflow.set_tracking_uri(self.uri)
        try:
            yield
        finally:
            mlflow.set_tracking_uri(before)

    def _make(self) -> None:
        """Make an SQLite file under another name first: one that is half made, MLflow could never use again."""
        path = self.file
        if path is None or path.exists():
            return
        from mlflow import MlflowClient

        part = path.with_name(f".{path.name}.{uuid4().hex}.part")
        try:
            MlflowClient(f"sqlite:///{part.resolve()}").search_experiments(max_results=1)
            os.link(part, path)
        except FileExistsError:
            pass  # made by another process meanwhile
        except OSError:  # a file system without links
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    @cached_property
    def experiment_id(self) -> str:
        """Of the experiment, made where there is none; also when several processes make it at once."""
        client = self.client
        from mlflow import MlflowException

        try:
            if found := client.get_experiment_by_name(self.experiment):
                if found.lifecycle_stage == deleted.STAGE:
                    raise UserError(deleted.experiment(self.uri, self.experiment, found.experiment_id))
                return str(found.experiment_id)
            return str(client.create_experiment(self.experiment, self._artifact_location, tags=_EXPERIMENT_TAGS))
        except MlflowException as error:
            if error.error_code == "RESOURCE_ALREADY_EXISTS":  # by another process, meanwhile
                return str(client.get_experiment_by_name(self.experiment).experiment_id)
            raise self._refusal(error) from error

    def knowing(self, experiment_id: str | None) -> Store:
        """The same store, which need not be asked for the id of its experiment once that is known."""
        if experiment_id is None:
            return self
        known = Store(self.uri, self.experiment)
        known.__dict__["experiment_id"] = experiment_id  # where cached_property keeps it
        return known

    def is_deleted(self, run_id: str) -> bool:
        """Whether a run was deleted, and its experiment was not, with which all of its runs are.

        Raises:
            UserError: if the experiment was deleted.
            MlflowException: if the store cannot be asked.
        """
        from mlflow.exceptions import MlflowException

        client, _ = self.client, self.experiment_id
        try:
            return bool(client.get_run(run_id).info.lifecycle_stage == deleted.STAGE)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":  # deleted for good
                return True
            raise

    def artifacts(self, run: Run) -> ArtifactRepository:
        """Where the files of a run are."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        return get_artifact_repository(run.info.artifact_uri, self.uri)

    def find_sweep(self, name: str) -> Run | None:
        """The parent run of the sweep of this name."""
        condition = f"tags.`cifar_exp.sweep` = '{name}' AND tags.`cifar_exp.kind` = 'sweep'"
        found = self.client.search_runs([self.experiment_id], condition, max_results=1)
        return found[0] if found else None

    @property
    def user(self) -> str:
        """Who logs: by the name that the server asks for, else by that of this machine."""
        if self.is_server:
            from mlflow.utils.credentials import read_mlflow_creds

            if name := read_mlflow_creds().username:
                return str(name)
        try:
            return getpass.getuser()
        except (KeyError, OSError):  # a container's user need not have a name
            return "unknown"

    @property
    def absolute_uri(self) -> str:
        """The same from any folder."""
        return f"sqlite:///{self.file.resolve()}" if self.file else self.uri

    def exists(self) -> bool:
        """Whether it may hold anything: asking an SQLite file would make it."""
        return self.file is None or self.file.exists()

    @property
    def file(self) -> Path | None:
        """Of an SQLite store."""
        path = self.uri.removeprefix("sqlite:///")
        return None if path == self.uri or not path else Path(path)

    @property
    def is_server(self) -> bool:
        """Whether it is a server, which has an address and keeps its own artifacts."""
        return self.uri.startswith(("http://", "https://"))

    def _refusal(self, error: Exception) -> UserError:
        return UserError(f"tracking store {self.uri} (tracking.uri or MLFLOW_TRACKING_URI): {reason(error)}")

    @property
    def _artifact_location(self) -> str | None:
        """Beside an SQLite file; not the default mlruns, which later commands would take for an old file store."""
        return (self.file.resolve().parent / "mlartifacts").as_uri() if self.file else None

    def run_address(self, run_id: str) -> str:
        """Of a run's page."""
        return f"{self._address}/#/experiments/{self.experiment_id}/runs/{run_id}?{_TRAINING_FACE}"

    def sweep_address(self, parent_id: str) -> str:
        """Of the jobs of a sweep, best first, with their curves; sorting by a metric unnests them."""
        query = {
            "compareRunsMode": "CHART",
            "orderByKey": "metrics.`test/accuracy`",
            "orderByAsc": "false",
            "searchFilter": f"tags.`mlflow.parentRunId` = '{parent_id}'",
        }
        written = "&".join(f"{key}={quote(value, safe=_UNQUOTED)}" for key, value in query.items())
        return f"{self._address}/#/experiments/{self.experiment_id}/runs?{_TRAINING_FACE}&{written}"

    def compare_address(self, run_ids: list[str]) -> str:
        """Of the page that sets these runs side by side."""
        runs, experiments = (quote(json.dumps(ids)) for ids in (run_ids, [self.experiment_id]))
        return f"{self._address}/#/compare-runs?runs={runs}&experiments={experiments}&{_TRAINING_FACE}"

    @property
    def _address(self) -> str:
        return self.uri.rstrip("/") if self.is_server else EMBEDDED_ADDRESS

    def how_to_open(self, address: str) -> str:
        """Lines for a person: where to see a page of the UI, and how to start the UI of an embedded store."""
        if command := self.ui_command():
            return f"Start the UI:  {command}\nThen open:     {address}"
        return f"Open:  {address}"

    def ui_command(self) -> str | None:
        """What starts the UI of an embedded store; None for a server, whose UI is up."""
        if self.is_server:
            return None
        return f"{deleted.mlflow_program()} ui --backend-store-uri {self.uri}"
