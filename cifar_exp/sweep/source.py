"""Where the pool's tasks come from: a list of jobs here, or a search, which chooses each when a worker is free."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import Any, Protocol

from cifar_exp.sweep.result import JobResult
from cifar_exp.sweep.task import Kind, Task

log = logging.getLogger(__name__)


class Judge(Protocol):
    """Decides which trials pause. It is sent to the process that all workers can reach."""

    def report(self, trial: int, history: Collection[float]) -> bool:
        """Take the objective of a running trial after each epoch so far; whether it pauses here."""


class Source(Protocol):
    """Gives the pool one task after another."""

    judge: Judge | None
    """Decides which tasks pause before their end; None: none does."""

    def most(self) -> int:
        """Number of tasks that could run at once."""

    def next(self, kind: Kind | None) -> Task | None:
        """Take the next task that may start now.

        Args:
            kind: of the process that will run it, preferred over others; None: it can run any.

        Returns:
            None if no task may start now. Another may when one that is running has ended; see `is_over`.
        """

    def put_back(self, task: Task) -> None:
        """Return a task that has not started, or whose worker died and that is to be tried again."""

    def report(self, number: int, history: Sequence[float]) -> None:
        """Take what a running job has told the judge."""

    def ended(self, task: Task, result: JobResult | None) -> None:
        """Take the result of a task; None if it was stopped before it began."""

    def clear(self, reason: str | None = None) -> None:
        """Give no further task. The reason, if any, is logged for each that waits."""

    def is_over(self) -> bool:
        """Whether there is no further task, also after those that are running have ended."""


class Listed:
    """The jobs of a sweep, in their order.

    Args:
        tasks: the jobs. One that starts from the trained weights of others waits for them.
    """

    judge: Judge | None = None

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._waiting = list(tasks)
        self._done: set[int] = set()

    def most(self) -> int:
        """Number of tasks that wait."""
        return len(self._waiting)

    def next(self, kind: Kind | None) -> Task | None:
        """The first task that may start, of this kind if there is one."""
        ready = [task for task in self._waiting if not (task.after - self._done)]
        task = next((task for task in ready if kind in (None, task.kind)), next(iter(ready), None))
        if task is not None:
            self._waiting.remove(task)
        return task

    def put_back(self, task: Task) -> None:
        """It becomes the first that waits."""
        self._waiting.insert(0, task)

    def report(self, number: int, history: Sequence[float]) -> None:
        """Nothing depends on it."""

    def ended(self, task: Task, result: Any) -> None:
        """Tasks that wait for this one may start."""
        self._done.add(task.number)

    def clear(self, reason: str | None = None) -> None:
        """Forget the tasks that wait."""
        for task in self._waiting if reason else ():
            log.info("%s  is not started: %s", task.title, reason)
        self._waiting.clear()

    def is_over(self) -> bool:
        """Whether no task waits."""
        return not self._waiting
