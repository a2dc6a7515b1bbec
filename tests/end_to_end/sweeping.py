"""Sweeps with hydra/launcher=parallel, their output as it comes, and what they log."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import program
import psutil
from mlflow import MlflowClient
from mlflow.entities import Run

from cifar_exp.sweep.job import JobResult

DATA = ("data=digits", "data.train_images=500", "model=dense", "tracking.system_metrics=false")
LAYERS = "model.layers=[Flatten,{Dropout:{rate:0.3}},{Dense:{units:10}}]"
QUICK = (*DATA, LAYERS, "training.deterministic=true")
EPOCHS = "training.epochs=3"
T = TypeVar("T")


class Sweep:
    """A sweep in a session of its own, its output as it comes, and every process that it has started."""

    def __init__(self, folder: Path, *arguments: str, launcher: str) -> None:
        self.folder, self.lines = folder, list[str]()
        self._process = subprocess.Popen(
            [*program.PROGRAM, "-m", *arguments, f"hydra/launcher={launcher}", "sweep.name=s"],
            cwd=folder,
            env=program.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self._watchdog = threading.Timer(program.TIMEOUT, self._process.kill)
        self._watchdog.start()
        self.processes: list[psutil.Process] = []
        self._folders: set[Path] = set()  # for what it keeps until its end
        self.beyond: list[Any] = []
        """Addresses that it listens on and others can reach."""

    def until(self, *patterns: str) -> None:
        """Read on until each has matched a line."""
        assert self._process.stdout is not None
        missing = set(patterns)
        for line in self._process.stdout:
            self.lines.append(line)
            missing -= {pattern for pattern in missing if re.search(pattern, line)}
            if not missing:
                self.processes = psutil.Process(self._process.pid).children(recursive=True)
                started = " ".join(argument for process in self.processes for argument in if_alive(process.cmdline))
                self._folders = {Path(found) for found in re.findall(r"--temp[-_]dir=(\S+)", started)}
                return
        raise AssertionError(f"no line like {missing} in\n{''.join(self.lines)}")

    def worker(self, job: int) -> psutil.Process:
        """That runs this job, from 1: it holds the job's journal, or is about to."""
        journal = str(self.folder / "outputs" / "sweeps" / "s" / str(job - 1) / "journal.jsonl")
        deadline = time.monotonic() + program.TIMEOUT
        while time.monotonic() < deadline:
            self.processes = psutil.Process(self._process.pid).children(recursive=True)
            for process in self.processes:
                if any(file.path == journal for file in if_alive(process.open_files)):
                    return process
            time.sleep(0.05)
        raise AssertionError(f"no process has {journal} open")

    def send(self, number: signal.Signals) -> None:
        """To every process of its group, as a terminal and Slurm do."""
        os.killpg(self._process.pid, number)

    def stop_reading(self) -> None:
        """As `head` does once it has enough."""
        assert self._process.stdout is not None
        self._process.stdout.close()

    def end(self) -> int:
        """Read to its end; its exit code."""
        assert self._process.stdout is not None
        if not self._process.stdout.closed:
            self.lines += self._process.stdout
        return self._process.wait(program.TIMEOUT)

    def kill(self) -> None:
        """Whatever it is doing."""
        self._watchdog.cancel()
        self._process.kill()
        self._process.wait()

    def leaves_nothing(self) -> bool:
        """Whether all its processes have ended, and its temporary files are gone."""
        _, left = psutil.wait_procs(self.processes, timeout=60)
        return bool(self._folders) and not left and not any(folder.exists() for folder in self._folders)


def if_alive(look: Callable[[], list[T]]) -> list[T]:
    """What a process has, nothing if it has ended since it was found."""
    try:
        return look()
    except psutil.Error:
        return []


@contextmanager
def sweeping(folder: Path, *arguments: str, launcher: str = "parallel") -> Iterator[Sweep]:
    sweep = Sweep(folder, *arguments, launcher=launcher)
    try:
        yield sweep
    finally:
        sweep.kill()


def results(folder: Path, jobs: int) -> list[JobResult | None]:
    return [JobResult.read(folder / "outputs" / "sweeps" / "s" / str(number)) for number in range(jobs)]


def parent_and_jobs(client: MlflowClient) -> tuple[Run, list[Run]]:
    (parent,) = (run for run in program.runs(client) if run.data.tags.get("cifar_exp.kind") == "sweep")
    jobs = [run for run in program.runs(client) if run.info.run_id != parent.info.run_id]
    assert all(run.data.tags["mlflow.parentRunId"] == parent.info.run_id for run in jobs)
    return parent, sorted(jobs, key=lambda run: int(run.data.tags["cifar_exp.job"]))
