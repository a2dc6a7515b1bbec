"""The pages of the team, as browsers get them."""

from __future__ import annotations

import csv
import io
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image
from team import IMAGES, PASSWORD, Team

from cifar_exp.evaluation import mistakes
from cifar_exp.review import verdicts

PAGES = (
    *("/team", "/team/sweep", "/team/run", "/team/compare", "/team/history", "/team/picture", "/team/logout"),
    "/team/page.css",
)
SWEEP = "a sweep & its jobs"
EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def jobs(server: Team) -> list[str]:
    tags = {"cifar_exp.sweep": SWEEP}
    first = server.log("ann", EVIL, right=0.9, tags=tags, params={"model.name": "large"}, experiment="pages")
    second = server.log("ann", "second", right=0.6, tags=tags, experiment="pages")
    third = server.log("ann", "third", right=0.3, tags=tags | {"outcome": "collapsed"}, experiment="pages")
    return [first, second, third]


def browser(server: Team, user: str) -> requests.Session:
    session = requests.Session()
    session.auth = (user, PASSWORD)
    session.headers["Accept"] = "text/html,application/xhtml+xml,*/*;q=0.8"
    return session


def token(page: str) -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert found
    return found[1]


def test_no_page_without_a_login(server: Team) -> None:
    for path in PAGES:
        assert requests.get(f"{server.uri}{path}", timeout=60).status_code == 401, path
    assert requests.post(f"{server.uri}/team/decide", timeout=60).status_code == 401


def test_every_page_has_its_security_headers(server: Team, jobs: list[str]) -> None:
    for path in (*PAGES, f"/team/run?id={jobs[0]}"):
        headers = server.call("bob", "GET", path).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["X-Frame-Options"] in ("DENY", "SAMEORIGIN")


def test_a_browser_opens_the_team_and_finds_mlflow(server: Team) -> None:
    session = browser(server, "ann")
    opened = session.get(f"{server.uri}/", timeout=60)
    assert opened.url == f"{server.uri}/team" and "Waits for a review" in opened.text
    assert "mlflow" in session.get(f"{server.uri}/?mlflow", timeout=60).text.lower()
    assert server.call("ann", "GET", "/").status_code == 200  # what programs get


def test_what_runs_are_called_is_shown_and_not_executed(server: Team, jobs: list[str]) -> None:
    experiment = server.call("bob", "GET", "/api/2.0/mlflow/experiments/get-by-name?experiment_name=pages").json()
    query = {"experiment": experiment["experiment"]["experiment_id"], "name": SWEEP}
    compared = f"/team/compare?run={jobs[0]}&run={jobs[1]}"
    for answer in (
        server.call("bob", "GET", "/team"),
        server.call("bob", "GET", "/team/sweep", params=query),
        server.call("bob", "GET", f"/team/run?id={jobs[0]}"),
        server.call("bob", "GET", compared),
    ):
        assert answer.status_code == 200 and EVIL not in answer.text and "&lt;script&gt;" in answer.text
    sweep = server.call("bob", "GET", "/team/sweep", params=query | {"show": "collapsed"}).text
    assert "third" in sweep and "second" not in sweep and "2 more are hidden" in sweep
    page = server.call("bob", "GET", compared).text
    assert "larger than chance would make it" in page
    first = r'<h3>.*: (\d+)</h3>\n<ul class="images"><li>\n<span>test image \d+, (?:airplane|cat|frog): taken for'
    alone = re.findall(first, page)
    assert alone == [str(round(0.3 * IMAGES))]  # the second one is right on nothing that the first one gets wrong
    assert server.call("bob", "GET", "/team/sweep", params=query | {"name": "' OR 1"}).status_code == 404


def test_evaluations_are_on_the_page_of_their_run(server: Team) -> None:
    run, other = (server.log("ann", name, experiment="pages") for name in ("evaluated", "not evaluated"))
    logged = server.log_evaluation(run, EVIL, "pages")
    server.log_evaluation(run, "nobody's business", "secret")
    page = server.call("eve", "GET", f"/team/run?id={run}").text
    assert "<h2>Evaluations</h2>" in page and f"{IMAGES} test images of &lt;script&gt;" in page and EVIL not in page
    for shown in (f'/runs/{logged}">', "0.5000", "0.4512 to 0.5488", "0.6250", "PGD 8/255: 0.0625"):
        assert shown in page, shown
    assert "business" not in page
    assert "<h2>Evaluations</h2>" not in server.call("eve", "GET", f"/team/run?id={other}").text


