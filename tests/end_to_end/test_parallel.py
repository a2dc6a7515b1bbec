"""Tests of hydra/launcher=parallel: jobs run at the same time, with the same results as alone, and fail alone."""

from __future__ import annotations

import os
import re
import signal
from functools import partial
from pathlib import Path
from typing import Any

import program
import psutil
import pytest
from sweeping import DATA, EPOCHS, QUICK, Sweep, if_alive, parent_and_jobs, results, sweeping

from cifar_exp.training.threads import TENSORFLOW_THREADS

CORES = len(os.sched_getaffinity(0))
THREE = ("seed=1,2,3", *QUICK, EPOCHS)
THREE_AT_ONCE = f"hydra.launcher.cpus_per_job={CORES / 3.03:.4f}"  # a share that leaves no room for a fourth
SMALL = "[Flatten,{Dense:{units:10}}]"
LARGE = "[Flatten,{Dense:{units:200000}},{Dense:{units:10}}]"  # 2.5 GB
ONE_THREAD = dict.fromkeys(TENSORFLOW_THREADS, "1")
LINE = re.compile(
    r"\[\d/\d\] dense-adam-\S+  (\d[\d,]* parameters|epoch|test accuracy|goes on|FAILED|has finished|is not)"
)
NEEDS_TWO_CORES = pytest.mark.skipif(CORES < 2, reason="jobs at once need two cores")


def listens_beyond_this_machine(process: psutil.Process) -> list[Any]:
    found = if_alive(lambda: process.net_connections(kind="inet"))
    return [c.laddr for c in found if c.status == psutil.CONN_LISTEN and not c.laddr.ip.endswith("127.0.0.1")]


def _priority(process: psutil.Process) -> list[int]:
    return [process.nice()]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """A sweep whose driver was killed when the first job had begun and the others waited for its worker."""
    one_at_a_time = f"hydra.launcher.cpus_per_job={CORES}"
    with sweeping(tmp_path_factory.mktemp("three"), *THREE, one_at_a_time) as sweep:
        sweep.until(r"\[1/3\].* parameters")
    return sweep


@pytest.fixture(scope="module")
def three(killed: Sweep) -> Sweep:
    """The same sweep, continued with as many jobs at once as there are cores."""
    assert killed.leaves_nothing()
    with sweeping(killed.folder, *THREE) as sweep:
        sweep.until(r"epoch 3/3")
        sweep.beyond = [address for process in sweep.processes for address in listens_beyond_this_machine(process)]
        sweep.priorities = {nice for process in sweep.processes for nice in if_alive(partial(_priority, process))}
        assert sweep.end() == 0, "".join(sweep.lines)
    return sweep


def test_a_killed_driver_leaves_no_process_and_no_folder(killed: Sweep) -> None:
    assert killed.leaves_nothing()
    assert not any("[2/3]" in line for line in killed.lines)


def test_jobs_finish_under_one_parent_and_nothing_is_left(three: Sweep) -> None:
    parent, jobs = parent_and_jobs(program.client(three.folder))
    assert [run.info.status for run in (parent, *jobs)] == ["FINISHED"] * 4
    assert [run.info.run_name for run in jobs] == [f"dense-adam-seed={seed}" for seed in (1, 2, 3)]
    for run in jobs:
        assert list(program.points(program.client(three.folder), run.info.run_id, "train/loss")) == [1, 2, 3]
    assert three.leaves_nothing()


@NEEDS_TWO_CORES
def test_two_jobs_ran_at_the_same_time_with_one_thread_each(three: Sweep) -> None:
    first, second = (run.info for run in parent_and_jobs(program.client(three.folder))[1][:2])
    assert max(first.start_time, second.start_time) < min(first.end_time, second.end_time)
    assert f"{min(3, CORES)} at once on this machine, each with 1 thread\n" in three.lines


def test_other_machines_cannot_connect_to_the_sweep(three: Sweep) -> None:
    assert three.beyond == []


def test_jobs_have_the_priority_of_their_command(three: Sweep) -> None:
    assert three.priorities == {os.getpriority(os.PRIO_PROCESS, 0)}


