"""Start sweeps with a parallel launcher, follow their output, and read what they logged."""

from __future__ import annotations

import os
import re
import signal
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

from cifar_exp.sweep.result import JobResult

DATA = ("data=digits", "data.train_images=500", "model=dense", "tracking.system_metrics=false")
LAYERS = "model.layers=[Flatten,{Dropout:{rate:0.3}},{Dense:{units:10}}]"
QUICK = (*DATA, LAYERS, "training.deterministic=true")
EPOCHS = "training.epochs=3"
T = TypeVar("T")


class Sweep:
    """A running sweep in its own session, with its output so far and all of its processes."""

    def __init__(self, folder: Path, *arguments: str, launcher: str) -> None:
        self.folder, self.lines = folder, list[str]()
        command = [*program.PROGRAM, "-m", *arguments, f"hydra/launcher={launcher}", "sweep.name=s"]
        self._process = program.popen(command, folder, merged=True, session=True)
        self._watchdog = threading.Timer(program.TIMEOUT, self._process.kill)
        self._watchdog.start()
        self.processes: list[psutil.Process] = []
        self._folders: set[Path] = set()  # its temporary folders
        self.beyond: list[Any] = []
        """Addresses on which it listens and that other machines can reach."""
        self.priorities = set[int]()
        """Niceness of its processes."""

    def until(self, *patterns: str) -> None:
        """Read the output until each pattern has matched a line, now or earlier."""
        assert self._process.stdout is not None
        missing = {pattern for pattern in patterns if not any(re.search(pattern, line) for line in self.lines)}
        while missing:
            line = self._process.stdout.readline()
            assert line, f"no line like {missing} in\n{''.join(self.lines)}"
            self.lines.append(line)
            missing -= {pattern for pattern in missing if re.search(pattern, line)}
        self.processes = psutil.Process(self._process.pid).children(recursive=True)
        started = " ".join(argument for process in self.processes for argument in if_alive(process.cmdline))
        self._folders = {Path(found) for found in re.findall(r"--temp[-_]dir=(\S+)", started)}

    def worker(self, job: int) -> psutil.Process:
        """Worker process that runs a job (numbered from 1), found by the open journal of the job."""
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
        """Send a signal to the process group, as a terminal and Slurm do."""
        os.killpg(self._process.pid, number)

    def stop_reading(self) -> None:
        """Close the pipe of the output, as `head` does."""
        assert self._process.stdout is not None
        self._process.stdout.close()

    def end(self) -> int:
        """Read the output to its end and return the exit code."""
        assert self._process.stdout is not None
        if not self._process.stdout.closed:
            self.lines += self._process.stdout
        return self._process.wait(program.TIMEOUT)

    def kill(self) -> None:
        """Kill the sweep."""
        self._watchdog.cancel()
        self._process.kill()
        self._process.wait()

    def leaves_nothing(self) -> bool:
        """Whether all processes have ended and all temporary files are removed."""
        _, left = psutil.wait_procs(self.processes, timeout=60)
        return bool(self._folders) and not left and not any(folder.exists() for folder in self._folders)


def if_alive(look: Callable[[], list[T]]) -> list[T]:
    """Call `look`, which reads from a process; return an empty list if the process has ended."""
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
