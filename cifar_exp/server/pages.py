"""The pages of the team: what waits, a sweep, a run, runs side by side, their history, and the forms to decide."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import quote, urlencode

from flask import Flask, Response, redirect, request
from flask_wtf.csrf import generate_csrf, validate_csrf
from jinja2 import Environment, PackageLoader, StrictUndefined
from wtforms.validators import ValidationError

from cifar_exp.errors import UserError
from cifar_exp.review import texts
from cifar_exp.review.promotion_records import CHAMPION
from cifar_exp.server import api, database, decisions, details, guard, lists, people, shown, side_by_side, waiting

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
MOST_COMPARED = 4

_FIRST_OF_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would compute such a cell
_WORDS = {
    "approve": "approved",
    "reject": "rejected",
    "request-rerun": "asked for a change",
    "withdraw": "withdrew the verdict",
    "comment": "commented",
    "request-review": "asked for a review",
    "promote": "promoted",
    "remove-alias": "alias removed",
}
_PICTURES = ("calibration", "curves", "confusion_matrix", "mistakes", "predictions", "samples")

View = Callable[[], Response]


def add_routes(app: Flask) -> None:
    """Add the pages to MLflow's Flask app, and make /team the first page of a browser."""
    app.config["SESSION_COOKIE_SAMESITE"] = "Strict"
    for path, view in (
        ("/team", _team),
        ("/team/sweep", _sweep),
        ("/team/run", _run),
        ("/team/compare", _compare),
        ("/team/history", _history),
        ("/team/picture", _picture),
        ("/team/logout", _logout),
        ("/team/page.css", lambda: _file("page.css", "text/css")),
        ("/team/page.js", lambda: _file("page.js", "text/javascript")),
    ):
        guard.add_route(app, "GET", path, _page(view))
    guard.add_route(app, "POST", "/team/decide", _page(_decide))
    app.before_request(_first_page)


def _first_page() -> Response | None:
    """Send a browser that opens the server to /team; `/?mlflow` is MLflow's own first page."""
    opened = request.path == "/" and request.method == "GET" and not request.query_string
    is_browser = "text/html" in request.headers.get("Accept", "")  # programs accept anything
    return _redirect("/team") if opened and is_browser else None


