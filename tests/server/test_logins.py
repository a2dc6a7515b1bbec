"""Logins: guessing passwords takes long, nobody can lock out a user who works, and a browser can log out."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest
import requests
from team import ADMIN, PASSWORD, Team

from cifar_exp.server.throttle import FAILURES, PROOF, WITHIN, Throttle

SEARCH = "/api/2.0/mlflow/experiments/search"


class Server:
    """A throttled app with one password, called without a network."""

    def __init__(self) -> None:
        self.now = 0.0
        self.reached = 0
        self._throttle = Throttle(self._app, clock=lambda: self.now)

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        self.reached += 1
        right = dict(scope["headers"]).get(b"authorization") == header("ann", PASSWORD)
        status = {"/health": 200, "/foreign host": 403, "/team/logout": 401}.get(scope["path"], 200 if right else 401)
        headers = [(PROOF.lower().encode(), b"right")] if right and scope["path"] != "/health" else []
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    def ask(self, password: str | None, user: str = "ann", address: str = "10.0.0.1", path: str = SEARCH) -> int:
        headers = [(b"authorization", header(user, password))] if password is not None else []
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "path": path, "headers": headers, "client": (address, 1)}
        asyncio.run(self._throttle(scope, None, send))  # type: ignore[arg-type]
        assert sent[0]["status"] == 429 or sent[0]["headers"] == []  # the proof stays inside
        return int(sent[0]["status"])


def header(user: str, password: str) -> bytes:
    return b"Basic " + base64.b64encode(f"{user}:{password}".encode())


def test_further_logins_wait_after_too_many_failed_ones() -> None:
    server = Server()
    assert [server.ask(f"guess {number}") for number in range(FAILURES + 2)] == [401] * FAILURES + [429] * 2
    assert server.reached == FAILURES  # the others did not cost the time of checking a password
    assert server.ask(PASSWORD) == 429
    assert server.ask("guess", user="bob") == server.ask("guess", address="10.0.0.2") == 401
    assert server.ask(None) == 401  # no login: a browser asks for one
    server.now = WITHIN
    assert server.ask(PASSWORD) == 200


def test_who_has_logged_in_goes_on_while_others_guess() -> None:
    server = Server()
    assert server.ask(PASSWORD) == 200
    for number in range(FAILURES + 1):
        server.ask(f"guess {number}")
    assert server.ask("guess") == 429
    assert server.ask(PASSWORD) == 200


@pytest.mark.parametrize(("path", "status"), [("/health", 200), ("/foreign host", 403)])
def test_an_answer_that_needs_no_login_proves_no_password(path: str, status: int) -> None:
    server = Server()
    for number in range(FAILURES):
        assert server.ask(f"guess {number}", path=path) == status
        server.ask(f"guess {number}")
    assert server.ask("one more", path=path) == 429
    assert server.ask("guess 0") == 429


def test_guesses_on_the_page_that_logs_out_count() -> None:
    server = Server()
    assert [server.ask(PASSWORD, path="/team/logout") for _ in range(FAILURES + 1)] == [401] * (FAILURES + 1)
    guesses = [server.ask(f"guess {number}", path="/team/logout") for number in range(FAILURES + 1)]
    assert guesses == [401] * FAILURES + [429]
    assert server.ask(PASSWORD) == 200


def test_a_server_makes_who_guesses_wait(server: Team) -> None:
    made = server.call(ADMIN, "POST", "/api/2.0/mlflow/users/create", json={"username": "gus", "password": PASSWORD})
    assert made.ok
    wrong = [
        requests.get(f"{server.uri}{path}", auth=("gus", f"wrong {number}"), timeout=60)
        for number, path in enumerate(["/team", f"{SEARCH}?max_results=1"] * (FAILURES // 2 + 1))
    ]
    assert [answer.status_code for answer in wrong] == [401] * FAILURES + [429] * 2
    assert (
        "try again in 5 minutes" in wrong[-1].json()["message"] and 0 < int(wrong[-1].headers["Retry-After"]) <= WITHIN
    )
    assert server.call("gus", "GET", "/team").status_code == 429
    assert server.call("ann", "GET", "/team").status_code == 200


@pytest.mark.parametrize(
    ("user", "before"),
    [
        ("hal", ("GET", "/team", {"Host": "elsewhere.example"})),
        ("ida", ("OPTIONS", "/team", {"Origin": "http://localhost", "Access-Control-Request-Method": "GET"})),
        ("jon", ("GET", "/team/logout", {})),
    ],
    ids=["foreign host", "preflight", "logout"],
)
def test_no_request_before_a_guess_makes_it_free(
    server: Team, user: str, before: tuple[str, str, dict[str, str]]
) -> None:
    made = server.call(ADMIN, "POST", "/api/2.0/mlflow/users/create", json={"username": user, "password": PASSWORD})
    assert made.ok
    method, path, headers = before
    for number in range(FAILURES):
        login = (user, f"wrong {number}")
        first = requests.request(method, f"{server.uri}{path}", auth=login, headers=headers, timeout=60)
        assert PROOF not in first.headers
        requests.get(f"{server.uri}/team", auth=login, timeout=60)
    assert requests.get(f"{server.uri}/team", auth=(user, "wrong 0"), timeout=60).status_code == 429


@pytest.mark.parametrize("header", ["Basic", "Basic %%%", "Basic /w==", "Bearer x" * 1000, "Digest username=ann"])
def test_a_login_of_another_form_is_refused(server: Team, header: str) -> None:
    answer = requests.get(f"{server.uri}/team", headers={"Authorization": header}, timeout=60)
    assert answer.status_code == 401


def test_a_browser_that_logs_out_is_asked_for_a_login(server: Team) -> None:
    page = server.call("ann", "GET", "/team").text
    assert 'href="/team/logout"' in page
    out = server.call("ann", "GET", "/team/logout")
    assert out.status_code == 401 and out.headers["WWW-Authenticate"].startswith("Basic ")
    assert "You are logged out" in out.text
    for _ in range(FAILURES + 1):
        assert server.call("ann", "GET", "/team/logout").status_code == 401
    assert server.call("ann", "GET", "/team").status_code == 200
