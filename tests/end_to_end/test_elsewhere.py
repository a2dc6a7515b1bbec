"""Tests of resuming runs on another machine, simulated by two folders and one real server."""

from __future__ import annotations

import signal
from pathlib import Path

import program
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from cifar_exp.tracking.run_tags import HEARTBEAT

EPOCHS = 6
RUN = (*program.REPEATABLE, f"training.epochs={EPOCHS}")
Points = dict[str, list[tuple[int, float]]]
MEASURED = ("train/loss", "train/accuracy", "val/loss", "val/accuracy", "test/loss", "test/accuracy", "test/f1_macro")


@pytest.fixture
def machines(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders, one for each machine."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    return tmp_path / "a", tmp_path / "b"


def runs(server: str, experiment: str) -> list[Run]:
    client = MlflowClient(server)
    found = client.get_experiment_by_name(experiment)
    return list(client.search_runs([found.experiment_id], order_by=["attributes.start_time ASC"]))


def measured(server: str, run: Run) -> Points:
    client = MlflowClient(server)
    return {
        name: [(p.step, p.value) for p in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
        if name in MEASURED
    }


@pytest.fixture(scope="module")
def undisturbed(mlflow_server: str, tmp_path_factory: pytest.TempPathFactory) -> Points:
    """Metrics of the run without an interruption."""
    own = (f"tracking.uri={mlflow_server}", "tracking.experiment=undisturbed")
    assert program.run(tmp_path_factory.mktemp("undisturbed"), *RUN, *own).returncode == 0
    return measured(mlflow_server, *runs(mlflow_server, "undisturbed"))


def forget(server: str, run: Run) -> None:
    """Set the last heartbeat of a run to more than five minutes ago."""
    MlflowClient(server).set_tag(run.info.run_id, HEARTBEAT, "2026-01-01T00:00:00Z")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_is_resumed_from_its_checkpoint_in_the_store(
    number: signal.Signals, mlflow_server: str, machines: tuple[Path, Path], undisturbed: Points
) -> None:
    first, second = machines
    experiment = f"run {number.name}"
    command = (*RUN, f"tracking.uri={mlflow_server}", f"tracking.experiment={experiment}")
    # After SIGTERM the process can still send a checkpoint.
    often = () if number == signal.SIGTERM else ("training.checkpoint.log_seconds=0",)
    stopped = program.run_until(first, r"epoch 3/", number, *command, *often)
    assert stopped.returncode != 0
    (run,) = runs(mlflow_server, experiment)
    if number == signal.SIGKILL:
        assert run.info.status == "RUNNING"
        forget(mlflow_server, run)
    done = program.run(second, *command)
    assert (done.returncode, done.stderr) == (0, "")
    assert "is taken over from" in done.stdout and "goes on after epoch" in done.stdout
    (same,) = runs(mlflow_server, experiment)
    assert (same.info.run_id, same.info.status) == (run.info.run_id, "FINISHED")
    assert same.data.tags["cifar_exp.outcome"] == "completed"
    assert not {name for name in program.artifacts(MlflowClient(mlflow_server), run.info.run_id) if "checkp" in name}
    assert measured(mlflow_server, same) == undisturbed
    log = program.artifact(MlflowClient(mlflow_server), run.info.run_id, "logs/run.log", second).read_text()
    assert f"epoch {EPOCHS}/" in log
    if number == signal.SIGTERM:
        assert "epoch 1/" in log
    else:  # the first machine is back, and the run belongs to the other one
        again = program.execute([*program.COMMAND, "sync"], first)
        assert again.returncode == 1 and "continues run" in again.stdout
        assert runs(mlflow_server, experiment)[0].info.status == "FINISHED"


def test_a_resumed_sweep_uses_jobs_that_finished_on_another_machine(
    mlflow_server: str, machines: tuple[Path, Path], tmp_path: Path
) -> None:
    first, second = machines
    own = (f"tracking.uri={mlflow_server}", "tracking.experiment=sweep")
    command = ("-m", "seed=1,2,3", *RUN, *own)
    stopped = program.run_until(first, r"\[2/3\].*epoch 2/", signal.SIGKILL, *command)
    assert stopped.returncode == -signal.SIGKILL
    parent, finished, interrupted = runs(mlflow_server, "sweep")
    assert finished.info.status == "FINISHED"

    refused = program.run(second, *command)
    assert refused.returncode == 2
    assert "this sweep is running, as " in refused.stderr and refused.stderr.count("\n") == 1
    for run in (parent, interrupted):
        forget(mlflow_server, run)

    done = program.run(second, *command)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.count("has finished before") == 1
    assert done.stdout.count(" FINISHED ") == 3  # of the table
    found = runs(mlflow_server, "sweep")
    assert [run.info.run_id for run in found[:3]] == [run.info.run_id for run in (parent, finished, interrupted)]
    assert [run.info.status for run in found] == ["FINISHED"] * 4
    client = MlflowClient(mlflow_server)
    for run in found[1:]:
        assert list(program.points(client, run.info.run_id, "train/loss")) == list(range(1, EPOCHS + 1))
    table = program.artifact(client, parent.info.run_id, "sweep/results.csv", second).read_text()
    assert all(run.info.run_id in table for run in found[1:])

    client.delete_run(parent.info.run_id)  # and on a third machine it gets a new parent
    done = program.run(tmp_path, *command)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.count("has finished before") == 3
    *jobs, new = runs(mlflow_server, "sweep")
    assert [run.info.run_id for run in jobs] == [run.info.run_id for run in found[1:]]
    assert new.data.tags["cifar_exp.sweep"] == parent.data.tags["cifar_exp.sweep"]
    assert {run.data.tags["mlflow.parentRunId"] for run in jobs} == {new.info.run_id}


def test_sync_sets_runs_without_heartbeats_to_killed(mlflow_server: str, tmp_path: Path) -> None:
    client = MlflowClient(mlflow_server)
    experiment = client.create_experiment("gone")
    run = client.create_run(experiment, tags={HEARTBEAT: "2026-01-01T00:00:00Z"})
    (tmp_path / "outputs").mkdir()
    where = ["--uri", mlflow_server, "--experiment", "gone"]
    done = program.execute([*program.COMMAND, "sync", *where], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"({run.info.run_id}) is KILLED: its process has not been heard of since" in done.stdout
    assert client.get_run(run.info.run_id).info.status == "KILLED"


def test_sweeps_started_at_the_same_time_run_each_job_once(mlflow_server: str, tmp_path: Path) -> None:
    command = ("-m", "seed=1,2", *RUN, f"tracking.uri={mlflow_server}", "tracking.experiment=twice", "sweep.name=twice")
    both = [program.popen([*program.PROGRAM, *command], tmp_path) for _ in range(2)]
    outputs = [process.communicate(timeout=program.TIMEOUT) for process in both]
    assert sorted(process.returncode for process in both) == [0, 2], outputs
    (refusal,) = (errors for _, errors in outputs if errors)
    assert refusal.count("\n") == 1 and "another process is writing this run" in refusal
    assert [run.info.status for run in runs(mlflow_server, "twice")] == ["FINISHED"] * 3
