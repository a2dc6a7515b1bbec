"""Tests of hydra/launcher=parallel: jobs run at the same time, with the same results as alone, and fail alone."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import program
import psutil
import pytest
from sweeping import DATA, EPOCHS, QUICK, Sweep, if_alive, parent_and_jobs, results, sweeping

from cifar_exp.training.threads import TENSORFLOW_THREADS

ONE_THREAD = dict.fromkeys(TENSORFLOW_THREADS, "1")
LINE = re.compile(
    r"\[\d/\d\] dense-adam-\S+  (\d[\d,]* parameters|epoch|test accuracy|goes on|FAILED|has finished|is not)"
)
NEEDS_TWO_CORES = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="jobs at once need two cores")


def listens_beyond_this_machine(process: psutil.Process) -> list[Any]:
    found = if_alive(lambda: process.net_connections(kind="inet"))
    return [c.laddr for c in found if c.status == psutil.CONN_LISTEN and not c.laddr.ip.endswith("127.0.0.1")]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    folder = tmp_path_factory.mktemp("three")
    with sweeping(folder, "seed=1,2,3", *QUICK, EPOCHS) as sweep:
        sweep.until(r"epoch 1/3")
        sweep.beyond = [address for process in sweep.processes for address in listens_beyond_this_machine(process)]
        assert sweep.end() == 0, "".join(sweep.lines)
    return sweep


def test_jobs_finish_under_one_parent_and_nothing_is_left(three: Sweep) -> None:
    parent, jobs = parent_and_jobs(program.client(three.folder))
    assert [run.info.status for run in (parent, *jobs)] == ["FINISHED"] * 4
    assert [run.info.run_name for run in jobs] == [f"dense-adam-seed={seed}" for seed in (1, 2, 3)]
    assert three.leaves_nothing()


@NEEDS_TWO_CORES
def test_two_jobs_ran_at_the_same_time_with_one_thread_each(three: Sweep) -> None:
    first, second = (run.info for run in parent_and_jobs(program.client(three.folder))[1][:2])
    assert max(first.start_time, second.start_time) < min(first.end_time, second.end_time)
    count = min(3, len(os.sched_getaffinity(0)))
    assert f"{count} at once on this machine, each with 1 thread\n" in three.lines


def test_other_machines_cannot_connect_to_the_sweep(three: Sweep) -> None:
    assert three.beyond == []


def test_terminal_shows_whole_lines_of_every_job_then_one_table(three: Sweep) -> None:
    shown = "".join(three.lines)
    head = shown.partition("\n job ")[0].splitlines()
    assert re.match(r"Sweep s: 3 jobs, http", head[0]) and re.match(r"\d at once on this machine", head[1])
    assert all(LINE.match(line) for line in head[2:] if line), "\n".join(head)
    for number in (1, 2, 3):
        assert [int(e) for e in re.findall(rf"^\[{number}/3\] .*epoch (\d)/3 ", shown, re.M)] == [1, 2, 3]
        assert len(re.findall(rf"^ +{number} +dense-adam-seed={number} +FINISHED ", shown, re.M)) == 1
    assert "Traceback" not in shown and "ray" not in shown.lower()


def test_the_second_job_of_a_process_has_the_same_results_as_alone(three: Sweep, tmp_path: Path) -> None:
    done = program.run(tmp_path, "seed=3", *QUICK, EPOCHS, **ONE_THREAD)
    assert done.returncode == 0, done.stderr
    alone, beside = program.only_run(tmp_path), parent_and_jobs(program.client(three.folder))[1][2]
    assert alone.data.tags["cifar_exp.fingerprint"] == beside.data.tags["cifar_exp.fingerprint"]
    measured = [name for name in alone.data.metrics if re.match("test/|val/|train/(loss|accuracy)", name)]
    assert len(measured) > 10
    for name in measured:
        found = [
            program.points(program.client(f), r.info.run_id, name)
            for f, r in ((tmp_path, alone), (three.folder, beside))
        ]
        assert found[0] == found[1], name


def test_the_same_command_runs_nothing_again_and_starts_no_worker(three: Sweep) -> None:
    with sweeping(three.folder, "seed=1,2,3", *QUICK, EPOCHS) as again:
        assert again.end() == 0
    assert not any("at once" in line for line in again.lines)
    assert sum("has finished before" in line for line in again.lines) == 3
    assert len(program.runs(program.client(three.folder))) == 4


def test_a_killed_worker_affects_only_its_own_job(tmp_path: Path) -> None:
    """The first job is killed once and resumes from its checkpoint; the second is killed twice and fails."""
    epochs = "training.epochs=50"  # enough that no job ends before its worker is killed
    with sweeping(tmp_path, "seed=1,2", *QUICK, epochs, "sweep.retries=2") as sweep:
        sweep.until(r"\[1/2\].*epoch +2/50")
        sweep.worker(1).kill()
        sweep.until(r"\[1/2\].*FAILED: its worker died; it is tried again")
        for again in ("; it is tried again", ""):
            sweep.until(r"\[2/2\].*epoch")
            sweep.worker(2).kill()
            sweep.until(rf"\[2/2\].*FAILED: its worker died{again}$")
        assert sweep.end() == 1
        assert sweep.leaves_nothing()
    found = results(tmp_path, 2)
    assert [job and job.status for job in found] == ["FINISHED", "FAILED"]
    assert found[1] and found[1].error == "its worker died"
    client = program.client(tmp_path)
    parent, jobs = parent_and_jobs(client)
    assert [run.info.status for run in (parent, *jobs)] == ["FAILED", "FINISHED", "KILLED"]
    assert jobs[1].data.tags["cifar_exp.reason"].startswith("its process is gone")
    assert list(program.points(client, jobs[0].info.run_id, "train/loss")) == list(range(1, 51))


def test_a_model_that_exhausts_the_memory_affects_only_its_own_job(tmp_path: Path) -> None:
    small, large = ("[Flatten,{Dense:{units:10}}]", "[Flatten,{Dense:{units:200000}},{Dense:{units:10}}]")  # 2.5 GB
    settings = (*DATA, "training.epochs=2", "hydra.launcher.memory_per_job=2", "sweep.fail_fast=true")
    with sweeping(tmp_path, f"model.layers={small},{large}", *settings) as sweep:
        assert sweep.end() == 1
    assert [job and job.status for job in results(tmp_path, 2)] == ["FINISHED", "FAILED"]
    (message,) = (line for line in sweep.lines if "FAILED" in line and line.startswith("["))
    assert message.startswith("[2/2] ") and "it took more memory than hydra.launcher.memory_per_job=2 GB" in message
    _, jobs = parent_and_jobs(program.client(tmp_path))
    assert [run.info.status for run in jobs] == ["FINISHED", "KILLED"][: len(jobs)]


def test_no_job_starts_after_one_has_failed_with_fail_fast(tmp_path: Path) -> None:
    path = tmp_path / "outputs" / "sweeps" / "s" / "0" / "artifacts" / "evaluation"
    path.parent.mkdir(parents=True)
    path.write_text("in the way")  # the name of a folder that is written after training
    one_at_a_time = f"hydra.launcher.cpus_per_job={len(os.sched_getaffinity(0))}"
    with sweeping(tmp_path, "seed=1,2,3", *QUICK, EPOCHS, "sweep.fail_fast=true", one_at_a_time) as sweep:
        assert sweep.end() == 1
    assert [job and job.status for job in results(tmp_path, 3)] == ["FAILED", None, None]
    for number in (2, 3):
        assert f"[{number}/3] dense-adam-seed={number}  is not started: job 1 failed\n" in sweep.lines

    path.unlink()  # now the same command continues, even if nobody reads its output
    with sweeping(tmp_path, "seed=1,2,3", *QUICK, EPOCHS, "sweep.fail_fast=true", one_at_a_time) as sweep:
        sweep.until("Sweep s")
        sweep.stop_reading()
        assert sweep.end() == 0
    assert [run.info.status for run in parent_and_jobs(program.client(tmp_path))[1]] == ["FINISHED"] * 3


@pytest.mark.parametrize(("number", "code"), [(signal.SIGUSR1, 138)])
def test_a_stopped_sweep_keeps_its_results_and_leaves_no_process(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    with sweeping(tmp_path, "seed=1,2,3", *QUICK, "training.epochs=100000", "hydra.launcher.cpus_per_job=0.5") as sweep:
        for job in (1, 2, 3):
            sweep.until(rf"\[{job}/3\].*epoch")
        sweep.send(number)
        assert sweep.end() == code
        assert sweep.leaves_nothing()
    assert sweep.lines[-1] == "cifar_exp: stopped; a run that had begun is logged as KILLED\n"
    assert "Traceback" not in "".join(sweep.lines)
    assert [job and job.status for job in results(tmp_path, 3)] == ["KILLED"] * 3
    client = program.client(tmp_path)
    parent, jobs = parent_and_jobs(client)
    assert [run.info.status for run in (parent, *jobs)] == ["KILLED"] * 4
    for run in jobs:
        assert run.data.tags["cifar_exp.outcome"] == "interrupted"
        epochs = list(program.points(client, run.info.run_id, "train/loss"))
        assert epochs == list(range(1, len(epochs) + 1)) and epochs


def test_a_killed_driver_leaves_no_process_and_no_folder(tmp_path: Path) -> None:
    with sweeping(tmp_path, "seed=1,2", *QUICK, "training.epochs=100000") as sweep:
        sweep.until(r"\[1/2\].*epoch", r"\[2/2\].*epoch")
        sweep.kill()
        assert sweep.leaves_nothing()
