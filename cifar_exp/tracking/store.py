"""The MLflow store: select it, check it, and use its experiments."""

from __future__ import annotations

import getpass
import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from cifar_exp.config.schema import TrackingConfig
from cifar_exp.errors import UserError, reason
from cifar_exp.importing import importing
from cifar_exp.tracking import deleted, run_tags, server, sqlite_file

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

EMBEDDED = "sqlite:///mlflow.db"

_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}

_import_lock = threading.Lock()


def import_mlflow() -> None:
    """Import MLflow. The lock prevents that a second thread sees a partially imported package."""
    with _import_lock, importing("mlflow"):
        import mlflow  # noqa: F401


@dataclass(frozen=True)
class Store:
    """A tracking store and one experiment in it.

    Args:
        uri: tracking URI: the address of a server, or `sqlite:///PATH`.
        experiment: name of the experiment.
    """

    uri: str
    experiment: str

    @classmethod
    def of(cls, config: TrackingConfig) -> Store:
        """Store that the config names, else $MLFLOW_TRACKING_URI, else an SQLite file in the current folder."""
        return cls(config.uri or os.environ.get("MLFLOW_TRACKING_URI") or EMBEDDED, config.experiment)

    def check(self, may_be_away: bool = False) -> str | None:
        """Check that the store accepts what runs log and that the experiment was not deleted.

        Args:
            may_be_away: whether a server that does not answer now is acceptable.

        Returns:
            Why the server is away, if that is acceptable; None if it answers.

        Raises:
            UserError: if the store refuses the user, is away, is of no kind that MLflow takes or no SQLite file, cannot
                have such a path, or the experiment was deleted.
        """
        if not self.is_server:
            self._check_database()
        away = self.away()
        if away and not may_be_away:
            raise server.refusal(self.uri, away)
        if not away and (self.is_server or (self.file and self.file.exists())):
            deleted.check(self.uri, self.file.resolve() if self.file else None, self.experiment)
        return away

    def away(self) -> str | None:
        """Why a server does not answer now; None if it answers or the store is not a server.

        Raises:
            UserError: if the server refuses the user or is not an MLflow server.
        """
        return server.check(self.uri) if self.is_server else None

    def _check_database(self) -> None:
        if self.uri.startswith("sqlite") and self.uri.partition(":///")[2] in ("", ":memory:"):
            raise self._refusal("it names no file, expected sqlite:///PATH")
        if self.file:
            if set("?%") & set(self.absolute_uri):
                raise UserError(
                    f"tracking store {self.absolute_uri}: the path of an SQLite file must not contain ? or %"
                )
            if problem := sqlite_file.problem(self.file):
                raise self._refusal(problem)
            return
        if re.fullmatch(r"[\w.-]+:\d+/?", self.uri):
            raise self._refusal(f"did you mean 'http://{self.uri}'?")
        try:
            with self.translate_errors():
                self.client.search_experiments(max_results=1)
        except ImportError as error:  # of a driver
            raise self._refusal(reason(error)) from error

    @cached_property
    def client(self) -> MlflowClient:
        """MLflow's client for this store. MLflow is imported on first use; a missing SQLite file is created.

        Raises:
            UserError: if MLflow does not support the tracking URI.
        """
        # By default MLflow repeats a call for minutes, also one that creates a run and whose answer was lost.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # the program prints better ones
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        for direction in ("DOWNLOAD", "UPLOAD"):  # otherwise clients must reach the server's bucket themselves
            os.environ.setdefault(f"MLFLOW_ENABLE_PROXY_MULTIPART_{direction}", "false")
        os.environ.pop("MLFLOW_RUN_ID", None)  # it would override the parent of a run
        logging.getLogger("alembic").setLevel(logging.WARNING)  # creating an SQLite file logs every migration
        import_mlflow()
        import mlflow

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        try:
            self._create_file()
            return mlflow.MlflowClient(self.absolute_uri)
        except mlflow.MlflowException as error:
            raise self._refusal(reason(error)) from error

    @contextmanager
    def connected(self) -> Iterator[MlflowClient]:
        """Context manager that checks the store, yields its client and turns errors of MLflow into UserError.

        Raises:
            UserError: if the store does not exist, does not answer or does not permit a call.
        """
        if not self.exists():
            raise UserError(f"tracking store {self.uri}: there is none (a run makes it, where it is started)")
        self.check()
        client = self.client
        with self.translate_errors():
            yield client

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Context manager that turns errors of MLflow's client into UserError.

        Raises:
            UserError: if the store refuses a call or cannot be reached.
        """
        import_mlflow()
        from mlflow.exceptions import MlflowException

        try:
            yield
        except (MlflowException, OSError) as error:  # exceptions of requests are OSErrors
            if isinstance(error, MlflowException) and error.get_http_status_code() == HTTPStatus.FORBIDDEN:
                raise server.refusal(self.uri, f"user {self.user!r} may not do that there (403)") from error
            raise self._refusal(reason(error)) from error

    @contextmanager
    def as_default(self) -> Iterator[None]:
        """Context manager that makes this the default store of MLflow, which some of its functions always use."""
        import_mlflow()
        import mlflow

        before = os.environ.get("MLFLOW_TRACKING_URI")
        mlflow.set_tracking_uri(self.absolute_uri)
        try:
            yield
        finally:
            mlflow.set_tracking_uri(before)

    def _create_file(self) -> None:
        """Create a missing SQLite file under another name and rename it; MLflow cannot repair a partial one."""
        path = self.file
        if path is None or path.exists():
            return
        from mlflow import MlflowClient

        part = path.with_name(f".{path.name}.{uuid4().hex}.part")
        try:
            MlflowClient(f"sqlite:///{part.resolve()}").search_experiments(max_results=1)
            os.link(part, path)
        except FileExistsError:
            pass  # another process has created it meanwhile
        except OSError:  # a file system without links
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    @cached_property
    def experiment_id(self) -> str:
        """Id of the experiment, which is created if it does not exist, even by several processes at once.

        Raises:
            UserError: if the experiment was deleted or cannot be created.
        """
        client = self.client
        from mlflow import MlflowException

        try:
            if found := client.get_experiment_by_name(self.experiment):
                if found.lifecycle_stage == deleted.STAGE:
                    raise UserError(deleted.experiment_message(self.uri, self.experiment, found.experiment_id))
                return str(found.experiment_id)
            return str(client.create_experiment(self.experiment, self._artifact_location, tags=_EXPERIMENT_TAGS))
        except MlflowException as error:
            if error.error_code == "RESOURCE_ALREADY_EXISTS":  # another process has created it meanwhile
                return str(client.get_experiment_by_name(self.experiment).experiment_id)
            raise self._refusal(reason(error)) from error

    def with_experiment_id(self, experiment_id: str | None) -> Store:
        """Return the same store with a known experiment id, so that it is not looked up; None changes nothing."""
        if experiment_id is None:
            return self
        known = Store(self.uri, self.experiment)
        known.__dict__["experiment_id"] = experiment_id  # cached_property stores its value there
        return known

    def is_deleted(self, run_id: str) -> bool:
        """Whether a run was deleted.

        Raises:
            UserError: if its whole experiment was deleted.
            MlflowException: if the store does not answer.
        """
        from mlflow.exceptions import MlflowException

        client, _ = self.client, self.experiment_id
        try:
            return bool(client.get_run(run_id).info.lifecycle_stage == deleted.STAGE)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":  # deleted permanently
                return True
            raise

    def artifacts(self, run: Run) -> ArtifactRepository:
        """Artifact repository of a run."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        return get_artifact_repository(run.info.artifact_uri, self.absolute_uri)

    def find_sweep(self, name: str) -> Run | None:
        """Find the parent run of a sweep by the name of the sweep."""
        condition = f"tags.`{run_tags.SWEEP}` = '{name}' AND tags.`{run_tags.KIND}` = '{run_tags.SWEEP_KIND}'"
        found = self.client.search_runs([self.experiment_id], condition, max_results=1)
        return found[0] if found else None

    @property
    def user(self) -> str:
        """Name of the user: that of the login to the server, else that of the operating system."""
        if self.is_server:
            from mlflow.utils.credentials import read_mlflow_creds

            if name := read_mlflow_creds().username:
                return str(name)
        try:
            return getpass.getuser()
        except (KeyError, OSError):  # the user of a container may have no name
            return "unknown"

    @property
    def absolute_uri(self) -> str:
        """Tracking URI that is valid in any folder, and the one to give MLflow: it keeps an engine for each URI."""
        return f"sqlite:///{self.file.resolve()}" if self.file else self.uri

    def exists(self) -> bool:
        """Whether the store exists: False only for a missing SQLite file, which a query would create."""
        return self.file is None or self.file.exists()

    @property
    def file(self) -> Path | None:
        """Path of an SQLite store; None for other stores."""
        path = self.uri.removeprefix("sqlite:///")
        return None if path == self.uri or not path else Path(path)

    @property
    def is_server(self) -> bool:
        """Whether the store is a server with an HTTP address."""
        return self.uri.startswith(("http://", "https://"))

    def _refusal(self, problem: str) -> UserError:
        return UserError(f"tracking store {self.uri} (tracking.uri or MLFLOW_TRACKING_URI): {problem}")

    @property
    def _artifact_location(self) -> str | None:
        """Folder beside an SQLite file. The default, mlruns, would look like an old file store to later commands."""
        return (self.file.resolve().parent / "mlartifacts").as_uri() if self.file else None
