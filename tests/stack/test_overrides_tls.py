"""Tests of docker/tls.yml: the server is reached over HTTPS, only by its name."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import program
import pytest
import stack
import urllib3
from stack import NewStack, Stack, User, docker

RUN = ("model=dense", "data=digits", "training.epochs=1")
SEARCH = "/api/2.0/mlflow/experiments/search"
NAME = "mlflow.test"  # no DNS knows it
ROOT = "/data/caddy/pki/authorities/local/root.crt"
FILES = "docker-compose.yml:docker/tls.yml"
WITHIN = 120  # seconds, until a started service answers


@dataclass(frozen=True)
class Secure:
    """A server behind HTTPS."""

    server: Stack
    port: int
    root: Path  # root certificate of the server's certificate

    def ask(self, name: str, user: User | None = None, **headers: str) -> urllib3.BaseHTTPResponse:
        """Send a query to the server under a name."""
        login = urllib3.make_headers(basic_auth=":".join(user.login)) if user else {}
        with urllib3.HTTPSConnectionPool(
            "127.0.0.1", self.port, ca_certs=str(self.root), server_hostname=name, assert_hostname=name, retries=False
        ) as pool:
            headers = {"Host": f"{name}:{self.port}", **login, **headers}
            return pool.request("POST", SEARCH, json={"max_results": 1}, headers=headers)


@pytest.fixture(scope="module")
def secure(new_stack: NewStack, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Secure]:
    """secure(NAME) -> a server with this name and a self-made certificate."""

    def make(name: str) -> Secure:
        port = stack.free_port()
        server = new_stack(COMPOSE_FILE=FILES, TLS_NAME=name, TLS_BIND="127.0.0.1", TLS_PORT=str(port))
        server.up()
        made = Secure(server, port, tmp_path_factory.mktemp("tls") / "root.crt")
        until = time.monotonic() + WITHIN
        while (shown := server.inside("tls", "cat", ROOT, check=False)).returncode:
            assert time.monotonic() < until, server.logs()
        made.root.write_text(shown.stdout)
        while True:
            try:
                made.ask(name)
                return made
            except urllib3.exceptions.HTTPError:
                assert time.monotonic() < until, server.logs()
                time.sleep(0.5)

    return make


@pytest.fixture(scope="module")
def named(secure: Callable[[str], Secure]) -> Secure:
    return secure(NAME)


@pytest.fixture(scope="module")
def local(secure: Callable[[str], Secure]) -> Secure:
    return secure("localhost")


def test_https_asks_for_a_login(named: Secure) -> None:
    assert named.ask(NAME).status == 401
    assert named.ask(NAME, User("admin", "wrong-password")).status == 401
    assert named.ask(NAME, named.server.admin).status == 200


def test_only_pages_of_the_server_itself_may_use_it(named: Secure) -> None:
    origins = {f"https://{NAME}:{named.port}": 200, f"https://{NAME}": 200, "https://evil.example": 403}
    for origin, status in origins.items():
        assert named.ask(NAME, named.server.admin, Origin=origin).status == status, origin


def test_the_certificate_is_only_for_the_name_of_the_server(named: Secure) -> None:
    with pytest.raises(urllib3.exceptions.HTTPError):
        named.ask("evil.example", named.server.admin)
    assert named.ask(NAME, named.server.admin, Host="evil.example").status == 421


def test_run_is_logged_over_https(local: Secure, tmp_path: Path) -> None:
    login = local.server.environment(local.server.admin) | {
        "MLFLOW_TRACKING_URI": f"https://localhost:{local.port}",
        "MLFLOW_TRACKING_SERVER_CERT_PATH": str(local.root),
    }
    done = program.run(tmp_path, *RUN, **login)
    assert (done.returncode, done.stderr) == (0, "")
    with local.server.client(local.server.admin) as client:
        (run,) = program.runs(client)
        (artifacts,) = tmp_path.glob("outputs/runs/*/artifacts")
        written = {path.relative_to(artifacts).as_posix() for path in artifacts.rglob("*") if path.is_file()}
        assert run.info.status == "FINISHED"
        assert program.artifacts(client, run.info.run_id) >= written


def test_an_untrusted_certificate_is_refused(local: Secure, tmp_path: Path) -> None:
    address = f"https://localhost:{local.port}"
    done = program.run(
        tmp_path, *RUN, **local.server.environment(local.server.admin) | {"MLFLOW_TRACKING_URI": address}
    )
    assert done.returncode == 2
    assert done.stderr.startswith("cifar_exp: ") and done.stderr.count("\n") == 1
    assert address in done.stderr and "certificate" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_server_without_a_name_is_refused(new_stack: NewStack) -> None:
    server = new_stack(COMPOSE_FILE=FILES)
    done = server.make("up", check=False)
    server.set(TLS_NAME=NAME)  # without the settings the server could not be removed
    assert done.returncode != 0
    assert "TLS_NAME" in done.stderr
    assert docker("ps", "--all", "--quiet", "--filter", f"name={server.name}").stdout == ""
