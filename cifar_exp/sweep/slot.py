"""A place for one job at a time: the worker that has it, and what its death is called."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayError, RayTaskError

from cifar_exp.errors import reason as first_line
from cifar_exp.sweep.task import Kind, Task
from cifar_exp.sweep.worker import Place, Worker


class Slot:
    """Room for one job at a time, and the worker that has it."""

    def __init__(self, name: str, resources: Mapping[str, float], board: Any, place: Place) -> None:
        worker: Any = ray.remote(Worker)
        taken = worker.options(
            num_cpus=resources["CPU"],
            num_gpus=resources.get("GPU", 0),
            memory=resources.get("memory"),
            max_restarts=0,  # a new one is made, which knows what ended this one
        )
        self.name = name
        self._actor = taken.remote(name, board, place)
        self.reference: Any = self._actor.ready.remote()
        """What it is doing: starting, or its job. None: nothing."""
        self.task: Task | None = None
        self.kind: Kind | None = None
        """Of the jobs that its process has run."""
        self.began = time.monotonic()

    def give(self, task: Task) -> None:
        """Have it run this job."""
        self.task, self.kind, self.began = task, task.kind, time.monotonic()
        self.reference = self._actor.run.remote(task.compose(), str(task.folder))

    def kill(self) -> None:
        """End its process, whatever it is doing."""
        with suppress(RayError):
            ray.kill(self._actor)


def reason_of(error: Exception) -> str:
    """Of the end of a worker."""
    said = str(error)
    if isinstance(error, OutOfMemoryError) or "low on memory" in said:
        return "its machine ran out of memory, and Ray ended its worker"
    if "node has died" in said or "node was terminated" in said:
        return "its node died"
    if isinstance(error, RayTaskError):
        return f"{type(error.cause).__name__}: {first_line(error.cause)}"
    return "its worker died"
