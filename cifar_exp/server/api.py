"""The routes for programs: JSON in and out, for `cifar-exp` and everybody else's scripts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from flask import Flask, Response, request

from cifar_exp.errors import UserError
from cifar_exp.review import texts, verdicts
from cifar_exp.review.promotion_records import CHAMPION
from cifar_exp.server import audit, database, decisions, guard, people
from cifar_exp.server.decisions import Author

ROOT = "/api/3.0/cifar-exp"
PAGE = 1000  # rows of the audit trail in one answer
_DIGITS = 9  # of the number of a row

_STATUS: Mapping[type[UserError], tuple[int, str]] = {
    decisions.Missing: (404, "RESOURCE_DOES_NOT_EXIST"),
    decisions.Forbidden: (403, "PERMISSION_DENIED"),
    database.Busy: (503, "TEMPORARILY_UNAVAILABLE"),
    UserError: (409, "RULE"),
}


def add_routes(app: Flask) -> None:
    """Add the routes to MLflow's Flask app."""
    for method, name, view in (
        ("GET", "rules", _rules),
        ("GET", "audit", _audit),
        ("POST", "verdict", _verdict),
        ("POST", "comment", _comment),
        ("POST", "request-review", _request_review),
        ("POST", "promote", _promote),
        ("POST", "remove-alias", _remove_alias),
    ):
        guard.add_route(app, method, f"{ROOT}/{name}", _answered(view))


def author() -> Author:
    """The user whose request is served, and where it comes from."""
    forwarded = request.headers.get("X-Forwarded-For", "")[:200]
    program = request.headers.get("User-Agent", "no name")[:200]
    claimed = f", forwarded for {forwarded}" if forwarded else ""
    return Author(people.user(), f"{request.remote_addr or 'unknown'}{claimed}; {program}", request.host_url)


def status_of(error: UserError) -> tuple[int, str]:
    """HTTP status and error code of a refusal."""
    return next(status for kind, status in _STATUS.items() if isinstance(error, kind))


def _answered(view: Callable[[], Mapping[str, Any]]) -> Callable[[], Response]:
    """A view whose result, or refusal, is answered as JSON."""

    def answer() -> Response:
        try:
            return _response(view(), 200)
        except UserError as error:
            status, code = status_of(error)
            return _response({"error_code": code, "message": str(error)}, status)

    return answer


def _response(content: Mapping[str, Any], status: int) -> Response:
    return Response(json.dumps(content, ensure_ascii=False), status, mimetype="application/json")


def _body(*required: str) -> dict[str, str]:
    """The JSON object in a request. A page of another site cannot send this content type.

    Raises:
        UserError: if it is not an object of strings, or lacks a required one.
    """
    if request.mimetype != "application/json":
        raise UserError("expected a JSON object, with Content-Type: application/json")
    body = request.get_json(silent=True)
    if not isinstance(body, dict) or not all(isinstance(value, str) for value in body.values()):
        raise UserError("expected a JSON object of strings")
    for name, value in body.items():
        texts.check_characters(value, repr(name))
    if missing := [name for name in required if not body.get(name)]:
        raise UserError(f"{missing[0]} is missing")
    return body


def _rules() -> Mapping[str, Any]:
    """What a client asks first: whether this server keeps the rules, and what the user may."""
    user = people.user()
    return {"version": 1, "user": user, "approver": people.is_approver(user)}


def _verdict() -> Mapping[str, Any]:
    body = _body("run_id", "action")
    decisions.give_verdict(author(), body["run_id"], body["action"], body.get("note", ""), body.get("even_though", ""))
    return _state(body["run_id"])


def _comment() -> Mapping[str, Any]:
    body = _body("run_id", "text")
    decisions.comment(author(), body["run_id"], body["text"])
    return _state(body["run_id"])


def _request_review() -> Mapping[str, Any]:
    body = _body("run_id", "reviewer")
    decisions.request_review(author(), body["run_id"], body["reviewer"], body.get("text", ""))
    return _state(body["run_id"])


def _state(run_id: str) -> Mapping[str, Any]:
    run = decisions.readable_run(people.user(), run_id)
    return {"state": verdicts.state(run), "verdicts": [verdict.as_data() for verdict in verdicts.history(run)]}


def _promote() -> Mapping[str, Any]:
    body = _body("run_id", "model")
    promoted = decisions.promote(
        *(author(), body["run_id"], body["model"], body.get("alias", CHAMPION)),
        *(body.get("note", ""), body.get("even_though", "")),
    )
    return {"promotion": promoted.as_data()}


def _remove_alias() -> Mapping[str, Any]:
    body = _body("model", "alias")
    return {"removal": decisions.remove_alias(author(), body["model"], body["alias"], body.get("why", "")).as_data()}


def _audit() -> Mapping[str, Any]:
    """Rows of the audit trail, for approvers."""
    if not people.is_approver(people.user()):
        raise decisions.Forbidden("only approvers read the audit trail")
    after = request.args.get("after", "0")
    if not after.isdecimal() or len(after) > _DIGITS:
        raise UserError(f"after={after[:20]!r}: expected the number of a row")
    with database.tracking().engine.connect() as connection:
        rows = audit.read(connection, after=int(after), most=PAGE)
        number, last = audit.head(connection)
    return {"rows": [asdict(row) for row in rows], "head": [number, last]}
