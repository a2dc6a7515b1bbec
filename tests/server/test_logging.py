"""Training against a server that keeps the rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from team import PASSWORD, Team

from cifar_exp.config.schema import Config
from cifar_exp.experiment import experiment
from cifar_exp.tracking import sync
from cifar_exp.tracking.progress import SENT
from cifar_exp.tracking.run import Run
from cifar_exp.tracking.store import Store

SMALL = ("data=digits", "model=dense", "model.layers=[Flatten,{Dense:{units:10}}]", "training.epochs=1")


def test_a_run_logs_itself_and_is_sent_again_without_a_change(
    server: Team, compose: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    config = compose(*SMALL, "tracking.system_metrics=false", "name=trained")
    config = replace(config, tracking=replace(config.tracking, uri=server.uri))
    experiment.run(config, experiment.Job(), tmp_path / "run")
    states = []
    for _ in range(2):
        states.append(sync.send(tmp_path / "run", server.uri, config.tracking.experiment))
        assert states[-1].is_whole
        (tmp_path / "run" / SENT).unlink()
    assert states[0].run_id == states[1].run_id is not None
    with server.client("eve") as client:
        run = client.get_run(states[0].run_id)
    assert (run.info.status, run.data.tags["mlflow.user"], run.data.tags["cifar_exp.outcome"]) == (
        "FINISHED",
        "ann",
        "completed",
    )
    approve(server, run.info.run_id)


def test_a_run_that_was_interrupted_resumed_and_approved_is_sent_again_without_a_change(
    server: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    store = Store(server.uri, "resumed")
    run = Run.start(store, tmp_path, "sent again", {"cifar_exp.outcome": "running"}, {"seed": 0}, drain_seconds=60)
    run.log_metrics({"test/accuracy": 0.5}, step=1)
    run.set_tags({"cifar_exp.outcome": "interrupted"})
    run.finish("KILLED")
    then = (tmp_path / SENT).read_bytes()
    run = Run.resume(store, tmp_path, {"cifar_exp.outcome": "running"}, drain_seconds=60)
    run.log_metrics({"test/accuracy": 0.75}, step=2)
    run.write("figures/curves.png", b"picture")
    run.upload("figures")
    run.set_tags({"cifar_exp.outcome": "completed"})
    run.finish("FINISHED")
    assert sync.state_of(tmp_path).is_whole
    for cursor in (b"", then, b"approved"):  # lost, from a copy of the folder, lost after the approval
        if cursor == b"approved":
            approve(server, str(run.id))
        with server.client("eve") as client:
            before = client.get_run(run.id).to_dictionary()
        (tmp_path / SENT).write_bytes(cursor)
        state = sync.send(tmp_path)
        assert (state.away, state.problems, state.run_id) == (None, [], run.id) and state.is_whole
        with server.client("eve") as client:
            assert client.get_run(run.id).to_dictionary() == before
    assert before["info"]["status"] == "FINISHED" and before["data"]["tags"]["review.state"] == "approved"


def approve(server: Team, run_id: str) -> None:
    body = {"run_id": run_id, "action": "approve", "even_though": "the tests may run on changed code"}
    assert server.call("bob", "POST", "/api/3.0/cifar-exp/verdict", json=body).ok
