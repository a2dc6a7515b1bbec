"""Verdicts and promotions through the server, by programs and by cifar-exp."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import program
import pytest
import requests
from team import PASSWORD, WRONG, Team

from cifar_exp import cli as program_of_review
from cifar_exp import exits
from cifar_exp.review import promotion_records, remarks, run_record, verdicts
from cifar_exp.server import audit

ROOT = "/api/3.0/cifar-exp"


def post(server: Team, user: str, name: str, **body: Any) -> requests.Response:
    return server.call(user, "POST", f"{ROOT}/{name}", json=body)


def rows(server: Team, subject: str) -> list[audit.Row]:
    with closing(sqlite3.connect(server.folder / "m.db")) as database:
        database.row_factory = sqlite3.Row
        found = database.execute("SELECT * FROM cifar_exp_audit WHERE subject = ? ORDER BY number", [subject])
        return [audit.Row(**dict(row)) for row in found]


def cli(server: Team, user: str, *arguments: str) -> tuple[int, str, str]:
    login = {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": PASSWORD, "MLFLOW_TRACKING_URI": server.uri}
    done = program.execute([*program.COMMAND, *arguments], server.folder, login)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def test_nobody_approves_their_own_run_whatever_its_tags_say(server: Team) -> None:
    run = server.log("ann", "own", tags={"mlflow.user": "bob"})
    answer = post(server, "ann", "verdict", run_id=run, action="approve")
    assert answer.status_code == 409 and "own is your own run, ann" in answer.json()["message"]
    assert post(server, "bob", "verdict", run_id=run, action="approve", note="good").json()["state"] == "approved"
    (row,) = rows(server, f"run {run}")
    assert (row.who, row.action, json.loads(row.before)) == ("bob", "approve", {"state": "unreviewed"})
    assert row.origin.startswith("127.0.0.1; python-requests/") and json.loads(row.after)["note"] == "good"


def test_an_address_that_takes_no_messages_is_named_in_the_log_of_the_server(server: Team) -> None:
    written = (server.folder / "log").read_text()
    assert "CIFAR_EXP_NOTIFY: address 2 of 2 is of no form that Apprise knows" in written
    assert WRONG not in written


def test_receivers_are_told_of_requests_and_decisions(server: Team) -> None:
    run = server.log("ann", "told")
    assert post(server, "ann", "request-review", run_id=run, reviewer="eve", text="before Friday").ok
    assert post(server, "ann", "verdict", run_id=run, action="approve").status_code == 409  # nobody is told of this
    assert post(server, "eve", "verdict", run_id=run, action="approve", note="good").ok
    assert post(server, "bob", "promote", run_id=run, model="told").ok
    until = time.monotonic() + 60
    while not any("made told the champion" in title for title in server.receiver.titles):
        assert time.monotonic() < until, server.receiver.titles
        time.sleep(0.05)
    told = [(title, body) for title, body in server.receiver.messages if " told" in title]
    page = f"{server.uri}/team/run?id={run}"
    assert told[:2] == [
        ("ann asks eve to review told", f"before Friday\n{page}"),
        ("eve approved told", f"good\n{page}"),
    ]
    assert told[2][0] == "bob made told the champion of told" and len(told) == 3


@pytest.mark.parametrize(
    ("tags", "params", "objection"),
    [
        ({"outcome": "collapsed"}, {}, "it collapsed"),
        ({"cifar_exp.git_dirty": "true"}, {}, "uncommitted changes"),
        ({}, {"data.validation": "test"}, "validated on the test images"),
    ],
)
def test_what_is_doubtful_needs_a_reason(
    server: Team, tags: dict[str, str], params: dict[str, str], objection: str
) -> None:
    run = server.log("ann", "doubtful", tags=tags, params=params)
    answer = post(server, "bob", "verdict", run_id=run, action="approve")
    assert answer.status_code == 409 and objection in answer.json()["message"]
    answer = post(server, "bob", "verdict", run_id=run, action="approve", even_though="I know")
    assert answer.ok and answer.json()["verdicts"][0]["even_though"] == "I know"


def test_a_run_that_is_changed_after_its_approval_waits_again(server: Team) -> None:
    run = server.log("ann", "changed later")
    assert post(server, "bob", "verdict", run_id=run, action="approve").ok
    with server.client("ann") as client:
        assert verdicts.state(client.get_run(run)) == "approved"
        client.set_tag(run, "mlflow.note.content", "another description")
        assert verdicts.state(client.get_run(run)) == "approved"
        client.log_metric(run, "test/accuracy", 0.99, step=9)
        assert verdicts.state(client.get_run(run)) == "unreviewed"
        assert run_record.from_run(client.get_run(run)).review == "unreviewed"  # what compare and report show
    answer = post(server, "bob", "promote", run_id=run, model="changed")
    assert answer.status_code == 409 and "it is unreviewed, not approved" in answer.json()["message"]
    assert post(server, "bob", "verdict", run_id=run, action="approve").json()["state"] == "approved"


def test_a_verdict_is_withdrawn_by_its_author_or_an_approver(server: Team) -> None:
    run = server.log("ann", "withdrawn")
    assert post(server, "eve", "verdict", run_id=run, action="withdraw").status_code == 409
    assert post(server, "eve", "verdict", run_id=run, action="reject", note="no").ok
    assert post(server, "ann", "verdict", run_id=run, action="withdraw").status_code == 403
    answer = post(server, "bob", "verdict", run_id=run, action="withdraw")
    assert answer.json()["state"] == "unreviewed" and len(answer.json()["verdicts"]) == 2


def test_comments_and_requests_for_a_review(server: Team) -> None:
    run = server.log("ann", "talked about")
    assert post(server, "ann", "comment", run_id=run, text="<b>look</b>").json()["state"] == "unreviewed"
    assert post(server, "ann", "request-review", run_id=run, reviewer="nobody").status_code == 409
    assert post(server, "ann", "request-review", run_id=run, reviewer="ann").status_code == 409
    assert post(server, "ann", "request-review", run_id=run, reviewer="bob", text="please").ok
    with server.client("eve") as client:
        logged = client.get_run(run)
    assert [(one.by, one.text, one.reviewer) for one in remarks.of_run(logged)] == [
        ("ann", "<b>look</b>", ""),
        ("ann", "please", "bob"),
    ]
    assert remarks.asked(logged.data.tags) == ["bob"]
    assert post(server, "bob", "verdict", run_id=run, action="request-rerun").json()["state"] == "rerun-requested"
    with server.client("eve") as client:
        assert remarks.asked(client.get_run(run).data.tags) == []


def test_only_approvers_promote_and_only_what_is_better(server: Team) -> None:
    first = server.log("ann", "first", right=0.7)
    better = server.log("ann", "better", right=0.9)
    twin = server.log("ann", "twin", right=0.9, seed=1)
    for run in (first, better, twin):
        assert post(server, "eve", "verdict", run_id=run, action="approve").ok
    assert post(server, "eve", "promote", run_id=first, model="ladder").status_code == 403
    assert post(server, "bob", "promote", run_id=first, model="ladder", note="The first.").ok
    answer = post(server, "bob", "promote", run_id=better, model="ladder").json()["promotion"]
    assert answer["version"] == "2" and "larger than chance" in answer["why"]
    refused = post(server, "bob", "promote", run_id=twin, model="ladder")
    assert refused.status_code == 409 and "cannot be promoted" in refused.json()["message"]
    assert post(server, "bob", "promote", run_id=twin, model="ladder", even_though="it is smaller").ok
    with server.client("eve") as client:
        assert str(client.get_model_version_by_alias("ladder", "champion").version) == "3"
        assert [one.run_name for one in promotion_records.records(client, "ladder")] == ["first", "better", "twin"]
    trail = rows(server, "model ladder@champion")
    assert [json.loads(row.after)["version"] for row in trail] == ["1", "2", "3"]
    assert json.loads(trail[2].before) == {"version": "2", "run": better}


def test_an_approval_from_before_the_rules_is_shown_as_such_and_promotes_nothing(server: Team) -> None:
    run = server.log("ann", "old times")
    verdict = verdicts.Verdict("approved", "bob", verdicts.datetime.now(verdicts.UTC))
    key, value = verdicts.as_tag(verdict)
    with closing(sqlite3.connect(server.folder / "m.db", timeout=60)) as database:  # as a server without rules did
        database.execute("INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)", [key, value, run])
        database.commit()
    code, out, err = cli(server, "eve", "review", run)
    assert code == 0 and "made before the server kept the rules" in out, err
    answer = post(server, "bob", "promote", run_id=run, model="old")
    assert answer.status_code == 409 and "before the server kept the rules" in answer.json()["message"]


def test_cifar_exp_uses_the_rules_of_the_server(server: Team) -> None:
    run = server.log("ann", "by command")
    code, _, err = cli(server, "ann", "review", "by command", "--approve", "review.allow_own=true")
    assert code == 2 and "by command is your own run, ann: another user has to approve it" in err
    assert err.count("\n") == 1
    code, out, err = cli(server, "eve", "review", "by command", "--approve", "--note", "I looked")
    assert (code, err) == (0, "") and "approved by eve: I looked" in out
    code, _, err = cli(server, "eve", "promote", "by command", "review.model=command")
    assert code == 2 and "may not promote models" in err and err.count("\n") == 1
    code, out, err = cli(server, "bob", "promote", "by command", "review.model=by command")
    assert (code, err) == (0, "") and "champion now" in out and "-m 'models:/by command@champion'\n" in out
    assert [row.who for row in rows(server, f"run {run}")] == ["eve"]
    code, out, _ = cli(server, "bob", "audit")
    assert code == 0 and out.startswith("The audit trail is whole")
    code, _, err = cli(server, "eve", "audit", "--server", server.uri)
    assert code == 2 and "only approvers" in err


def test_two_reviewers_at_the_same_moment_lose_no_verdict(server: Team) -> None:
    run = server.log("ann", "contested")
    with ThreadPoolExecutor(6) as pool:
        calls = [(user, action) for user in ("bob", "eve", "admin") for action in ("approve", "reject")]
        answers = list(pool.map(lambda one: post(server, one[0], "verdict", run_id=run, action=one[1]), calls))
    assert [answer.status_code for answer in answers] == [200] * 6
    with server.client("eve") as client:
        logged = client.get_run(run)
    given = verdicts.history(logged)
    assert len(given) == 6 == len(rows(server, f"run {run}"))
    assert logged.data.tags["review.state"] == given[-1].state


@pytest.mark.parametrize("text", ["x" * 1001, "a\0b", "a\ud800b"], ids=["long", "NUL", "half of a pair"])
def test_a_text_that_cannot_be_stored_is_refused(server: Team, text: str) -> None:
    run = server.log("ann", "text")
    for route, field in (("verdict", "note"), ("comment", "text")):
        answer = post(server, "bob", route, run_id=run, action="reject", **{field: text})
        assert answer.status_code == 409 and answer.json()["error_code"] == "RULE", answer.text
    assert rows(server, f"run {run}") == []


def test_a_body_from_another_site_is_refused(server: Team) -> None:
    run = server.log("ann", "forged")
    body = json.dumps({"run_id": run, "action": "approve"})
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        answer = server.call("bob", "POST", f"{ROOT}/verdict", data=body, headers={"Content-Type": kind})
        assert answer.status_code == 409
    assert requests.post(f"{server.uri}{ROOT}/verdict", json={}, timeout=60).status_code == 401


def test_a_run_that_one_may_not_read_does_not_exist(server: Team) -> None:
    run = server.log("ann", "hidden", experiment="secret")
    with server.client("ann") as client:
        experiment = client.get_run(run).info.experiment_id
    denied = server.call(
        "admin",
        "POST",
        "/api/3.0/mlflow/users/permissions/grant",
        json={
            "username": "max",
            "resource_type": "experiment",
            "resource_id": experiment,
            "permission": "DENY",
        },
    )
    assert denied.ok, denied.text
    hidden = post(server, "max", "verdict", run_id=run, action="reject")
    nowhere = post(server, "max", "verdict", run_id="0" * 32, action="reject")
    assert hidden.status_code == nowhere.status_code == 404
    assert hidden.json()["message"].replace(run, "") == nowhere.json()["message"].replace("0" * 32, "")
    seen = server.log("ann", "seen")  # max may read it, not log to it
    assert post(server, "max", "verdict", run_id=seen, action="reject").status_code == 403


def test_an_approver_removes_an_alias_with_a_reason(
    server: Team, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = server.log("ann", "deposed")
    assert post(server, "eve", "verdict", run_id=run, action="approve").ok
    assert post(server, "bob", "promote", run_id=run, model="deposed").ok
    page, form = "/team/history?model=deposed@champion", {"action": "remove-alias", "model": "deposed"}
    form |= {"alias": "champion", "note": "it saw <the> test images"}

    def by_form(user: str) -> requests.Response:
        session = requests.Session()
        session.auth = (user, PASSWORD)
        shown = session.get(f"{server.uri}/team/run?id={run}", timeout=60).text
        token = re.findall(r'name="csrf_token" value="([^"]+)"', shown)[0]
        return session.post(f"{server.uri}/team/decide", data=form | {"csrf_token": token}, timeout=60)

    removal = {"model": "deposed", "alias": "champion", "why": "mine"}
    for user in ("ann", "eve"):
        assert post(server, user, "remove-alias", **removal).status_code == 403
        assert "Remove champion" not in server.call(user, "GET", page).text
    assert by_form("eve").status_code == 403
    without = post(server, "bob", "remove-alias", model="deposed", alias="champion", why=" ")
    assert without.status_code == 409 and "give the reason" in without.json()["message"]
    assert post(server, "bob", "remove-alias", **removal | {"model": "none"}).status_code == 404
    assert [row.action for row in rows(server, "model deposed@champion")] == ["promote"]

    assert "Remove champion" in server.call("bob", "GET", page).text
    done = by_form("bob")
    assert done.ok and "it saw &lt;the&gt; test images" in done.text and "Remove champion" not in done.text
    row = rows(server, "model deposed@champion")[-1]
    assert (row.who, row.action, json.loads(row.before)) == ("bob", "remove-alias", {"version": "1", "run": run})
    assert json.loads(row.after) == {"was": "1", "why": "it saw <the> test images"}
    with server.client("eve") as client:
        assert client.get_registered_model("deposed").aliases == {}
    assert "deposed@champion</a>\nversion" not in server.call("eve", "GET", "/team").text
    again = post(server, "bob", "remove-alias", **removal)
    assert again.status_code == 409 and "there is nothing to remove" in again.json()["message"]

    promoted = post(server, "bob", "promote", run_id=run, model="deposed").json()["promotion"]
    assert (promoted["version"], promoted["why"]) == ("1", "No version had this alias.")
    monkeypatch.setattr(exits, "take_signals", lambda: None)
    command = ["cifar-exp", "champion", "--uri", server.uri, "--remove", "for good", "review.model=deposed"]
    monkeypatch.setattr("sys.argv", command)
    with server.client("bob"):
        assert program_of_review.main() == 0
    said = capsys.readouterr().out
    assert "champion before" in said and "champion no more since" in said and "removed by bob: for good" in said
