"""Tests of access control: strangers, pages of other sites, the network, and colleagues without permission."""

from __future__ import annotations

import json
import socket

import pytest
import stack
from checks import Sweep
from stack import Stack, User

QUERY = "/api/2.0/mlflow/experiments/search"
ONE = {"max_results": 1}


@pytest.fixture(scope="module")
def bob(server: Stack) -> User:
    """Another member of the team, who has logged nothing."""
    return server.add("bob")


@pytest.mark.parametrize("somebody", [None, User("admin", "password1234"), User("nobody", "x"), User("ann", "")])
@pytest.mark.parametrize(
    ("path", "content"),
    [
        pytest.param("/", None, id="page"),
        pytest.param(QUERY, ONE, id="query"),
        pytest.param("/ajax-api/2.0/mlflow/runs/search", {"experiment_ids": ["1"]}, id="page's query"),
        pytest.param("/graphql", {"query": "{ __typename }"}, id="graphql"),
        pytest.param("/api/2.0/mlflow-artifacts/artifacts", None, id="artifacts"),
        pytest.param("/ajax-api/2.0/mlflow-artifacts/artifacts?path=1", None, id="page's artifacts"),
        pytest.param("/get-artifact?run_id=1&path=x", None, id="artifact"),
        pytest.param("/api/2.0/mlflow/users/create", {"username": "eve", "password": "eve's password"}, id="users"),
        pytest.param("/v1/traces", {}, id="traces"),
    ],
)
def test_requests_without_a_login_are_refused(
    server: Stack, ann: User, somebody: User | None, path: str, content: object
) -> None:
    answer = server.ask(path, somebody, **({} if content is None else {"json": content}))
    assert answer.status_code == 401, answer.text


def test_artifacts_need_a_login(server: Stack, sweep: Sweep, ann: User) -> None:
    run = sweep.children["bn-sgd"].info
    path = f"/api/2.0/mlflow-artifacts/artifacts/{run.experiment_id}/{run.run_id}/artifacts/config/config.yaml"
    assert server.ask(path).status_code == 401
    assert server.ask(path, User("ann", "wrong password")).status_code == 401
    assert server.ask(path, ann).text.startswith("model:")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:5000", "127.0.0.1.evil.example", "db"])
def test_a_foreign_host_header_is_refused(server: Stack, ann: User, host: str) -> None:
    answer = server.ask(QUERY, ann, json=ONE, headers={"Host": host})
    assert (answer.status_code, answer.text[:19]) == (403, "Invalid Host header")


def test_a_page_of_another_site_cannot_write(server: Stack, ann: User) -> None:
    there = {"Origin": "https://evil.example"}
    answer = server.ask("/api/2.0/mlflow/experiments/create", ann, json={"name": "forged"}, headers=there)
    assert answer.status_code == 403
    assert "Access-Control-Allow-Origin" not in server.ask(QUERY, ann, json=ONE, headers=there).headers


