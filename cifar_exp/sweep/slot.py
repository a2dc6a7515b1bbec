"""A slot of the pool: a worker that runs one job at a time, and the reason if it dies."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayError, RayTaskError

from cifar_exp.errors import described
from cifar_exp.sweep.task import Kind, Task
from cifar_exp.sweep.worker import Place, Worker


class Slot:
    """Place for one job at a time, with the worker that runs it.

    Args:
        name: of the worker.
        resources: resources of a job, by Ray's names.
        board: handle of the `Board` actor.
        place: arguments for the worker.
    """

    def __init__(self, name: str, resources: Mapping[str, float], board: Any, place: Place) -> None:
        worker: Any = ray.remote(Worker)
        actor_class = worker.options(
            num_cpus=resources["CPU"],
            num_gpus=resources.get("GPU", 0),
            memory=resources.get("memory"),
            max_restarts=0,  # the pool creates a new worker instead, after handling the death
        )
        self.name = name
        self._actor = actor_class.remote(name, board, place)
        self.reference: Any = self._actor.ready.remote()
        """Ray's reference to the call that the worker is executing: its start or a job. None: it is idle."""
        self.task: Task | None = None
        self.kind: Kind | None = None
        """Kind of the jobs that its process has run; None before the first."""
        self.began = time.monotonic()

    def give(self, task: Task) -> None:
        """Start a job on the worker."""
        self.task, self.kind, self.began = task, task.kind, time.monotonic()
        self.reference = self._actor.run.remote(task.compose(), str(task.folder))

    def kill(self) -> None:
        """Kill the process of the worker."""
        with suppress(RayError):
            ray.kill(self._actor)


def death_reason(error: Exception) -> str:
    """Reason for the death of a worker, for messages.

    Args:
        error: raised by Ray for the call that the worker was executing.
    """
    message = str(error)
    if isinstance(error, OutOfMemoryError) or "low on memory" in message:
        return "its machine ran out of memory, and Ray ended its worker"
    if "node has died" in message or "node was terminated" in message:
        return "its node died"
    if isinstance(error, RayTaskError):
        return described(error.cause)
    return "its worker died"
