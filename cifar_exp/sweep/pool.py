"""The jobs of a parallel sweep on Ray's workers: which starts when and where, and what a worker's death costs."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError

from cifar_exp import console, exits
from cifar_exp.errors import UserError
from cifar_exp.errors import reason as first_line
from cifar_exp.experiment import experiment
from cifar_exp.sweep.job import JobResult
from cifar_exp.sweep.resources import Settings
from cifar_exp.sweep.slot import Slot, reason_of
from cifar_exp.sweep.task import Task
from cifar_exp.sweep.worker import Board, Ended, Place
from cifar_exp.tracking import sync
from cifar_exp.tracking.journal import FILE
from cifar_exp.tracking.store import Store

log = logging.getLogger(__name__)

_HEAD = {"node:__internal_head__": 0.001}  # Ray's name of the node without which there is no cluster
_WAIT = 1.0  # seconds, for whatever comes first
_PATIENCE = 30.0  # seconds without a worker until it is said
_HEARD_WITHIN = 5.0  # seconds after a job's result, for its last lines
_STARTS = 3  # workers in a row that may die before their first job
_STOPS_WITHIN = 20.0  # seconds, beside those that a run waits for its store
_KEPT = 0.5  # of memory_per_job: a worker that keeps more after a job makes way for a fresh one


class Pool:
    """Runs tasks, as many at once as fit, each exactly once but for `sweep.retries`."""

    def __init__(self, settings: Settings, place: Place, tasks: Iterable[Task]) -> None:
        self._settings, self._place = settings, place
        self._where = settings.address or "this machine"
        self._waiting = list(tasks)
        self._results: dict[int, JobResult | None] = {}
        self._deaths: dict[int, list[str]] = {}
        self._told: dict[str, str] = {}  # by a worker -> why it ends
        self._said: set[str] = set()  # workers whose job has said all
        self._failed: int | None = None
        self._stopping = False
        self._lost_starts = 0
        self._idle_since: float | None = time.monotonic()  # until the first worker has started
        self._resources = settings.resources(ray.cluster_resources().get("GPU", 0))
        board: Any = ray.remote(Board)
        self._board = board.options(num_cpus=0, resources=_HEAD, max_concurrency=10_000).remote()
        self._read = self._board.read.remote()
        self._slots: list[Slot] = []
        self._workers = 0

    def run(self) -> dict[int, JobResult | None]:
        """Run them all.

        Returns:
            Number of a job -> its result; a job that was not started is not among them.

        Raises:
            UserError: if none of them fits.
            KeyboardInterrupt: once every job that was running has stopped and told what it had.
        """
        count, each = min(self._room(), len(self._waiting)), self._settings.threads
        log.info("%d at once on %s, each with %d thread%s", count, self._where, each, "s" if each > 1 else "")
        try:
            for _ in range(count):
                self._slots.append(self._slot())
            while self._waiting or any(slot.task for slot in self._slots):
                self._assign()
                self._take(self._next())
        except KeyboardInterrupt:
            with exits.held():
                self._stop()
            raise
        finally:
            with exits.held():
                for slot in self._slots:
                    slot.kill()
        return self._results

    def _room(self) -> int:
        """How many jobs fit at once, if nobody else takes anything."""
        shares = self._resources.items()
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        fit = sum(min(int(node.get(name, 0) / share + 1e-9) for name, share in shares) for node in nodes)
        if fit == 0:
            wanted = ", ".join(f"{share:g} {name}" for name, share in shares)
            raise UserError(f"hydra/launcher=parallel: a job takes {wanted}, which {self._where} has not")
        return fit

    def _slot(self) -> Slot:
        self._workers += 1
        return Slot(f"worker {self._workers}", self._resources, self._board, self._place)

    def _replace(self, slot: Slot) -> None:
        slot.kill()
        self._slots[self._slots.index(slot)] = self._slot()

    def _assign(self) -> None:
        """Give every worker that has none a job that may start, the first that its process can run."""
        done = set(self._results)
        for slot in list(self._slots):
            if slot.reference is not None:
                continue
            ready = [task for task in self._waiting if not (task.after - done)]
            task = next((task for task in ready if slot.kind in (None, task.kind)), None)
            if task is not None:
                self._waiting.remove(task)
                slot.give(task)
            elif ready:
                self._replace(slot)

    def _next(self) -> list[Slot]:
        """Show what the workers tell meanwhile; those that have done something."""
        references = {slot.reference: slot for slot in self._slots if slot.reference is not None}
        done, _ = ray.wait([*references, self._read], num_returns=1, timeout=_WAIT)
        if self._settings.address and self._idle_since and time.monotonic() - self._idle_since > _PATIENCE:
            log.info("No worker has started yet: %s may be busy with other work", self._settings.address)
            self._idle_since = None
        if self._read in done:
            self._show(ray.get(self._read))
            self._read = self._board.read.remote()
        return [references[reference] for reference in done if reference in references]

    def _show(self, events: Iterable[tuple[Any, ...]]) -> None:
        for what, *values in events:
            if what == "died":
                self._told[values[0]] = values[1]
            elif what == "ended":
                self._said.add(values[0])
            else:
                console.show(what, *values)

    def _hear(self, slot: Slot) -> None:
        """Show the rest of what a job has said, which may come after its result."""
        until = time.monotonic() + _HEARD_WITHIN
        while slot.name not in self._said and time.monotonic() < until:
            with suppress(GetTimeoutError):
                self._show(ray.get(self._read, timeout=_WAIT))
                self._read = self._board.read.remote()
        self._said.discard(slot.name)

    def _take(self, slots: Iterable[Slot]) -> None:
        for slot in slots:
            reference, slot.reference = slot.reference, None
            task, slot.task = slot.task, None
            try:
                answer = ray.get(reference)
            except RayError as error:
                if task is None:
                    self._start_failed(slot, error)
                else:
                    self._died(slot, task, error)
                continue
            if task is None:
                self._idle_since = None
            else:
                self._lost_starts = 0
                self._hear(slot)
                self._ended(task, answer, slot)

    def _ended(self, task: Task, ended: Ended, slot: Slot) -> None:
        result = ended.result
        if result and not result.name:  # not even its name was known where it failed
            result = JobResult(task.name, result.status, result.seconds, error=result.error)
            log.error("%s  FAILED: %s", task.title, result.error)
        self._record(task, result)
        limit = self._settings.memory_per_job
        if limit and ended.memory > _KEPT * limit and self._waiting:
            self._replace(slot)

    def _record(self, task: Task, result: JobResult | None) -> None:
        console.show("over", task.title)
        self._results[task.number] = result
        if result is None:
            return
        if JobResult.read(task.folder) != result:  # it ran on a machine with a disk of its own, or could not tell
            task.folder.mkdir(parents=True, exist_ok=True)
            result.write(task.folder)
        if result.status == "FAILED" and task.config.sweep.fail_fast and self._failed is None:
            self._failed = task.number
            for other in self._waiting:
                log.info("%s  is not started: job %d failed", other.title, task.number)
            self._waiting.clear()

    def _died(self, slot: Slot, task: Task, error: Exception) -> None:
        """A worker, and with it its job: tried again, or given up."""
        with suppress(GetTimeoutError):  # what it had to say may be on its way
            self._show(ray.get(self._read, timeout=_WAIT))
            self._read = self._board.read.remote()
        reason = self._told.get(slot.name) or reason_of(error)
        before = self._deaths.setdefault(task.number, [])
        kept = task.config.sweep.retries > len(before) and reason not in before[-1:]
        before.append(reason)
        again = "; it is tried again" if kept and self._failed is None and not self._stopping else ""
        log.error("%s  FAILED: %s%s", task.title, reason, again)
        console.show("over", task.title)
        if again:
            self._waiting.insert(0, task)
            if not (task.folder / FILE).exists():  # it starts anew, on another machine
                _settle(task)
        else:
            _settle(task)
            seconds = time.monotonic() - slot.began
            self._record(task, JobResult(task.name, "FAILED", seconds, experiment.run_id(task.folder), error=reason))
        if not self._stopping:
            self._replace(slot)

    def _start_failed(self, slot: Slot, error: Exception) -> None:
        self._lost_starts += 1
        if self._lost_starts >= _STARTS:
            raise RuntimeError(f"no worker starts: {first_line(error)}") from error
        self._replace(slot)

    def _stop(self) -> None:
        """Have every job stop as it would on Ctrl-C, and end those that do not."""
        self._stopping = True
        self._waiting.clear()
        for slot in self._slots:
            if slot.task is None:
                slot.kill()
        self._slots = [slot for slot in self._slots if slot.task]
        running = {slot: slot.task for slot in self._slots if slot.task}
        if not running:
            return
        self._board.stop.remote()
        drain = max(task.config.tracking.drain_seconds for task in running.values())
        until = time.monotonic() + drain + _STOPS_WITHIN
        while any(slot.task for slot in self._slots) and time.monotonic() < until:
            self._take(self._next())
        for slot, task in running.items():
            if task.number not in self._results:
                slot.kill()
                _settle(task)
                seconds = time.monotonic() - slot.began
                self._record(task, JobResult(task.name, "KILLED", seconds, experiment.run_id(task.folder)))


def _settle(task: Task) -> None:
    """Tell the end of the run that a worker took with it."""
    if (task.folder / FILE).exists():
        sync.send(task.folder)
        return
    with suppress(Exception):  # the store is away too, and knows no more than before
        sync.lose(Store.of(task.config.tracking), str(task.config.sweep.name), task.number)
