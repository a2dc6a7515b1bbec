"""Tests of a tracking server that is away during a run: all events arrive exactly once."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import program
import proxy
import pytest
from mlflow import MlflowClient
from proxy import Proxy

EPOCHS = 8
RUN = (
    "data=digits",
    "model=dense",
    "model.layers=[Flatten,{Dense:{units:10}}]",
    f"training.epochs={EPOCHS}",
    "tracking.drain_seconds=1",
)
SYNC = (sys.executable, "-m", "cifar_exp.cli", "sync")


@pytest.fixture
def shaky(mlflow_server: str) -> Iterator[Proxy]:
    """Proxy in front of a real server."""
    with proxy.before(mlflow_server) as one:
        yield one


def is_whole(client: MlflowClient, folder: Path, status: str = "FINISHED", epochs: int = EPOCHS) -> None:
    """The store has everything of the run in this folder exactly once."""
    journals = list(folder.rglob("journal.jsonl"))
    names = [path.parent for path in journals]
    (key,) = re.findall(r'"key":"(\w+)"', journals[0].read_text())
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    (run,) = client.search_runs(experiments, f"tags.`cifar_exp.journal` = '{key}'")
    assert run.info.status == status
    for metric in ("train/loss", "val/accuracy"):
        assert list(program.points(client, run.info.run_id, metric)) == list(range(1, epochs + 1))
        assert len(client.get_metric_history(run.info.run_id, metric)) == epochs
    artifacts = names[0] / "artifacts"
    assert program.artifacts(client, run.info.run_id) >= {
        path.relative_to(artifacts).as_posix() for path in artifacts.rglob("*") if path.is_file()
    }
    if status == "FINISHED":
        assert len(run.outputs.model_outputs) == 1


def test_a_run_without_its_server_finishes_and_is_synced_later(tmp_path: Path) -> None:
    done = program.run(tmp_path, *RUN, "tracking.experiment=own", MLFLOW_TRACKING_URI=program.NOWHERE)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{program.NOWHERE} is away" in done.stdout
    (message,) = (line for line in done.stdout.splitlines() if "events wait" in line)
    (folder,) = tmp_path.glob("outputs/runs/*")
    waiting = re.search(rf"\): (\d+) events wait in {folder}; cifar-exp sync {folder} sends them$", message)
    assert waiting

    status = program.execute([*SYNC, "--status"], tmp_path)
    assert status.returncode == 1
    assert f"{waiting[1]} events wait" in status.stdout
    still_away = program.execute([*SYNC], tmp_path)
    assert still_away.returncode == 1
    assert "Connection refused" in still_away.stdout and "Traceback" not in still_away.stderr

    elsewhere = program.execute([*SYNC, "--uri", "sqlite:///mlflow.db"], tmp_path)
    assert (elsewhere.returncode, elsewhere.stderr) == (0, "")
    assert f"{waiting[1]} events sent to run " in elsewhere.stdout
    is_whole(program.client(tmp_path), tmp_path)
    assert program.client(tmp_path).get_experiment_by_name("own") is not None
    again = program.execute([*SYNC, "--uri", "sqlite:///mlflow.db"], tmp_path)
    assert (again.returncode, again.stdout) == (0, "Nothing waits: 1 runs, all sent.\n")


def test_a_server_that_is_away_for_a_while_gets_everything_once(
    shaky: Proxy, mlflow_server: str, tmp_path: Path
) -> None:
    command = [*program.PROGRAM, *RUN, "tracking.drain_seconds=60"]
    process = program.popen(command, tmp_path, MLFLOW_TRACKING_URI=shaky.uri)
    assert process.stdout is not None
    for line in process.stdout:
        if "epoch 2/" in line:
            shaky.away()
        elif "epoch 6/" in line:
            shaky.back()
    _, errors = process.communicate(timeout=program.TIMEOUT)
    assert (process.returncode, errors) == (0, "")
    is_whole(MlflowClient(mlflow_server), tmp_path)


def test_sync_sets_a_run_whose_process_was_killed_to_killed_and_sends_its_results(
    mlflow_server: str, tmp_path: Path
) -> None:
    done = program.run_until(
        tmp_path, r"epoch +3/", signal.SIGKILL, *RUN, f"tracking.uri={mlflow_server}", "training.epochs=100000"
    )
    assert done.returncode == -signal.SIGKILL
    sent = program.execute([*SYNC], tmp_path)
    assert (sent.returncode, sent.stderr) == (0, "")
    client = MlflowClient(mlflow_server)
    known = re.search(r"sent to run (\w+)", sent.stdout)
    assert known
    run = client.get_run(known[1])
    assert (run.info.status, run.data.tags["cifar_exp.outcome"]) == ("KILLED", "interrupted")
    steps = list(program.points(client, known[1], "train/loss"))
    assert steps == list(range(1, len(steps) + 1)) and len(steps) >= 3


def test_a_sweep_without_its_server_is_synced_with_its_jobs_nested(tmp_path: Path) -> None:
    done = program.run(tmp_path, "-m", "seed=1,2", *RUN, "training.epochs=1", MLFLOW_TRACKING_URI=program.NOWHERE)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("is away") == 1
    sent = program.execute([*SYNC, "--uri", "sqlite:///mlflow.db"], tmp_path)
    assert (sent.returncode, sent.stderr) == (0, ""), sent.stdout
    parent, *children = program.runs(program.client(tmp_path))
    assert [run.info.status for run in (parent, *children)] == ["FINISHED"] * 3
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert os.path.basename(parent.info.run_name).startswith("sweep of seed")


def test_a_sweep_stopped_and_resumed_without_its_server_is_synced_in_its_last_version(
    shaky: Proxy, mlflow_server: str, tmp_path: Path
) -> None:
    own = (f"tracking.uri={shaky.uri}", "tracking.experiment=stopped", "training.epochs=12")
    command = ("-m", "seed=1,2", *RUN, *own)
    process = program.popen([*program.PROGRAM, *command], tmp_path)
    assert process.stdout is not None
    for line in process.stdout:
        if "epoch  2/" in line:
            shaky.away()
        elif "epoch  4/" in line:
            process.send_signal(signal.SIGINT)
    assert process.wait(program.TIMEOUT) == 128 + signal.SIGINT
    gone_on = program.run(tmp_path, *command)
    assert gone_on.returncode == 0, gone_on.stderr
    assert "goes on after epoch" in gone_on.stdout and "events wait in" in gone_on.stdout

    shaky.back()
    sent = program.execute([*SYNC], tmp_path)
    assert (sent.returncode, sent.stderr) == (0, ""), sent.stdout
    again = program.execute([*SYNC], tmp_path)
    assert (again.returncode, again.stdout) == (0, "Nothing waits: 3 runs, all sent.\n")
    client = MlflowClient(mlflow_server)
    experiment = client.get_experiment_by_name("stopped")
    parent, first, second = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
    assert [run.info.status for run in (parent, first, second)] == ["FINISHED"] * 3
    log = program.artifact(client, first.info.run_id, "logs/run.log", tmp_path / "back").read_text()
    assert "goes on after epoch" in log and "epoch 12/" in log
    table = program.artifact(client, parent.info.run_id, "sweep/results.csv", tmp_path / "back").read_text()
    assert table.count("FINISHED") == 2
