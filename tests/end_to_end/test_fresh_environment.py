"""Test of a run that logs to the HTTP server in MLFLOW_TRACKING_URI."""

from __future__ import annotations

from pathlib import Path

import program
import pytest
import run_checks


def test_run_goes_to_the_server_that_the_environment_names(
    mlflow_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    here = tmp_path / "here"
    here.mkdir()
    settings = ("model=dense", "data=digits", "training.epochs=1", "tracking.experiment=named by the environment")
    done = program.run(here, *settings, MLFLOW_TRACKING_URI=mlflow_server)
    assert (done.returncode, done.stderr) == (0, "")
    assert [entry.name for entry in here.iterdir()] == ["outputs"]

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    client = MlflowClient(mlflow_server)
    experiment = client.get_experiment_by_name("named by the environment")
    assert experiment
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.status, run.data.tags["cifar_exp.outcome"]) == ("FINISHED", "completed")
    page = f"{mlflow_server}/#/experiments/{experiment.experiment_id}/runs/{run.info.run_id}"
    assert done.stdout.rstrip().splitlines()[-1].split()[-1].startswith(page)

    (made,) = here.glob("outputs/runs/*")
    assert program.artifacts(client, run.info.run_id) >= run_checks.ARTIFACTS
    for name in run_checks.ARTIFACTS:
        fetched = program.artifact(client, run.info.run_id, name, tmp_path / "downloaded")
        assert fetched.read_bytes() == (made / "artifacts" / name).read_bytes(), name
    model = program.artifact(client, run.info.run_id, "model/data/model.keras", tmp_path / "downloaded")
    assert model.read_bytes() == (made / "model" / "data" / "model.keras").read_bytes()