def test_only_the_server_is_published_and_only_on_this_machine(server: Stack) -> None:
    published = {}
    for service in ("db", "mlflow"):
        shown = stack.docker("inspect", "--format", "{{json .NetworkSettings.Ports}}", server.container(service)).stdout
        published[service] = {port: bound for port, bound in json.loads(shown).items() if bound}
    assert published == {"db": {}, "mlflow": {"5000/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(server.port)}]}}


def test_the_database_cannot_be_reached_from_this_machine(server: Stack) -> None:
    with pytest.raises(OSError, match=r"refused|timed out"):
        socket.create_connection(("127.0.0.1", 5432), timeout=5)
    networks = stack.docker("inspect", "--format", "{{json .NetworkSettings.Networks}}", server.container("db")).stdout
    (network,) = json.loads(networks)
    assert stack.docker("network", "inspect", "--format", "{{.Internal}}", network).stdout.strip() == "true"


@pytest.mark.parametrize(
    "path",
    [
        "../../../../etc/passwd",
        "..%2F..%2F..%2Fetc%2Fpasswd",
        "%2e%2e/%2e%2e/etc/passwd",
        "..%252f..%252fetc%252fpasswd",
        "/etc/passwd",
        "%2Fetc%2Fpasswd",
        "1/../../../../../etc/passwd",
        "file:%2F%2F%2Fetc%2Fpasswd",
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_no_path_leads_out_of_the_artifacts(server: Stack, method: str, path: str) -> None:
    sent = f"{method} /api/2.0/mlflow-artifacts/artifacts/{path} HTTP/1.1\r\n"  # requests would normalize the path
    status, body = server.send(sent, server.admin, b"x" if method == "PUT" else b"")
    assert status in (308, 400, 403, 404), (status, body)  # 308: to the same path below the artifacts
    assert b"root:" not in body
    writable = ("/var/lib/mlflow", "/tmp")
    found = server.inside("mlflow", "find", *writable, "-name", "passwd*", "-not", "-path", "*/artifacts/*").stdout
    assert found == ""


def test_a_listing_does_not_lead_out_of_the_artifacts(server: Stack, sweep: Sweep) -> None:
    run_id = sweep.children["bn-sgd"].info.run_id
    for path in ("../..", "/etc", "%2e%2e%2f", "config/../../.."):
        answer = server.ask(f"/api/2.0/mlflow/artifacts/list?run_id={run_id}&path={path}", server.admin)
        assert answer.status_code == 400, answer.text
        answer = server.ask(f"/get-artifact?run_id={run_id}&path={path}/passwd", server.admin)
        assert answer.status_code in (400, 404), answer.text


@pytest.mark.parametrize("service", ["db", "mlflow"])
def test_no_container_runs_as_root_or_can_change_its_system(server: Stack, service: str) -> None:
    assert server.inside(service, "id", "-u").stdout.strip() != "0"
    for path in ("/", "/etc", "/usr/bin", "/opt"):
        done = server.inside(service, "touch", f"{path}/forged", check=False)
        assert done.returncode != 0 and "Read-only file system" in done.stderr
    status = server.inside(service, "cat", "/proc/self/status").stdout
    assert "CapEff:\t0000000000000000" in status and "NoNewPrivs:\t1" in status


def test_no_secret_is_in_the_image(server: Stack) -> None:
    secrets = [server.setting(name) for name in ("POSTGRES_PASSWORD", "MLFLOW_ADMIN_PASSWORD", "MLFLOW_SECRET_KEY")]
    visible = (
        stack.docker("image", "inspect", "cifar-exp-mlflow").stdout
        + stack.docker("history", "--no-trunc", "cifar-exp-mlflow").stdout
    )
    assert all(len(secret) == 32 and secret not in visible for secret in secrets)
    assert (server.folder / ".env").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("path", "key"),
    [("/api/2.0/mlflow/experiments/delete", "experiment_id"), ("/api/2.0/mlflow/runs/delete", "run_id")],
)
def test_a_colleague_cannot_delete_what_another_made(
    server: Stack, sweep: Sweep, bob: User, path: str, key: str
) -> None:
    run = sweep.children["bn-sgd"].info
    answer = server.ask(path, bob, json={key: getattr(run, key)})
    assert (answer.status_code, answer.text) == (403, "Permission denied")
    assert (
        server.ask(f"/api/2.0/mlflow/runs/get?run_id={run.run_id}", bob).json()["run"]["info"]["status"] == "FINISHED"
    )


def test_a_colleague_can_read_and_review_what_another_made(server: Stack, sweep: Sweep, bob: User) -> None:
    run_id = sweep.children["large-sgd"].info.run_id
    body = {"run_id": run_id, "key": "review.note", "value": "looked at it"}
    assert server.ask("/api/2.0/mlflow/runs/set-tag", bob, json=body).status_code == 403
    verdict = {"run_id": run_id, "action": "request-rerun", "note": "looked at it"}
    assert server.ask("/api/3.0/cifar-exp/verdict", bob, json=verdict).json()["state"] == "rerun-requested"
    with server.client(bob) as client:
        assert client.get_run(run_id).data.tags["review.note"] == "looked at it"


def test_a_member_cannot_add_members(server: Stack, bob: User) -> None:
    new = {"username": "eve", "password": "a long password"}
    assert server.ask("/api/2.0/mlflow/users/create", bob, json=new).status_code == 403


def test_a_removed_member_has_no_access(server: Stack) -> None:
    carl = server.add("carl")
    assert server.ask(QUERY, carl, json=ONE).status_code == 200
    again = server.make("user", "NAME=carl", check=False)
    assert again.returncode != 0 and "there is one already" in again.stderr
    server.make("user", "NAME=carl", "DO=remove")
    server.compose("restart", "mlflow")  # otherwise workers accept a cached login for half a minute
    server.wait_until_it_answers()
    assert server.ask(QUERY, carl, json=ONE).status_code == 401


@pytest.mark.parametrize("name", ["POSTGRES_PASSWORD", "MLFLOW_ADMIN_PASSWORD", "MLFLOW_SECRET_KEY"])
def test_nothing_starts_without_its_secrets(server: Stack, name: str) -> None:
    before = server.setting(name)
    try:
        server.set(**{name: ""})
        done = server.compose("config", check=False)
    finally:
        server.set(**{name: before})
    assert done.returncode != 0 and name in done.stderr and "make env" in done.stderr
