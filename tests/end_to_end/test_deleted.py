"""Tests of repeating a command after its runs, the parent run or the experiment were deleted in MLflow's UI."""

from __future__ import annotations

from pathlib import Path

import program
import pytest
from mlflow.entities import ViewType

SWEEP = ("-m", "seed=1,2", *program.REPEATABLE, "training.epochs=2", "tracking.system_metrics=false")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a finished sweep of two jobs."""
    folder = tmp_path_factory.mktemp("deleted")
    done = program.run(folder, *SWEEP)
    assert (done.returncode, done.stderr) == (0, "")
    return folder


def test_jobs_are_nested_under_a_new_parent_and_only_the_deleted_job_is_trained_again(folder: Path) -> None:
    client = program.client(folder)
    parent, first, second = program.runs(client)
    client.delete_run(parent.info.run_id)
    client.delete_run(second.info.run_id)
    done = program.run(folder, *SWEEP)
    assert (done.returncode, done.stderr) == (0, "")
    (message,) = (line for line in done.stdout.splitlines() if "parent run of sweep" in line)
    assert message.endswith("was deleted: a new one takes its jobs in")
    assert "1 jobs of sweep" in done.stdout
    assert done.stdout.count("has finished before") == 1
    (message,) = (line for line in done.stdout.splitlines() if "it is trained again" in line)
    assert "/1) was deleted from" in message
    (new,) = (run for run in program.runs(client) if run.data.tags.get("cifar_exp.kind") == "sweep")
    jobs = [run for run in program.runs(client) if run.info.run_id != new.info.run_id]
    assert new.info.run_id != parent.info.run_id
    assert [run.data.tags["mlflow.parentRunId"] for run in jobs] == [new.info.run_id] * 2
    assert jobs[0].info.run_id == first.info.run_id and jobs[1].info.run_id != second.info.run_id
    assert jobs[1].data.metrics["test/accuracy"] == second.data.metrics["test/accuracy"]
    table = program.artifact(client, new.info.run_id, "sweep/results.csv", folder).read_text()
    assert all(run.info.run_id in table for run in jobs)
    synced = program.execute([*program.COMMAND, "sync"], folder)
    assert (synced.returncode, synced.stderr) == (0, "")


def test_a_deleted_experiment_is_refused_by_all_commands(folder: Path) -> None:
    client = program.client(folder)
    (experiment,) = (one for one in client.search_experiments() if one.name != "Default")
    client.delete_experiment(experiment.experiment_id)
    before = len(client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL))
    command = f"experiments restore --experiment-id {experiment.experiment_id}`"
    cli = program.COMMAND
    for started in ([*program.PROGRAM, *SWEEP], [*program.PROGRAM, *program.REPEATABLE], [*cli, "compare"]):
        done = program.execute(started, folder)
        assert (done.returncode, done.stdout) == (2, ""), started
        assert command in done.stderr and done.stderr.count("\n") == 1
    doctor = program.execute([*cli, "doctor", "--quick", "data=digits"], folder)
    assert doctor.returncode == 1 and command in doctor.stdout
    assert len(client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL)) == before
    client.restore_experiment(experiment.experiment_id)
    again = program.run(folder, *SWEEP)
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout.count("has finished before") == 2