def test_comments_are_markdown_without_html(server: Team, jobs: list[str]) -> None:
    text = f"**bold** {EVIL} [a](javascript:alert(1)) ![b](http://elsewhere/b.png)"
    body = {"run_id": jobs[1], "text": text}
    assert server.call("eve", "POST", "/api/3.0/cifar-exp/comment", json=body).ok
    page = server.call("bob", "GET", f"/team/run?id={jobs[1]}").text
    assert "<strong>bold</strong>" in page and EVIL not in page
    assert 'href="javascript' not in page and '<img src="http' not in page


def test_a_form_decides_and_needs_its_token(server: Team) -> None:
    run = server.log("ann", "by form", experiment="pages")
    session, address = browser(server, "bob"), f"{server.uri}/team/decide"
    page = session.get(f"{server.uri}/team/run?id={run}", timeout=60).text
    cookie = next(iter(session.cookies))
    assert cookie.has_nonstandard_attr("HttpOnly") and cookie.get_nonstandard_attr("SameSite") == "Strict"
    form = {"run": run, "action": "approve", "note": "I looked"}
    assert session.post(address, data=form, timeout=60).status_code == 403
    foreign = token(browser(server, "eve").get(f"{server.uri}/team/run?id={run}", timeout=60).text)
    assert session.post(address, data=form | {"csrf_token": foreign}, timeout=60).status_code == 403
    done = session.post(address, data=form | {"csrf_token": token(page)}, timeout=60)
    assert done.status_code == 200 and "I looked" in done.text and "bob <b>approved</b>" in done.text
    promoted = {"run": run, "action": "promote", "model": "by form", "csrf_token": token(done.text)}
    assert session.post(address, data=promoted, timeout=60).status_code == 200
    assert "by form@champion" in session.get(f"{server.uri}/team", timeout=60).text
    own = browser(server, "ann")
    page = own.get(f"{server.uri}/team/run?id={run}", timeout=60).text
    assert "your own run" in page and "Promote</button>" not in page
    refused = own.post(address, data=form | {"csrf_token": token(page)}, timeout=60)
    assert refused.status_code == 409 and "by form is your own run, ann" in refused.text


def test_several_runs_are_rejected_at_once(server: Team) -> None:
    runs = [server.log("ann", f"weak {number}", experiment="pages") for number in range(2)]
    session = browser(server, "bob")
    csrf = token(session.get(f"{server.uri}/team/run?id={runs[0]}", timeout=60).text)
    form = {"run": runs, "note": "too weak", "csrf_token": csrf}
    address = f"{server.uri}/team/decide"
    assert session.post(address, data=form | {"action": "approve"}, timeout=60).status_code == 409
    one_is_none = form | {"run": [*runs, "0" * 32], "action": "reject"}
    assert session.post(address, data=one_is_none, timeout=60).status_code == 404
    with server.client("bob") as client:
        assert [verdicts.state(client.get_run(run)) for run in runs] == ["unreviewed", "unreviewed"]
    assert session.post(address, data=form | {"action": "reject"}, timeout=60).url == f"{server.uri}/team"
    with server.client("bob") as client:
        assert [verdicts.state(client.get_run(run)) for run in runs] == ["rejected", "rejected"]


def test_the_history_is_exported_and_no_cell_is_a_formula(server: Team) -> None:
    run = server.log("ann", "exported", experiment="pages")
    for text in ('=HYPERLINK("http://elsewhere")', "plain"):
        assert server.call("eve", "POST", "/api/3.0/cifar-exp/comment", json={"run_id": run, "text": text}).ok
    listed = server.call("bob", "GET", f"/team/history?run={run}&format=json").json()
    assert [(one["who"], one["action"]) for one in listed] == [("eve", "comment")] * 2
    rows = list(csv.DictReader(io.StringIO(server.call("bob", "GET", f"/team/history?run={run}&format=csv").text)))
    assert [row["text"] for row in rows] == ['\'=HYPERLINK("http://elsewhere")', "plain"]


