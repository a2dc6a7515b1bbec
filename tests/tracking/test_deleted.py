"""Tests of deleted experiments and runs: they are refused, and events wait until they are restored."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from mlflow import MlflowClient

from cifar_exp.commands import doctor_checks
from cifar_exp.errors import UserError
from cifar_exp.review import query
from cifar_exp.tracking import deleted, sync
from cifar_exp.tracking.run import Run
from cifar_exp.tracking.store import Store


@pytest.fixture(params=["file", "server"])
def uri(request: pytest.FixtureRequest) -> str:
    """Tracking URI of an SQLite store and of a server."""
    if request.param == "file":
        store: Store = request.getfixturevalue("store")
        return store.uri
    return str(request.getfixturevalue("mlflow_server"))


def test_the_command_that_restores_is_one_that_a_shell_takes() -> None:
    assert "`MLFLOW_TRACKING_URI='sqlite:///of mine/m.db' " in deleted.run_message("sqlite:///of mine/m.db", "id")


def test_a_deleted_experiment_is_refused_by_every_check(uri: str) -> None:
    made = Store(uri, "refused?&'").experiment_id
    MlflowClient(uri).delete_experiment(made)
    store = Store(uri, "refused?&'")
    message = re.escape(
        f"MLFLOW_TRACKING_URI={uri} {deleted.mlflow_program()} experiments restore --experiment-id {made}"
    )
    for ask in (store.check, lambda: store.experiment_id, lambda: query.search(store), lambda: query.select(store)):
        with pytest.raises(UserError, match=message) as refused:
            ask()
        assert "\n" not in str(refused.value)
    finding = doctor_checks.tracking(store)
    assert (finding.state, finding.said) == (doctor_checks.PROBLEM, str(refused.value))
    MlflowClient(uri).restore_experiment(made)
    assert store.check() is None
    assert doctor_checks.tracking(store).state == doctor_checks.OK


def test_an_existing_or_new_experiment_is_not_refused(uri: str) -> None:
    Store(uri, "there").check()
    assert Store(uri, "there").experiment_id
    Store(uri, "there").check()


@pytest.mark.parametrize("what", ["experiment", "run"])
def test_events_logged_after_a_deletion_are_sent_after_the_restoration(uri: str, what: str, tmp_path: Path) -> None:
    client = MlflowClient(uri)
    experiment = Store(uri, f"deleted {what} meanwhile").experiment_id
    with Run.start(Store(uri, f"deleted {what} meanwhile"), tmp_path, "a run", {}, {}, drain_seconds=0.1) as run:
        assert run.wait_until_started()
        if what == "run":
            client.delete_run(run.id)
        else:
            client.delete_experiment(experiment)
        run.log_metrics({"train/loss": 1.0}, step=1)
        run.write("figures/curves.png", "drawn")
        run.upload("figures")
    state = sync.send(tmp_path)
    assert (state.problems, state.is_whole) == ([], False) and state.waiting
    named = f"run-id {run.id}" if what == "run" else f"experiment-id {experiment}"
    assert f"{what}s restore --{named}`" in str(state.away)
    command = re.search("`(.*?)`", str(state.away))
    assert command
    if uri.startswith("sqlite"):  # with the command of the message
        kept = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}
        subprocess.run(command[1], shell=True, env=kept, check=True, capture_output=True, timeout=120)
    elif what == "run":
        client.restore_run(run.id)
    else:
        client.restore_experiment(experiment)
    assert sync.send(tmp_path).is_whole
    found = client.get_run(run.id)
    assert (found.info.status, found.data.metrics) == ("FINISHED", {"train/loss": 1.0})


def test_a_run_that_starts_after_its_experiment_was_deleted_waits(uri: str, tmp_path: Path) -> None:
    client = MlflowClient(uri)
    experiment = Store(uri, "deleted before").experiment_id
    client.delete_experiment(experiment)
    with Run.start(Store(uri, "deleted before"), tmp_path, "a run", {}, {}, drain_seconds=0.1) as run:
        run.log_metrics({"train/loss": 1.0}, step=1)
    assert f"--experiment-id {experiment}`" in str(sync.send(tmp_path).away)
    client.restore_experiment(experiment)
    state = sync.send(tmp_path)
    assert state.is_whole
    assert client.get_run(state.run_id).data.metrics == {"train/loss": 1.0}


def test_a_deleted_run_is_distinguished_from_a_deleted_experiment(uri: str) -> None:
    client = MlflowClient(uri)
    store = Store(uri, "told apart")
    run = client.create_run(store.experiment_id)
    assert not store.is_deleted(run.info.run_id)
    client.delete_run(run.info.run_id)
    assert store.is_deleted(run.info.run_id)
    assert store.is_deleted("0" * 32)
    client.delete_experiment(store.experiment_id)
    with pytest.raises(UserError, match="was deleted"):
        Store(uri, "told apart").is_deleted(run.info.run_id)
