"""Tests of upgrades: the runs and users of an older MLflow server are kept by the next `make up`."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import program
import pytest
from mlflow.artifacts import download_artifacts
from stack import NewStack, Stack, User, docker

IMAGES = Path(__file__).parent / "images"
OLDER = "3.8.1"
WITHIN = 240  # seconds, until a database is created
SEARCH = "/api/2.0/mlflow/experiments/search"
HEAD = """
from alembic.script import ScriptDirectory
from mlflow.store.db.utils import _get_alembic_config
print(ScriptDirectory.from_config(_get_alembic_config("sqlite://")).get_current_head())
"""


@dataclass(frozen=True)
class Upgraded:
    """A server whose database and artifacts were created by an older MLflow."""

    server: Stack
    ann: User  # a user of the older server
    logged: dict[str, Any]  # as read by the older client
    revision: str  # schema revision of the older tables


@pytest.fixture(scope="module")
def upgraded(new_stack: NewStack) -> Upgraded:
    image = _build()
    server = new_stack()
    server.compose("up", "--detach", "--build", "--no-deps", "db")
    server.compose("run", "--rm", "--no-deps", "-T", "mlflow", "true")  # creates the volume with the right owner
    _wait_for_the_database(server)
    older = f"{server.name}_older"
    docker(
        *("run", "--detach", "--name", older, "--network", f"{server.name}_database"),
        *("--volume", f"{server.name}_artifacts:/var/lib/mlflow"),
        *("--env", f"PGPASSWORD={server.setting('POSTGRES_PASSWORD')}"),
        image,
    )
    try:
        logged = json.loads(docker("exec", older, "python", "/opt/mlflow/older_mlflow.py").stdout.splitlines()[-1])
        revision = _revision(server)
    finally:
        docker("rm", "--force", older)
    server.up()
    return Upgraded(server, User(*logged["user"]), logged, revision)


def _build() -> str:
    """Build the image of the older server."""
    name, dockerfile = f"cifar-exp-test-mlflow:{OLDER}", str(IMAGES / "older-mlflow.Dockerfile")
    docker("build", "--quiet", "--tag", name, "--file", dockerfile, f"--build-arg=MLFLOW={OLDER}", str(IMAGES))
    return name


def _wait_for_the_database(server: Stack) -> None:
    until = time.monotonic() + WITHIN
    question = ("psql", "--host=127.0.0.1", "--username=mlflow", "--command=select 1", "mlflow")
    while server.inside("db", *question, check=False).returncode:
        assert time.monotonic() < until, server.logs()
        time.sleep(0.5)


def _query(server: Stack, sql: str) -> str:
    return server.inside("db", "psql", "--username=mlflow", "--tuples-only", "--no-align", "-c", sql, "mlflow").stdout


def _revision(server: Stack) -> str:
    return _query(server, "select version_num from alembic_version").strip()


def _dump(server: Stack) -> list[str]:
    """Content of the database, without the key that pg_dump creates for each dump."""
    lines = server.inside("db", "pg_dump", "--username=mlflow", "mlflow").stdout.splitlines()
    return [line for line in lines if not line.startswith(("\\restrict", "\\unrestrict"))]


def _sha256(path: str) -> str:
    (file,) = (one for one in [Path(path), *Path(path).rglob("*")] if one.is_file())
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_tables_are_upgraded_to_this_mlflow(upgraded: Upgraded) -> None:
    head = upgraded.server.inside("mlflow", "python", "-W", "ignore", "-c", HEAD).stdout.strip()
    assert head
    assert upgraded.revision != head
    assert _revision(upgraded.server) == head


def test_runs_are_unchanged(upgraded: Upgraded) -> None:
    logged = upgraded.logged
    with upgraded.server.client(upgraded.ann) as client:
        assert client.get_experiment_by_name("older").experiment_id == logged["experiment"]
        run = client.get_run(logged["run_id"])
        metrics = {
            name: [
                [point.step, point.timestamp, point.value] for point in client.get_metric_history(run.info.run_id, name)
            ]
            for name in run.data.metrics
        }
    assert (run.info.run_name, run.info.status) == (logged["name"], logged["status"])
    assert [run.info.start_time, run.info.end_time] == logged["times"]
    assert run.data.params == logged["params"]
    assert run.data.tags.items() >= logged["tags"].items()
    assert metrics == logged["metrics"]
    assert len(metrics["val/accuracy"]) == 5


def test_artifacts_and_models_are_unchanged(upgraded: Upgraded, tmp_path: Path) -> None:
    logged, login = upgraded.logged, {"dst_path": str(tmp_path), "tracking_uri": upgraded.server.url}
    with upgraded.server.client(upgraded.ann) as client:
        log = download_artifacts(run_id=logged["run_id"], artifact_path="logs/run.log", **login)
        model = client.get_logged_model(logged["model"])
        weights = download_artifacts(model.artifact_location, **login)
    assert (model.source_run_id, str(model.status), model.params) == (logged["run_id"], "READY", {"layers": "3"})
    assert (_sha256(log), _sha256(weights)) == (logged["log"], logged["weights"])


def test_users_keep_their_passwords_and_the_administrator_has_that_of_the_settings(upgraded: Upgraded) -> None:
    logins = {upgraded.ann: 200, upgraded.server.admin: 200, User("admin", "an-older-password"): 401}
    for user, status in logins.items():
        assert upgraded.server.ask(SEARCH, user, json={"max_results": 1}).status_code == status, user.name


def test_an_older_verdict_is_shown_as_one_that_the_server_has_not_kept(upgraded: Upgraded) -> None:
    asked = upgraded.server.ask(f"/team/history?run={upgraded.logged['run_id']}&format=json", upgraded.ann)
    (event,) = asked.json()
    assert (event["who"], event["action"], event["text"]) == ("bob", "approved", "looked at it")
    assert event["origin"] == "made before the server kept the rules"
    page = upgraded.server.ask(f"/team/run?id={upgraded.logged['run_id']}", upgraded.ann)
    assert page.ok and "made before the server kept the rules" in page.text


def test_new_runs_are_logged_beside_the_old(upgraded: Upgraded, tmp_path: Path) -> None:
    arguments = ("model=dense", "data=digits", "training.epochs=1", "tracking.experiment=older")
    done = program.run(tmp_path, *arguments, **upgraded.server.environment(upgraded.ann))
    assert done.returncode == 0, done.stderr
    with upgraded.server.client(upgraded.ann) as client:
        old, new = client.search_runs([upgraded.logged["experiment"]], order_by=["attributes.start_time ASC"])
        assert (old.info.run_id, new.info.status) == (upgraded.logged["run_id"], "FINISHED")
        assert program.artifacts(client, new.info.run_id)


def test_another_start_changes_nothing(upgraded: Upgraded) -> None:
    server = upgraded.server
    container, before = server.container("mlflow"), _dump(server)
    server.up()
    assert server.container("mlflow") == container
    assert _dump(server) == before


def test_users_are_members(upgraded: Upgraded) -> None:
    server, ann = upgraded.server, upgraded.ann
    answer = server.ask(f"/api/3.0/mlflow/users/roles/list?username={ann.name}", server.admin).json()
    assert [role["name"] for role in answer["roles"] if not role["name"].startswith("__user_")] == ["member"]
