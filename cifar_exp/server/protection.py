"""What a review protects: approved runs, the runs behind aliases, and the tags that verdicts and promotions write."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from mlflow.exceptions import MlflowException
from mlflow.server import handlers
from mlflow.store.model_registry.dbmodels.models import SqlModelVersion, SqlRegisteredModelAlias
from mlflow.store.tracking.dbmodels.models import SqlInput, SqlLoggedModel, SqlRun, SqlTag
from mlflow.utils.uri import validate_path_is_safe
from sqlalchemy import ColumnElement, Select, or_, select, union

from cifar_exp.review import verdicts
from cifar_exp.review.query import SHORT_ID

if TYPE_CHECKING:
    from mlflow.entities import Run

FINISHED = "FINISHED"

_RESERVED = ("review.", "promotion.")
_MOST = 2**63  # the ids of experiments are below
_RUN_ID = re.compile(r"[0-9a-f]{32}")
_MODEL_ID = re.compile(r"m-[0-9a-f]{32}")


def is_reserved(key: str) -> bool:
    """Whether only verdicts and promotions write a tag. Some databases take upper and lower case for the same."""
    return key.strip().casefold().startswith(_RESERVED)


def of_run(run: Run, done: str) -> str | None:
    """Why a run may not be deleted or changed; None if it may.

    Args:
        run: the run.
        done: what is refused, such as deleted.
    """
    short = run.info.run_id[:SHORT_ID]
    if aliases := _aliases_of_run(run.info.run_id):
        return f"run {short} is {aliases[0]}: it cannot be {done}"
    given = verdicts.history(run)
    if given and given[-1].state == verdicts.APPROVED:
        return f"run {short} is approved: it cannot be {done} unless the approval is withdrawn"
    return None


def of_run_id(run_id: str, done: str) -> str | None:
    """As `of_run`; None as well if there is no such run, which MLflow reports itself."""
    try:
        return of_run(handlers._get_tracking_store().get_run(run_id), done)
    except MlflowException:
        return None


def of_logged_model(model_id: str, done: str) -> str | None:
    """Why a logged model may not be deleted or changed; None if it may.

    The run that a model names as its source was chosen by who logged it, so the runs that name the model count as well.
    """
    source = select(SqlLoggedModel.source_run_id).where(SqlLoggedModel.model_id == model_id)
    with handlers._get_tracking_store().ManagedSessionMaker() as session:
        runs = session.scalars(source.union(_outputs(SqlInput.source_id).where(SqlInput.destination_id == model_id)))
        return next((refusal for run_id in runs.all() if run_id and (refusal := of_run_id(run_id, done))), None)


def of_experiment(experiment_id: str) -> str | None:
    """Why an experiment may not be deleted; None if it may."""
    try:
        number = int(experiment_id)  # as MLflow reads it: " 1" and "+1" are experiment 1
    except ValueError:  # MLflow refuses it itself
        return None
    for run_id, _ in _reviewed_runs(number) if abs(number) < _MOST else ():
        if refusal := of_run_id(run_id, "deleted"):
            return refusal
    return None


def of_registered_model(name: str, done: str) -> str | None:
    """Why a registered model may not be deleted or renamed; None if it may."""
    with handlers._get_model_registry_store().ManagedSessionMaker() as session:
        found = session.scalars(
            select(SqlRegisteredModelAlias.alias).where(SqlRegisteredModelAlias.name == name)
        ).first()
    return f"model {name!r} has the alias {found!r}: it cannot be {done}" if found else None


def of_version(name: str, version: str) -> str | None:
    """Why a version of a registered model may not be deleted; None if it may."""
    try:
        found = handlers._get_model_registry_store().get_model_version(name, version)
    except MlflowException:
        return None
    if found.aliases:
        return f"version {version} of {name!r} is {found.aliases[0]}: it cannot be deleted"
    return of_run_id(found.run_id, "deleted") if found.run_id else None


def of_artifact(path: str, recursive: bool) -> str | None:
    """Why a file of the artifact store may not be written or deleted; None if it may.

    Args:
        path: below the root of the store, as in the request.
        recursive: whether everything below the path is meant as well.
    """
    try:
        canonical = posixpath.normpath(validate_path_is_safe(path))
    except MlflowException:  # MLflow refuses it itself
        return None
    done = "deleted" if recursive else "changed"
    for part in canonical.split("/"):
        refusal = None
        if _RUN_ID.fullmatch(part):
            refusal = of_run_id(part, done)
        elif _MODEL_ID.fullmatch(part):
            refusal = of_logged_model(part, done)
        if refusal:
            return refusal
    if not recursive:
        return None
    for run_id, uri in (*_reviewed_runs(), *_reviewed_models()):
        folder = posixpath.dirname(posixpath.dirname(urlparse(uri).path.strip("/")))
        contains = canonical == "." or f"{folder}/".startswith(f"{canonical.strip('/')}/")
        if contains and (refusal := of_run_id(run_id, done)):
            return refusal
    return None


def _aliases_of_run(run_id: str) -> list[str]:
    """Aliases of versions that a run has logged, as model@alias."""
    joined = (SqlRegisteredModelAlias.name == SqlModelVersion.name) & (
        SqlRegisteredModelAlias.version == SqlModelVersion.version
    )
    wanted = (
        select(SqlRegisteredModelAlias.name, SqlRegisteredModelAlias.alias)
        .join(SqlModelVersion, joined)
        .where(SqlModelVersion.run_id == run_id)
    )
    with handlers._get_model_registry_store().ManagedSessionMaker() as session:
        return [f"{name}@{alias}" for name, alias in session.execute(wanted)]


def _reviewed_runs(experiment_id: int | None = None) -> list[tuple[str, str]]:
    """Ids and artifact URIs of the runs that are approved or have an alias, of one experiment or of all."""
    wanted = select(SqlRun.run_uuid, SqlRun.artifact_uri).where(_is_reviewed(SqlRun.run_uuid))
    if experiment_id is not None:
        wanted = wanted.where(SqlRun.experiment_id == experiment_id)
    with handlers._get_tracking_store().ManagedSessionMaker() as session:
        return [(run_id, uri) for run_id, uri in session.execute(wanted)]


def _reviewed_models() -> list[tuple[str, str]]:
    """As `_reviewed_runs`, with the artifact URI of each model of these runs."""
    named = _outputs(SqlInput.source_id, SqlLoggedModel.artifact_location).where(
        SqlLoggedModel.model_id == SqlInput.destination_id, _is_reviewed(SqlInput.source_id)
    )
    logged = select(SqlLoggedModel.source_run_id, SqlLoggedModel.artifact_location).where(
        _is_reviewed(SqlLoggedModel.source_run_id)
    )
    wanted = union(named, logged)
    with handlers._get_tracking_store().ManagedSessionMaker() as session:
        return [(run_id, uri) for run_id, uri in session.execute(wanted)]


def _outputs(*columns: Any) -> Select[Any]:
    """Selection of columns for the models that runs name as their outputs."""
    return select(*columns).where(SqlInput.source_type == "RUN_OUTPUT", SqlInput.destination_type == "MODEL_OUTPUT")


def _is_reviewed(run_id: Any) -> ColumnElement[bool]:
    """Condition that the run in a column is approved or has an alias."""
    approved = select(SqlTag.run_uuid).where(SqlTag.key == "review.state", SqlTag.value == verdicts.APPROVED)
    registered = select(SqlModelVersion.run_id).join(
        SqlRegisteredModelAlias,
        (SqlRegisteredModelAlias.name == SqlModelVersion.name)
        & (SqlRegisteredModelAlias.version == SqlModelVersion.version),
    )
    return or_(run_id.in_(approved), run_id.in_(registered))
