"""Tests of repeating a command after an interruption: it resumes, and nothing is logged twice."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import program
import pytest
from mlflow import MlflowClient

from cifar_exp.tracking import local_run
from cifar_exp.tracking.local_run import LocalRun

EPOCHS = 6
RUN = (*program.REPEATABLE, f"training.epochs={EPOCHS}")
MEASURED = ("train/loss", "train/accuracy", "val/loss", "val/accuracy", "train/learning_rate")
KILLS = int(os.environ.get("CIFAR_EXP_KILLS", "3"))
JOBS = 2


def measured(client: MlflowClient, run_id: str) -> dict[str, list[tuple[int, float]]]:
    """All points of the metrics that do not depend on time."""
    names = [
        name for name in client.get_run(run_id).data.metrics if name in MEASURED or name.startswith(("test/", "val/"))
    ]
    return {name: [(p.step, p.value) for p in client.get_metric_history(run_id, name)] for name in names}


def is_whole(client: MlflowClient, run_id: str) -> None:
    run = client.get_run(run_id)
    assert (run.info.status, run.data.tags["cifar_exp.outcome"]) == ("FINISHED", "completed")
    assert len(run.outputs.model_outputs) == len(client.search_logged_models([run.info.experiment_id])) == 1
    assert len(run.inputs.dataset_inputs) == 3
    assert {"evaluation/predictions.parquet", "figures/curves.png", "logs/run.log"} <= program.artifacts(client, run_id)


def kill_after(seconds: float, folder: Path, *arguments: str) -> bool:
    """Start the program and send SIGKILL after some seconds; return whether it ended before."""
    process = program.popen([*program.PROGRAM, *arguments], folder, merged=True)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
    assert process.wait() in (0, -signal.SIGKILL), process.communicate()[0]
    return process.returncode == 0


def is_over(folder: Path) -> bool:
    """Whether the killed process had finished its run, so that the same command would train a second one."""
    left = [LocalRun.read(path.parent) for path in folder.glob("outputs/runs/*/journal.jsonl")]
    return any(run and run.status == local_run.FINISHED and not run.can_resume() for run in left)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, list[tuple[int, float]]], float]:
    """Metrics of the uninterrupted run, and its duration in seconds."""
    program.run(tmp_path_factory.mktemp("first"), "--help")  # starts the process from which later ones are forked
    folder, began = tmp_path_factory.mktemp("undisturbed"), time.monotonic()
    assert kill_after(program.TIMEOUT, folder, *RUN)
    seconds = time.monotonic() - began
    return measured(program.client(folder), program.only_run(folder).info.run_id), seconds


def test_a_run_that_is_killed_repeatedly_is_one_run_with_every_epoch_once(
    tmp_path: Path, undisturbed: tuple[dict[str, list[tuple[int, float]]], float]
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance, (expected, seconds), kills = random.Random(seed), undisturbed, 0
    for number in itertools.count():
        folder = tmp_path / str(number)
        folder.mkdir()
        while True:
            # After the last kill the run may take as long as it needs.
            limit = chance.uniform(0.1, 1.2) * seconds if kills < KILLS else program.TIMEOUT
            if kill_after(limit, folder, *RUN):
                break
            assert kills < KILLS, "it took too long"
            kills += 1
            if is_over(folder):
                break
        client = program.client(folder)
        run = program.only_run(folder)
        assert measured(client, run.info.run_id) == expected
        is_whole(client, run.info.run_id)
        if kills >= KILLS:
            break


def test_an_interrupted_run_is_resumed_and_reports_it(
    tmp_path: Path, undisturbed: tuple[dict[str, list[tuple[int, float]]], float]
) -> None:
    stopped = program.run_until(tmp_path, r"epoch 2/", signal.SIGINT, *RUN, "training.checkpoint.every=1")
    assert stopped.returncode == 128 + signal.SIGINT
    assert program.only_run(tmp_path).info.status == "KILLED"
    done = program.run(tmp_path, *RUN)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"of {EPOCHS}\n" in done.stdout and "goes on after epoch" in done.stdout
    client, run = program.client(tmp_path), program.only_run(tmp_path)
    assert measured(client, run.info.run_id) == undisturbed[0]
    is_whole(client, run.info.run_id)
    assert len(list(tmp_path.glob("outputs/runs/*"))) == 1

    program.run_until(tmp_path, "epoch 1/", signal.SIGKILL, *RUN)  # a finished single run is not resumed
    assert len(program.runs(client)) == 2


def test_a_sweep_that_is_killed_repeatedly_finishes_every_job_once(tmp_path: Path) -> None:
    chance = random.Random(seed := random.randrange(2**32))
    print(f"seed {seed}")
    command = ("-m", "seed=" + ",".join(map(str, range(JOBS))), *RUN, "training.epochs=2")
    for _ in range(3):
        kill_after(chance.uniform(1, 8), tmp_path, *command)
    done = program.run(tmp_path, *command)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    client = program.client(tmp_path)
    runs = program.runs(client)
    (parent,) = (run for run in runs if run.data.tags.get("cifar_exp.kind") == "sweep")
    jobs = [run for run in runs if run is not parent]
    assert [run.info.status for run in runs] == ["FINISHED"] * (JOBS + 1)
    assert sorted(run.data.params["seed"] for run in jobs) == [str(number) for number in range(JOBS)]
    for run in jobs:
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert list(program.points(client, run.info.run_id, "train/loss")) == [1, 2]
        assert all(
            len(points) == len({step for step, _ in points}) for points in measured(client, run.info.run_id).values()
        )

    for named in ([], [f"sweep.name={parent.data.tags['cifar_exp.sweep']}"]):
        again = program.run(tmp_path, *command, *named)
        assert again.returncode == 0
        assert again.stdout.count("has finished before") == JOBS
        assert again.stdout.count(" FINISHED ") == JOBS  # rows of the table
        assert len(program.runs(client)) == JOBS + 1
    afresh = program.run(tmp_path, *command, "resume=never")
    assert afresh.returncode == 0
    assert len(program.runs(client)) == 2 * (JOBS + 1)


def test_a_running_sweep_is_not_started_twice(tmp_path: Path) -> None:
    command = ("-m", "seed=1,2", *RUN, "training.epochs=100000")
    first = program.popen([*program.PROGRAM, *command], tmp_path)
    try:
        assert first.stdout is not None
        next(line for line in first.stdout if "epoch" in line)
        second = program.run(tmp_path, *command)
        assert second.returncode == 2
        assert second.stderr.startswith("cifar_exp: this sweep is running, as ") and second.stderr.count("\n") == 1
        (folder,) = (tmp_path / "outputs" / "sweeps").iterdir()
        afresh = program.run(tmp_path, *command, f"sweep.name={folder.name}", "resume=never")
        assert (afresh.returncode, afresh.stderr.count("\n")) == (2, 1)
        assert "another process is writing this run" in afresh.stderr
        assert list((tmp_path / "outputs" / "sweeps").iterdir()) == [folder]
    finally:
        first.kill()
        first.wait()
    assert len(program.runs(program.client(tmp_path))) == 2