def _page(view: View) -> View:
    """A view with the headers that all pages have, and refusals as a page."""

    def answer() -> Response:
        try:
            response = view()
        except UserError as error:
            response = _render("refusal.html", api.status_of(error)[0], message=str(error))
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["X-Frame-Options"] = "DENY"
        response.headers["Referrer-Policy"] = "same-origin"
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    return answer


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("cifar_exp.server", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["markdown"] = details.markdown
    environment.filters["words"] = lambda action: _WORDS.get(action, action)
    environment.globals |= {"polyline": shown.polyline, "range_of": shown.range_of, "shade": details.shade}
    return environment


def _render(template: str, status: int = 200, **values: Any) -> Response:
    user = people.user()
    html = (
        _environment()
        .get_template(template)
        .render(
            user=user, approver=people.is_approver(user), csrf_token=generate_csrf(), here=request.full_path, **values
        )
    )
    # A class may be named by half of a surrogate pair, which UTF-8 does not have.
    return Response(html.encode(errors="replace"), status, mimetype="text/html")


def _redirect(address: str) -> Response:
    response = redirect(address, 303)
    assert isinstance(response, Response)
    return response


def _file(name: str, kind: str) -> Response:
    content = files("cifar_exp.server").joinpath("page", name).read_text()
    response = Response(content, mimetype=kind)
    response.headers["Cache-Control"] = "max-age=300"
    return response


def _team() -> Response:
    user = people.user()
    ids = [one.experiment_id for one in people.experiments(user)]
    return _render(
        "team.html",
        queue=waiting.queue(user, ids),
        running=lists.running(ids),
        decided=lists.decided(user),
        champions=lists.champions(user),
    )


def _sweep() -> Response:
    user, name = people.user(), request.args.get("name", "")
    experiment_id = request.args.get("experiment", "")
    if not experiment_id.isdecimal() or experiment_id not in {one.experiment_id for one in people.experiments(user)}:
        raise decisions.Missing(f"no sweep {name!r}")
    logged = lists.sweep(experiment_id, name)
    if not logged:
        raise decisions.Missing(f"no sweep {name!r}")
    table = details.table(logged, request.args.get("sort", ""), request.args.get("show", ""))
    curves = lists.histories([run.info.run_id for run in logged], shown.CURVE)
    low, high = shown.range_of(curves)
    return _render(
        "sweep.html",
        name=name,
        experiment_id=experiment_id,
        table=table,
        curves=curves,
        low=low,
        high=high,
        show=request.args.get("show", ""),
    )


def _run() -> Response:
    user = people.user()
    run = decisions.readable_run(user, request.args.get("id", ""))
    found = details.of_run(run)
    subject = f"run {run.info.run_id}"
    experiment = database.tracking().get_experiment(run.info.experiment_id)
    return _render(
        "run.html",
        run=shown.run(run),
        details=found,
        events=lists.events(subject),
        experiment=experiment.name,
        may_review=people.may_review(user, run.info.experiment_id),
    )


def _compare() -> Response:
    chosen = list(dict.fromkeys(request.args.getlist("run")))
    if not 2 <= len(chosen) <= MOST_COMPARED:
        raise UserError(f"choose 2 to {MOST_COMPARED} runs to see them side by side; {len(chosen)} are chosen")
    runs = [decisions.readable_run(people.user(), run_id) for run_id in chosen]
    return _render("compare.html", compared=side_by_side.compare(runs))


def _history() -> Response:
    user, has_alias = people.user(), False
    if model := request.args.get("model", ""):
        if not people.may_read_model(user, model.rpartition("@")[0]):
            raise decisions.Missing(f"no model {model!r}")
        subject, name, query = f"model {model}", model, f"model={quote(model)}"
        has_alias = decisions.has_alias(*model.rpartition("@")[::2])
    else:
        run = decisions.readable_run(user, request.args.get("run", ""))
        subject, query = f"run {run.info.run_id}", f"run={run.info.run_id}"
        name = run.info.run_name or run.info.run_id
    events = lists.events(subject)
    kind = request.args.get("format", "")
    if kind == "json":
        return _download(json.dumps(events, indent=2, ensure_ascii=False), "application/json", "history.json")
    if kind == "csv":
        return _download(_csv(events), "text/csv", "history.csv")
    return _render("history.html", name=name, events=events, query=query, model=model, has_alias=has_alias)


def _csv(events: list[dict[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(lists.EVENT_FIELDS)
    for event in events:
        cells = [event[field] for field in lists.EVENT_FIELDS]
        writer.writerow([f"'{cell}" if cell.startswith(_FIRST_OF_FORMULA) else cell for cell in cells])
    return text.getvalue()


def _download(content: str, kind: str, name: str) -> Response:
    response = Response(content, mimetype=kind)
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _picture() -> Response:
    run = decisions.readable_run(people.user(), request.args.get("id", ""))
    name = request.args.get("name", "")
    content = details.picture(run, name) if name in _PICTURES else None
    if content is None:
        raise decisions.Missing(f"no picture {name!r}")
    response = Response(content, mimetype="image/png")
    response.headers["Cache-Control"] = "private, max-age=60"  # a page shows several parts of the same picture
    return response


def _logout() -> Response:
    """Make the browser forget the password: with basic authentication, only a refused login does."""
    response = _render("logged_out.html", 401)
    response.headers["WWW-Authenticate"] = 'Basic realm="mlflow"'
    return response


def _decide() -> Response:
    """Carry out a form, and show the page that it was on."""
    try:
        validate_csrf(request.form.get("csrf_token"))
    except ValidationError as error:
        raise decisions.Forbidden("this form is too old: go back, load the page again, and repeat it") from error
    form, author = request.form, api.author()
    for name, value in form.items(multi=True):
        texts.check_characters(value, name)
    action, chosen = form.get("action", ""), form.getlist("run")
    note, reason = form.get("note", ""), form.get("even_though", "")
    if action == "remove-alias":
        model, alias = form.get("model", ""), form.get("alias", "")
        decisions.remove_alias(author, model, alias, note)
        return _redirect(f"/team/history?{urlencode({'model': f'{model}@{alias}'})}")
    if not chosen:
        raise UserError("no run is chosen")
    if action == "compare":
        return _redirect(f"/team/compare?{urlencode([('run', one) for one in chosen])}")
    if len(chosen) > 1 and action != "reject":
        raise UserError("several runs can only be rejected at once: look at each of them to decide otherwise")
    if len(chosen) > 1:
        for run_id in chosen:  # so that none is rejected unless all can be
            decisions.reviewable_run(author, run_id)
    for run_id in chosen:
        if action == "comment":
            decisions.comment(author, run_id, note)
        elif action == "request-review":
            decisions.request_review(author, run_id, form.get("reviewer", ""), note)
        elif action == "promote":
            decisions.promote(author, run_id, form.get("model", ""), form.get("alias", CHAMPION), note, reason)
        else:
            decisions.give_verdict(author, run_id, action, note, reason)
    if len(chosen) > 1:
        return _redirect("/team")
    return _redirect(f"/team/run?{urlencode({'id': chosen[0]})}#decide")