def test_terminal_shows_whole_lines_of_every_job_then_one_table(three: Sweep) -> None:
    shown = "".join(three.lines)
    head = shown.partition("\n job ")[0].splitlines()
    assert re.match(r"Sweep s: 3 jobs, http", head[0]) and re.match(r"\d at once on this machine", head[1])
    assert all(LINE.match(line) for line in head[2:] if line), "\n".join(head)
    for number in (1, 2, 3):
        epochs = [int(epoch) for epoch in re.findall(rf"^\[{number}/3\] .*epoch (\d)/3 ", shown, re.M)]
        assert epochs == ([1, 2, 3][-len(epochs) :] if number == 1 else [1, 2, 3])  # the first may have begun before
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
    with sweeping(three.folder, *THREE) as again:
        assert again.end() == 0
    assert not any("at once" in line for line in again.lines)
    assert sum("has finished before" in line for line in again.lines) == 3
    assert len(program.runs(program.client(three.folder))) == 4


@pytest.fixture(scope="module")
def dying(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """A sweep of three jobs at once and one that waits.

    The worker of the first job is killed once, the second job takes more memory than it may, each time. The other two
    go on until the sweep gets the signal that Slurm sends before it preempts.
    """
    settings = ("sweep.retries=2", "sweep.fail_fast=true", "hydra.launcher.memory_per_job=2", THREE_AT_ONCE)
    models = f"model.layers={SMALL},{LARGE},{SMALL},{SMALL}"
    with sweeping(tmp_path_factory.mktemp("dying"), models, *DATA, "training.epochs=100000", *settings) as sweep:
        sweep.until(r"\[1/4\].*epoch +2/100000")
        sweep.worker(1).kill()
        sweep.until(r"\[1/4\].*goes on after epoch", r"\[3/4\].*epoch", r"\[4/4\].*is not started")
        sweep.send(signal.SIGUSR1)
        assert sweep.end() == 138, "".join(sweep.lines)
    return sweep


def test_a_killed_worker_affects_only_its_own_job(dying: Sweep) -> None:
    failures = [line for line in dying.lines if re.match(r"\[[134]/4\].*FAILED", line)]
    assert [re.sub(" .*  ", " ", line) for line in failures] == ["[1/4] FAILED: its worker died; it is tried again\n"]
    assert sum("goes on after epoch" in line for line in dying.lines) == 1


def test_a_model_that_exhausts_the_memory_affects_only_its_own_job(dying: Sweep) -> None:
    reason = "it took more memory than hydra.launcher.memory_per_job=2 GB"
    first, last = (line for line in dying.lines if re.match(r"\[2/4\].*FAILED", line))
    assert first.endswith(f"FAILED: {reason}; it is tried again\n") and last.endswith(f"FAILED: {reason}\n")
    _, job, *_ = results(dying.folder, 4)
    assert job and (job.status, job.error) == ("FAILED", reason)
    run = parent_and_jobs(program.client(dying.folder))[1][1]
    assert run.info.status == "KILLED" and run.data.tags["cifar_exp.reason"].startswith("its process is gone")


def test_no_job_starts_after_one_has_failed_with_fail_fast(dying: Sweep) -> None:
    (line,) = (line for line in dying.lines if line.startswith("[4/4]"))
    assert line.endswith("  is not started: job 2 failed\n")
    assert results(dying.folder, 4)[3] is None


def test_a_stopped_sweep_keeps_its_results_and_leaves_no_process(dying: Sweep) -> None:
    assert dying.leaves_nothing()
    assert dying.lines[-1] == "cifar_exp: stopped; a run that had begun is logged as KILLED\n"
    assert "Traceback" not in "".join(dying.lines)
    assert [job and job.status for job in results(dying.folder, 4)] == ["KILLED", "FAILED", "KILLED", None]
    client = program.client(dying.folder)
    parent, jobs = parent_and_jobs(client)
    assert [run.info.status for run in (parent, *jobs)] == ["KILLED"] * 4
    for run in (jobs[0], jobs[2]):
        assert run.data.tags["cifar_exp.outcome"] == "interrupted"
        epochs = list(program.points(client, run.info.run_id, "train/loss"))
        assert epochs == list(range(1, len(epochs) + 1)) and epochs