def test_what_one_may_not_read_is_on_no_page(server: Team) -> None:
    run = server.log("ann", "nobody's business", experiment="private")
    with server.client("ann") as client:
        experiment = client.get_run(run).info.experiment_id
    grant = {"username": "max", "resource_type": "experiment", "resource_id": experiment, "permission": "DENY"}
    assert server.call("admin", "POST", "/api/3.0/mlflow/users/permissions/grant", json=grant).ok
    assert server.call("bob", "POST", "/api/3.0/cifar-exp/verdict", json={"run_id": run, "action": "reject"}).ok
    promoted = {"run_id": run, "model": "business", "even_though": "a test"}
    assert server.call("bob", "POST", "/api/3.0/cifar-exp/promote", json=promoted).ok
    assert "nobody&#39;s business" in server.call("bob", "GET", "/team").text
    assert "nobody" not in server.call("max", "GET", "/team").text
    compared = f"compare?run={run}&run={'0' * 32}"
    for path in (f"run?id={run}", f"history?run={run}", f"picture?id={run}&name=curves", compared):
        answer = server.call("max", "GET", f"/team/{path}")
        assert answer.status_code == 404 and "business" not in answer.text


def test_a_picture_is_a_png_of_a_known_name(server: Team, tmp_path: Path) -> None:
    run = server.log("ann", "pictures", experiment="pages")
    with server.client("ann") as client:
        client.log_text(run, "<svg onload='alert(1)'/>", "figures/curves.png")
    for name in ("curves", "predictions", "../evaluation/predictions"):
        assert server.call("bob", "GET", "/team/picture", params={"id": run, "name": name}).status_code == 404
    Image.new("RGB", (8, 8)).save(tmp_path / "predictions.png")
    with server.client("ann") as client:
        client.log_artifact(run, str(tmp_path / "predictions.png"), "figures")
    shown = server.call("bob", "GET", "/team/picture", params={"id": run, "name": "predictions"})
    assert shown.headers["Content-Type"] == "image/png" and shown.content[:4] == b"\x89PNG"


def test_images_that_one_run_alone_gets_right_are_cut_from_the_mistakes_of_the_other(
    server: Team, tmp_path: Path
) -> None:
    shares = {"right": 1.0, "wrong": 0.5}
    right, wrong = (server.log("ann", name, share, experiment="pages") for name, share in shares.items())
    address = f"/team/compare?run={right}&run={wrong}"
    page = server.call("eve", "GET", address).text
    assert "<svg viewBox" not in page and "(figures/mistakes.png) of right, wrong." in page
    rows = np.sort(np.random.default_rng(0).permutation(IMAGES)[IMAGES // 2 :])[: mistakes.COUNT]  # as `log` chose them
    images = np.random.default_rng(1).integers(0, 256, (IMAGES, 8, 8, 3), np.uint8)
    (tmp_path / "mistakes.png").write_bytes(mistakes.sheet(images, rows))
    with server.client("ann") as client:
        client.log_artifact(wrong, str(tmp_path / "mistakes.png"), "figures")
    page = server.call("eve", "GET", address).text
    assert "Not logged" not in page
    cut = r'viewBox="(\d+) (\d+) 1 1".*id=(\w+)&amp;name=mistakes" width="16" height="8".*?test image (\d+),'
    cuts = re.findall(cut, page)
    assert [int(index) for *_, index in cuts] == rows[:12].tolist() and {run for _, _, run, _ in cuts} == {wrong}
    sheet = np.asarray(Image.open(tmp_path / "mistakes.png"))
    for column, row, _, index in cuts:
        at = (slice(8 * int(row), 8 * int(row) + 8), slice(8 * int(column), 8 * int(column) + 8))
        assert (sheet[at] == images[int(index)]).all()


def test_a_picture_that_would_fill_the_memory_of_a_browser_is_not_shown(server: Team, tmp_path: Path) -> None:
    run = server.log("ann", "huge", experiment="pages")
    Image.new("RGB", (8, 8)).save(tmp_path / "mistakes.png")
    content = (tmp_path / "mistakes.png").read_bytes()
    (tmp_path / "mistakes.png").write_bytes(content[:16] + struct.pack(">II", 100_000, 100_000) + content[24:])
    with server.client("ann") as client:
        client.log_artifact(run, str(tmp_path / "mistakes.png"), "figures")
    assert server.call("bob", "GET", "/team/picture", params={"id": run, "name": "mistakes"}).status_code == 404
