"""Tests of jobs on other nodes: on a Ray cluster with hydra/launcher=parallel, and with submitit as on Slurm."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import program
import psutil
import pytest
from sweeping import QUICK, parent_and_jobs, results, sweeping

from cifar_exp.tracking import journal

NODES = """
import os, signal, sys
os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_MODE="disabled", RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0")
from ray.cluster_utils import Cluster
memory = {"object_store_memory": 100 * 2**20}
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, **memory})
node = cluster.add_node(num_cpus=1, node_ip_address="127.0.0.2", **memory)
print(cluster.address, flush=True)
for line in sys.stdin:
    cluster.remove_node(node, allow_graceful=False)
cluster.shutdown()
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """Address of a Ray cluster of two nodes with one core each, and a function that kills the second node."""
    environment = program.environment(TMPDIR="/tmp")
    del environment["PYTHONPATH"]  # the sweep must send its code
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", NODES],
        cwd=elsewhere,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None and process.stdout is not None
    stdin = process.stdin
    try:
        address = next(line for line in process.stdout if re.fullmatch(r"[\d.]+:\d+\n", line)).strip()
        yield address, lambda: print("kill", file=stdin, flush=True)
    finally:
        stdin.close()
        try:
            process.wait(60)
        finally:
            for child in [*psutil.Process(process.pid).children(recursive=True)] if process.poll() is None else []:
                with suppress(psutil.NoSuchProcess):
                    child.kill()
            process.kill()


def test_a_dead_node_affects_only_its_own_jobs(
    cluster: tuple[str, Callable[[], None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    address, kill_second = cluster
    place = tmp_path / "here"
    place.mkdir()
    settings = ("training.epochs=25", "sweep.retries=1", f"hydra.launcher.address={address}")
    with sweeping(place, "seed=1,2", *QUICK, *settings) as sweep:
        sweep.until(*(rf"\[{job}/2\].*epoch +\d+/25" for job in (1, 2)))  # both have a checkpoint
        kill_second()
        sweep.until(r"FAILED: its (worker|node) died; it is tried again", "goes on after epoch")
        sweep.stop_reading()  # it goes on even if nobody reads its output
        assert sweep.end() == 0
    assert sum("FAILED" in line for line in sweep.lines) == 1
    assert sum("goes on after epoch" in line for line in sweep.lines) == 1
    assert not any("raylet" in line for line in sweep.lines)
    client = program.client(place)
    parent, jobs = parent_and_jobs(client)
    assert [run.info.status for run in (parent, *jobs)] == ["FINISHED"] * 3
    for run in jobs:
        assert list(program.points(client, run.info.run_id, "train/loss")) == list(range(1, 26))


def test_a_submitit_job_that_is_almost_out_of_time_is_queued_again_and_resumed(tmp_path: Path) -> None:
    with sweeping(tmp_path, "seed=1,2", *QUICK, "training.epochs=20", launcher="submitit_local") as sweep:
        process = sweep.worker(1)
        log = tmp_path / "outputs" / "sweeps" / "s" / "0" / "artifacts" / "logs" / "run.log"
        while not (log.exists() and re.search(r"epoch +2/20", log.read_text())):
            time.sleep(0.05)
        process.send_signal(signal.SIGUSR2)  # Slurm sends this signal before the time limit
        assert sweep.end() == 0, "".join(sweep.lines)
    assert "goes on after epoch" in log.read_text()
    ends = [event.content["status"] for event in journal.read(log.parents[2]) if event.kind == "finish"]
    assert ends == ["KILLED", "FINISHED"]
    client = program.client(tmp_path)
    parent, jobs = parent_and_jobs(client)
    assert [run.info.status for run in (parent, *jobs)] == ["FINISHED"] * 3
    assert [job and job.run_id for job in results(tmp_path, 2)] == [run.info.run_id for run in jobs]
    assert list(program.points(client, jobs[0].info.run_id, "train/loss")) == list(range(1, 21))
    shown = "".join(sweep.lines)
    assert len(re.findall(r"^ +\d +dense-adam-seed=\d +FINISHED ", shown, re.M)) == 2 and "Traceback" not in shown
