"""Values that any member can log, on which no page may break."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import Any

import pytest
from team import Team

from cifar_exp.server import lists

ROOT = "/api/3.0/cifar-exp"
BASE = "/api/2.0/mlflow/runs"
SWEEP = "of odd runs"
EPOCHS, MOST_EPOCHS = "training.epochs", "9" * 400
FAR = 10**17  # milliseconds: three million years
MATRIX = {"classes": ["half of a pair \ud800", "b"], "matrix": [[10**3000, 0], [0, 1]]}


@pytest.fixture(scope="module")
def usual(server: Team) -> str:
    return server.log("ann", "usual", experiment="odd", tags={"cifar_exp.sweep": SWEEP})


def log(server: Team, name: str, **more: Any) -> str:
    """Log a run as eve, with fields of its creation, and `status`, `end_time`, `params`, `metrics` and `profile`."""
    found = server.call("eve", "GET", "/api/2.0/mlflow/experiments/get-by-name?experiment_name=odd").json()
    body: dict[str, Any] = {"experiment_id": found["experiment"]["experiment_id"], "run_name": name}
    tags = {"cifar_exp.outcome": "completed", "cifar_exp.sweep": SWEEP} | more.pop("tags", {})
    body |= {"tags": [{"key": key, "value": value} for key, value in tags.items()]}
    body |= {key: more.pop(key) for key in ("start_time",) if key in more}
    run: str = server.call("eve", "POST", f"{BASE}/create", json=body).json()["run"]["info"]["run_id"]
    batch = {"run_id": run, "params": more.pop("params", []), "metrics": more.pop("metrics", [])}
    answers = [server.call("eve", "POST", f"{BASE}/log-batch", json=batch)]
    if profile := more.pop("profile", None):
        source = {"name": "x-test", "digest": "d", "source_type": "local", "source": "{}", "profile": profile}
        body = {"run_id": run, "datasets": [{"dataset": source}]}
        answers.append(server.call("eve", "POST", f"{BASE}/log-inputs", json=body))
    if more:
        answers.append(server.call("eve", "POST", f"{BASE}/update", json={"run_id": run} | more))
    assert all(answer.ok for answer in answers), [answer.text for answer in answers]
    return run


def metric(key: str, value: float | str) -> dict[str, Any]:
    return {"key": key, "value": value, "timestamp": 1, "step": 1}


@pytest.mark.parametrize(
    "logged",
    [
        {"start_time": FAR},
        {"start_time": -FAR, "status": "FINISHED", "end_time": -FAR},
        {"status": "FINISHED", "end_time": FAR},
        {"params": [{"key": EPOCHS, "value": "9" * 5000}]},
        {"params": [{"key": EPOCHS, "value": MOST_EPOCHS}], "metrics": [metric("val/accuracy", 0.5)]},
        {"tags": {"cifar_exp.heartbeat": "2026-11-30T10:00:00"}},
        {"profile": json.dumps({"images": 10**30}), "metrics": [metric("test/accuracy", 0.5)], "status": "FINISHED"},
        {"metrics": [metric("test/accuracy", "NaN"), metric("val/accuracy", "-Infinity")], "status": "FINISHED"},
    ],
    ids=["begins late", "ended early", "ended late", "epochs", "epochs and a curve", "heartbeat", "images", "NaN"],
)
def test_no_value_of_a_run_breaks_a_page(server: Team, usual: str, logged: dict[str, Any]) -> None:
    run = log(server, "odd", **logged)
    with server.client("eve") as client:
        experiment = client.get_run(run).info.experiment_id
    for path in (
        *("/team", f"/team/run?id={run}", f"/team/compare?run={run}&run={usual}", f"/team/history?run={run}"),
        f"/team/sweep?experiment={experiment}&name={SWEEP}",
    ):
        assert server.call("bob", "GET", path).status_code == 200, path


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (f"{ROOT}/promote", {"model": "a/b"}, 409),
        (f"{ROOT}/promote", {"model": "a'b"}, 409),
        (f"{ROOT}/promote", {"model": ".."}, 409),
        (f"{ROOT}/promote", {"model": "odd", "alias": "latest"}, 409),
        (f"{ROOT}/promote", {"model": "odd", "alias": "a" * 256}, 409),
        (f"{ROOT}/promote", {"model": "half \ud800"}, 409),
        (f"{ROOT}/request-review", {"reviewer": "half \ud800"}, 409),
        (f"{ROOT}/request-review", {"reviewer": "NUL \0"}, 409),
        (f"{ROOT}/remove-alias", {"model": "half \ud800", "alias": "champion", "why": "odd"}, 409),
        (f"{ROOT}/verdict", {"run_id": "half \ud800", "action": "reject"}, 409),
        ("/api/2.0/mlflow/experiments/delete", {"experiment_id": "abc"}, 400),
    ],
    ids=str,
)
def test_odd_fields_are_refused(server: Team, usual: str, path: str, body: dict[str, str], status: int) -> None:
    content = json.dumps({"run_id": usual, "even_though": "odd"} | body)
    answer = server.call("admin", "POST", path, data=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    assert "MLFLOW_TRACKING_URI" not in answer.text


@pytest.mark.parametrize("after", ["9" * 30, "9" * 5000, "x"])
def test_the_audit_trail_is_read_after_a_row(server: Team, after: str) -> None:
    assert server.call("bob", "GET", f"{ROOT}/audit?after={after}").status_code == 409


def test_a_matrix_of_odd_names_or_counts_breaks_no_page(server: Team) -> None:
    run = server.log("eve", "odd matrix", experiment="odd")
    for matrix in (MATRIX, MATRIX | {"matrix": [[3, 0], [0, 1]]}):
        with server.client("eve") as client:
            client.log_text(run, json.dumps(matrix), "evaluation/confusion_matrix.json")
        assert server.call("bob", "GET", f"/team/run?id={run}").status_code == 200
    assert "half of a pair ?" in server.call("bob", "GET", f"/team/run?id={run}").text


def test_a_long_curve_of_one_run_leaves_the_others_theirs(server: Team) -> None:
    tags = {"cifar_exp.sweep": "long"}
    runs = [server.log("ann", f"long {number}", experiment="odd", tags=tags) for number in range(2)]
    points = [("val/accuracy", 0.5, step, run, step) for run in runs for step in range(10, 13_010)]
    with closing(sqlite3.connect(server.folder / "m.db", timeout=60)) as database:  # faster than a client
        row = "INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan) VALUES (?, ?, ?, ?, ?, 0)"
        database.executemany(row, points)
        database.commit()
    with server.client("ann") as client:
        experiment = client.get_run(runs[0]).info.experiment_id
    page = server.call("bob", "GET", f"/team/sweep?experiment={experiment}&name=long").text
    sparks = [part.partition('points="')[2].partition('"')[0] for part in page.split('class="spark"')[1:]]
    assert len(sparks) == 2
    for spark in sparks:
        drawn = spark.split()
        assert lists.POINTS <= len(drawn) <= 2 * lists.POINTS and drawn[-1].startswith("88.0,")
