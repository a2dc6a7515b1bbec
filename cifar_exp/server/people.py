"""Who is asking, and what they may: MLflow's users, roles and permissions."""

from __future__ import annotations

from typing import Any

from flask import g
from mlflow.exceptions import MlflowException
from mlflow.server import auth, handlers
from mlflow.server.auth.entities import Role
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

MEMBER, APPROVER = "member", "approver"

_WORKSPACE = "default"
# What each role permits for experiments and models of others, in addition to reading: members log to any experiment,
# approvers register versions of existing models.
_ROLES = {MEMBER: ("experiment", "EDIT"), APPROVER: ("registered_model", "EDIT")}


def make_roles(users: SqlAlchemyStore) -> dict[str, Role]:
    """Create the roles that are missing, and return all of them by name."""
    roles = {role.name: role for role in users.list_roles([_WORKSPACE])}
    for name, (what, permission) in _ROLES.items():
        if name not in roles:
            roles[name] = users.create_role(name, _WORKSPACE)
            users.add_role_permission(roles[name].id, what, "*", permission)
    return roles


def user() -> str:
    """Name of the user whose request is served."""
    return str(g.mlflow_authenticated_user)


def is_admin(name: str) -> bool:
    """Whether a user is an administrator."""
    return bool(auth.store.get_user(name).is_admin)


def is_approver(name: str) -> bool:
    """Whether a user may promote models: approvers and administrators."""
    account = auth.store.get_user(name)
    return bool(account.is_admin) or any(role.name == APPROVER for role in auth.store.list_user_roles(account.id))


def exists(name: str) -> bool:
    """Whether there is such a user."""
    return bool(auth.store.has_user(name))


def may_read_experiment(name: str, experiment_id: str) -> bool:
    """Whether a user may read an experiment and its runs."""
    return is_admin(name) or _permission(name, experiment_id, "can_read")


def may_review(name: str, experiment_id: str) -> bool:
    """Whether a user may write verdicts on the runs of an experiment: who may log to it may review it."""
    return is_admin(name) or _permission(name, experiment_id, "can_update")


def may_read_model(name: str, model: str) -> bool:
    """Whether a user may read a registered model."""
    return is_admin(name) or bool(auth._graphql_can_read_model(model, name))


def _permission(name: str, experiment_id: str, action: str) -> bool:
    permission: Any = auth._graphql_get_permission_for_experiment(experiment_id, name)
    return bool(getattr(permission, action))


def experiments(name: str) -> list[Any]:
    """Experiments that a user may read, the latest changed first."""
    store = handlers._get_tracking_store()
    found: list[Any] = []
    token = None
    while True:
        page = store.search_experiments(max_results=1000, page_token=token)
        found += page
        token = page.token
        if not token:
            break
    admin = is_admin(name)
    return [one for one in found if admin or _readable(name, one.experiment_id)]


def _readable(name: str, experiment_id: str) -> bool:
    try:
        return _permission(name, experiment_id, "can_read")
    except MlflowException:
        return False
