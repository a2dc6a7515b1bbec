"""The database of the server as its own code uses it: a store without requests, and transactions with an audit row."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mlflow.exceptions import MlflowException
from mlflow.server import ARTIFACTS_DESTINATION_ENV_VAR, handlers
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from cifar_exp.errors import UserError
from cifar_exp.server import audit
from cifar_exp.tracking.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

NAME = "this server"
_SECONDS_TO_WAIT = 20  # for another transaction


class ServerStore(Store):
    """The server's own store, for code that otherwise runs in a client.

    Args:
        experiment: name of the experiment.
    """

    def __init__(self, experiment: str) -> None:
        super().__init__(NAME, experiment)

    @cached_property
    def client(self) -> MlflowClient:
        """MLflow's client on the server's database."""
        from mlflow import MlflowClient

        return MlflowClient(tracking().db_uri, handlers._get_model_registry_store().db_uri)

    def check(self, may_be_away: bool = False) -> str | None:
        """Do nothing: the server is there."""
        return None

    @contextmanager
    def as_default(self) -> Iterator[None]:
        """Do nothing: in its own process, the server's store is the default."""
        yield

    def artifacts(self, run: Run) -> ArtifactRepository:
        """Artifact repository of a run, read where the server keeps it."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        uri = run.info.artifact_uri
        if handlers._is_servable_proxied_run_artifact_root(uri):
            folder = handlers._get_proxied_run_artifact_destination_path(uri)
            uri = posixpath.join(os.environ[ARTIFACTS_DESTINATION_ENV_VAR], folder)
        return get_artifact_repository(uri)

    def _refusal(self, problem: str) -> UserError:
        return UserError(problem)  # without the settings of a client


def tracking() -> Any:
    """MLflow's tracking store."""
    return handlers._get_tracking_store()


def prepare() -> None:
    """Create the tables of MLflow and of the audit trail, as far as they are missing.

    Raises:
        UserError: if runs and registered models are in different databases.
    """
    store, registry = tracking(), handlers._get_model_registry_store()
    if str(store.engine.url) != str(registry.engine.url):
        raise UserError("the app cifar-exp needs runs and models in one database: leave --registry-store-uri out")
    audit.create_tables(store.engine)


@contextmanager
def transaction() -> Iterator[Session]:
    """Context manager: a transaction that may append to the audit trail. Others wait for it.

    Raises:
        UserError: if the database does not answer in time.
    """
    engine = tracking().engine
    with Session(engine) as session:
        try:
            if engine.dialect.name == "sqlite":
                session.execute(text("PRAGMA foreign_keys = ON"))
                session.execute(text(f"PRAGMA busy_timeout = {_SECONDS_TO_WAIT * 1000}"))
            audit.lock(session)
            yield session
            session.commit()
        except OperationalError as error:
            raise Busy("the database did not answer in time: try again") from error


class Busy(UserError):
    """Raised when the database does not answer; nothing was changed."""


def run(run_id: str) -> Run | None:
    """A run that was not deleted; None if there is none with this id."""
    try:
        found = tracking().get_run(run_id)
    except MlflowException:
        return None
    return found if found.info.lifecycle_stage == "active" else None


def store_of(found: Run) -> ServerStore:
    """The store with the experiment of a run."""
    experiment = tracking().get_experiment(found.info.experiment_id)
    return ServerStore(experiment.name)
