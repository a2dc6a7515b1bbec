"""Verdicts, remarks and promotions as the server records them: checked, written and audited in one transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from mlflow.store.model_registry.dbmodels.models import (
    SqlModelVersion,
    SqlModelVersionTag,
    SqlRegisteredModel,
    SqlRegisteredModelAlias,
)
from mlflow.store.tracking.dbmodels.models import SqlTag
from sqlalchemy.orm import Session

from cifar_exp import notify
from cifar_exp.errors import UserError
from cifar_exp.review import digest, promotion, promotion_records, remarks, removal, texts, verdicts
from cifar_exp.review.promotion_records import Promotion
from cifar_exp.review.remarks import Remark
from cifar_exp.review.removal import Removal
from cifar_exp.server import audit, database, people

if TYPE_CHECKING:
    from mlflow.entities import Run

_DONE = {
    "approve": "approved",
    "reject": "rejected",
    "request-rerun": "asks for a change of",
    "withdraw": "withdrew the verdict on",
}
_WORKSPACE = "default"
UNKEPT = "its approval was made before the server kept the rules"


class Forbidden(UserError):
    """Raised when a user may not do something at all."""


class Missing(UserError):
    """Raised when there is no such run or model, or the user may not read it."""


@dataclass(frozen=True)
class Author:
    """Whose request is served.

    Attributes:
        name: of the user.
        origin: address and program of the request.
        root: address of the server as the user reaches it, with a slash at its end.
    """

    name: str
    origin: str
    root: str = "/"


def readable_run(user: str, run_id: str) -> Run:
    """A run that a user may read.

    Raises:
        Missing: if there is none.
    """
    run = database.run(run_id)
    if run is None or not people.may_read_experiment(user, run.info.experiment_id):
        raise Missing(f"no run {run_id!r}")
    return run


def reviewable_run(author: Author, run_id: str) -> Run:
    """A run that a user may review.

    Raises:
        UserError: if there is none, the user may only read it, or it has no model to review.
    """
    run = readable_run(author.name, run_id)
    if not people.may_review(author.name, run.info.experiment_id):
        raise Forbidden(f"user {author.name!r} may only read the runs of this experiment")
    verdicts.check_reviewable(run)
    return run


def give_verdict(author: Author, run_id: str, action: str, note: str = "", even_though: str = "") -> None:
    """Record a verdict on a run.

    Args:
        author: the reviewer.
        run_id: id of the run.
        action: one of `verdicts.ACTIONS`.
        note: comment.
        even_though: reason for an approval in spite of the objections.

    Raises:
        UserError: if the rules forbid it.
    """
    if action not in verdicts.ACTIONS:
        raise UserError(f"action {action!r}: expected {', '.join(verdicts.ACTIONS)}")
    reviewable_run(author, run_id)
    with database.transaction() as session:
        run = readable_run(author.name, run_id)  # again: nobody else decides from here on
        if action == "withdraw":
            _check_withdrawal(author, run)
        state = verdicts.ACTIONS[action]
        verdict = verdicts.prepare(run, state, author.name, note, even_though, "", digest.of_run(run))
        key, value = verdicts.as_tag(verdict)
        _write_tags(session, run, {key: value})
        content: dict[str, Any] = {"state": verdict.name, "note": note, "even_though": verdict.even_though, "tag": key}
        content |= {"objections": list(verdict.objections), "digest": verdict.digest}
        _append(session, author, action, f"run {run_id}", {"state": verdicts.state(run)}, content)
    _tell(author, f"{_DONE[action]} {run.info.run_name}", note, id=run_id)


def _check_withdrawal(author: Author, run: Run) -> None:
    given = verdicts.history(run)
    if given and given[-1].by != author.name and not people.is_approver(author.name):
        raise Forbidden(f"the verdict is by {given[-1].by}: only they or an approver may withdraw it")


def comment(author: Author, run_id: str, text: str) -> None:
    """Record a comment on a run.

    Raises:
        UserError: if it is empty or too long.
    """
    _remark(author, run_id, "comment", text.strip(), "")


def request_review(author: Author, run_id: str, reviewer: str, text: str = "") -> None:
    """Ask a user to review a run.

    Raises:
        UserError: if there is no such user, or they may not review the run.
    """
    run = reviewable_run(author, run_id)
    if not people.exists(reviewer) or not people.may_review(reviewer, run.info.experiment_id):
        raise UserError(f"there is no user {reviewer!r} who may review this run")
    if verdicts.owner(run) == reviewer:
        raise UserError(f"{reviewer} created this run: ask somebody else")
    _remark(author, run_id, "request-review", text.strip(), reviewer)


def _remark(author: Author, run_id: str, action: str, text: str, reviewer: str) -> None:
    if not text and not reviewer:
        raise UserError("the comment is empty")
    texts.check(text, "comment")
    run = reviewable_run(author, run_id)
    with database.transaction() as session:
        key, value = remarks.as_tag(Remark(author.name, datetime.now(UTC), text, reviewer))
        _write_tags(session, run, {key: value})
        _append(session, author, action, f"run {run_id}", {}, {"text": text, "reviewer": reviewer, "tag": key})
    if reviewer:
        _tell(author, f"asks {reviewer} to review {run.info.run_name}", text, id=run_id)


def promote(author: Author, run_id: str, name: str, alias: str, note: str = "", even_though: str = "") -> Promotion:
    """Give an alias to the model of a run.

    Args:
        author: an approver.
        run_id: id of the run.
        name: of the registered model, which is created if it does not exist.
        alias: such as champion.
        note: comment.
        even_though: reason to promote a run that is not approved or not better.

    Raises:
        UserError: if the rules forbid it.
    """
    run = readable_run(author.name, run_id)
    if not people.is_approver(author.name):
        raise Forbidden(f"user {author.name!r} may not promote models: an administrator can make them an approver")
    store = database.store_of(run)
    plan = promotion.prepare(store, run, name, alias, note, even_though, _unkept(run))
    version = int(promotion.register(store, run, name).version)
    with database.transaction() as session:
        now = database.run(run_id)
        if now is None or digest.of_run(now) != digest.of_run(run) or verdicts.history(now) != verdicts.history(run):
            raise UserError(f"{run.info.run_name} was changed in the meantime: look at it again")
        current = promotion_records.current_version(store.client, name, alias)
        plan.check_unmoved(str(current.version) if current else None)
        promoted = plan.promotion(str(version), author.name, promotion_records.records(store.client, name))
        key, value = promotion_records.as_tag(promoted)
        session.merge(SqlRegisteredModelAlias(workspace=_WORKSPACE, name=name, alias=alias, version=version))
        session.merge(SqlModelVersionTag(workspace=_WORKSPACE, name=name, version=version, key=key, value=value))
        row = session.get_one(SqlModelVersion, (_WORKSPACE, name, version))
        row.description = promoted.description
        before = {"version": str(current.version), "run": current.run_id} if current else {}
        after: dict[str, Any] = {
            "version": str(version),
            "run": run_id,
            "why": promoted.why,
            "even_though": promoted.even_though,
        }
        after |= {"objections": list(promoted.objections), "tag": key}
        _append(session, author, "promote", f"model {name}@{alias}", before, after)
    _tell(author, f"made {run.info.run_name} the {alias} of {name}", promoted.why, id=run_id)
    return promoted


def remove_alias(author: Author, name: str, alias: str, why: str) -> Removal:
    """Remove an alias of a registered model.

    Args:
        author: an approver.
        name: of the registered model.
        alias: such as champion.
        why: reason.

    Raises:
        UserError: if the rules forbid it, no version has the alias, or there is no reason.
    """
    if not people.is_approver(author.name):
        raise Forbidden(f"user {author.name!r} may not remove aliases: an administrator can make them an approver")
    subject = f"{name}@{alias}"
    with database.transaction() as session:
        if not people.may_read_model(author.name, name) or not session.get(SqlRegisteredModel, (_WORKSPACE, name)):
            raise Missing(f"no model {name!r}")
        current = session.get(SqlRegisteredModelAlias, (_WORKSPACE, name, alias))
        version = current.version if current else None
        removed = removal.prepare(name, alias, str(version) if current else None, author.name, why)
        row = session.get_one(SqlModelVersion, (_WORKSPACE, name, version))
        key, value = removal.as_tag(removed)
        session.delete(current)
        session.merge(SqlModelVersionTag(workspace=_WORKSPACE, name=name, version=version, key=key, value=value))
        row.description = removed.line
        before = {"version": str(version), "run": row.run_id}
        _append(session, author, "remove-alias", f"model {subject}", before, {"was": str(version), "why": removed.why})
    _tell(author, f"removed {alias} from version {version} of {name}", removed.why, "history", model=subject)
    return removed


def has_alias(name: str, alias: str) -> bool:
    """Whether a version of a registered model has an alias now."""
    with Session(database.tracking().engine) as session:
        return session.get(SqlRegisteredModelAlias, (_WORKSPACE, name, alias)) is not None


def _unkept(run: Run) -> tuple[str, ...]:
    """Objection to an approval that this server has not kept: anybody could have written it."""
    given = verdicts.history(run)
    if not given or given[-1].state != verdicts.APPROVED or verdicts.state(run) != verdicts.APPROVED:
        return ()
    return () if is_kept(run, given[-1]) else (UNKEPT,)


def is_kept(run: Run, verdict: verdicts.Verdict) -> bool:
    """Whether the audit trail has a verdict."""
    with database.tracking().engine.connect() as connection:
        rows = audit.read(connection, [f"run {run.info.run_id}"])
    key, _ = next((pair for pair in run.data.tags.items() if verdicts.in_tags(dict([pair])) == [verdict]), ("", ""))
    return key in {json.loads(row.after).get("tag") for row in rows if row.action in verdicts.ACTIONS}


def _write_tags(session: Session, run: Run, new: Mapping[str, str]) -> None:
    """Write tags of a run, and those that show its state."""
    tags = {**run.data.tags, **new}
    shown = {key: value for key, value in verdicts.shown_tags(tags).items() if tags.get(key, "") != value}
    for key, value in {**new, **shown}.items():
        session.merge(SqlTag(run_uuid=run.info.run_id, key=key, value=value))


def _tell(author: Author, what: str, text: str, page: str = "run", **query: str) -> None:
    """Tell the receivers of messages of a decision, after it is written."""
    body = "\n".join(filter(None, [text, f"{author.root}team/{page}?{urlencode(query)}"]))
    notify.send(f"{author.name} {what}", body)


def _append(
    session: Session, author: Author, action: str, subject: str, before: Mapping[str, Any], after: Mapping[str, Any]
) -> None:
    audit.append(session, author.name, author.origin, action, subject, before, after)
