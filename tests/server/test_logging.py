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
    body = {"run_id": run.info.run_id, "action": "approve", "even_though": "the tests may run on changed code"}
    assert server.call("eve", "POST", "/api/3.0/cifar-exp/verdict", json=body).json()["state"] == "approved"
