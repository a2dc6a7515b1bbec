"""Tests of the check of a tracking server: an unusable server is refused with a message that says what to do."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from cifar_exp.errors import UserError
from cifar_exp.tracking import server
from cifar_exp.tracking.store import Store

Answering = Callable[[int, str], str]


@pytest.fixture
def answering() -> Iterator[Answering]:
    """answering(401, text) -> address of a server that gives this answer to every request."""
    running: list[HTTPServer] = []

    def start(status: int, text: str) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        running.append(HTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=running[-1].serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{running[-1].server_address[1]}"

    yield start
    for one in running:
        one.shutdown()
        one.server_close()


def test_contradictory_certificates_are_refused(answering: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", "cert.pem")
    uri = answering(200, "{}")
    for ask in (lambda: server.check(uri), lambda: server.call(uri, "POST", "/api")):
        with pytest.raises(UserError, match="server_cert_path"):
            ask()


def test_a_server_that_answers_a_query_is_accepted(answering: Answering) -> None:
    assert server.check(answering(200, '{"experiments": []}')) is None


def test_a_server_that_refuses_connections_is_away() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    assert "Connection refused" in str(server.check(nobody))
    assert "Max retries" not in str(server.check(nobody))
    with pytest.raises(UserError, match="Connection refused") as refused:
        Store(nobody, "e").check()
    assert str(refused.value).startswith(f"tracking server {nobody} (tracking.uri or MLFLOW_TRACKING_URI): ")
    assert "Connection refused" in str(Store(nobody, "e").check(may_be_away=True))


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_with_a_temporary_error_is_away(answering: Answering, status: int) -> None:
    assert str(status) in str(server.check(answering(status, "")))


def test_an_unknown_host_is_named() -> None:
    with pytest.raises(UserError, match=r"no-such-host\.invalid"):
        server.check("http://no-such-host.invalid:5000")


@pytest.mark.parametrize(
    ("status", "text", "says"),
    [
        (401, "", r"asks for a user and a password \(401 .*MLFLOW_TRACKING_USERNAME"),
        (403, "Invalid Host header - possible DNS rebinding", r"the name '127.0.0.1:\d+' \(403 .*MLFLOW_ALLOWED_HOSTS"),
        (403, "Permission denied", r"may not use it \(403"),
        (404, "", "404 Not Found"),
        (200, "<html>", "no MLflow server"),
    ],
)
def test_the_message_has_the_answer_and_what_to_do(
    answering: Answering, monkeypatch: pytest.MonkeyPatch, status: int, text: str, says: str
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME", raising=False)
    with pytest.raises(UserError, match=says):
        server.check(answering(status, text))


def test_the_message_names_the_user_with_a_wrong_password(
    answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
    with pytest.raises(UserError, match=r"does not know user 'ann' with this password \(401") as refused:
        server.check(answering(401, ""))
    assert "'wrong'" not in str(refused.value)
