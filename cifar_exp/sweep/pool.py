"""Run the jobs of a parallel sweep on Ray's workers: choose which job starts when and where, handle dead workers."""

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
from cifar_exp.sweep import messages
from cifar_exp.sweep.resources import Settings
from cifar_exp.sweep.result import JobResult
from cifar_exp.sweep.slot import Slot, death_reason
from cifar_exp.sweep.source import Source
from cifar_exp.sweep.task import Task
from cifar_exp.sweep.worker import Board, Ended, Place
from cifar_exp.tracking import sync
from cifar_exp.tracking.journal import FILE
from cifar_exp.tracking.store import Store

log = logging.getLogger(__name__)

_HEAD = {"node:__internal_head__": 0.001}  # Ray's resource name of the head node, without which the cluster ends
_WAIT = 1.0  # seconds to wait for an event
_PATIENCE = 30.0  # seconds without a worker until the user is told
_OUTPUT_WITHIN = 5.0  # seconds after the result of a job until its last lines must have arrived
_MAX_FAILED_STARTS = 3  # workers in a row that die before their first job
_STOPS_WITHIN = 20.0  # seconds, in addition to the time that a run waits for its store
_MAX_KEPT = 0.5  # share of memory_per_job: a worker that keeps more after a job is replaced


class Pool:
    """Runs tasks on Ray's workers, as many at once as fit.

    Args:
        settings: of the launcher.
        place: arguments for the workers.
        source: gives the jobs. Each runs once, or up to `sweep.retries` times more if its worker dies.
    """

    def __init__(self, settings: Settings, place: Place, source: Source) -> None:
        self._settings, self._place = settings, place
        self._where = settings.address or "this machine"
        self._source = source
        self._results: dict[int, JobResult | None] = {}
        self._deaths: dict[int, list[str]] = {}
        self._reported: dict[str, str] = {}  # name of a worker -> the reason that it reported for its end
        self._complete: set[str] = set()  # names of workers whose job has sent all of its output
        self._failed: int | None = None
        self._stopping = False
        self._failed_starts = 0
        self._idle_since: float | None = time.monotonic()  # None after the first worker has started
        self._resources = settings.resources(ray.cluster_resources().get("GPU", 0))
        board: Any = ray.remote(Board)
        self._board = board.options(num_cpus=0, resources=_HEAD, max_concurrency=10_000).remote(source.judge)
        self._read = self._board.read.remote()
        self._slots: list[Slot] = []
        self._workers = 0

    def run(self) -> dict[int, JobResult | None]:
        """Run all tasks of the source.

        Returns:
            Number of a job -> its result. Jobs that were not started are missing.

        Raises:
            UserError: if not even one job fits.
            KeyboardInterrupt: after all running jobs have stopped and their results are recorded.
        """
        count, each = max(1, min(self._room(), self._source.most())), self._settings.threads
        log.info("%d at once on %s, each with %d thread%s", count, self._where, each, "s" if each > 1 else "")
        try:
            for _ in range(count):
                self._slots.append(self._slot())
            while True:
                self._assign()
                if self._source.is_over() and not any(slot.task for slot in self._slots):
                    break
                self._handle(self._wait())
        except KeyboardInterrupt:
            with exits.delay_signals():
                self._stop()
            raise
        finally:
            with exits.delay_signals():
                for slot in self._slots:
                    slot.kill()
        return self._results

    def _room(self) -> int:
        """Number of jobs that fit at once if nothing else uses the cluster."""
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
        """Kill a worker and start another, unless it would have nothing to do."""
        slot.kill()
        self._slots.remove(slot)
        if not self._source.is_over():
            self._slots.append(self._slot())

    def _assign(self) -> None:
        """Give each idle worker the next job; a worker whose process cannot run it is replaced."""
        for slot in list(self._slots):
            if slot.reference is not None:
                continue
            task = self._source.next(slot.kind)
            if task is None:
                continue
            if slot.kind in (None, task.kind):
                slot.give(task)
            else:
                self._source.put_back(task)
                self._replace(slot)

    def _wait(self) -> list[Slot]:
        """Wait for an event and show the output of the workers; return the slots whose start or job has ended."""
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
        for kind, *values in events:
            if kind == "died":
                self._reported[values[0]] = values[1]
            elif kind == "ended":
                self._complete.add(values[0])
            elif kind == "reported":
                self._source.report(*values)
            else:
                console.show(kind, *values)

    def _show_rest(self, slot: Slot) -> None:
        """Show the remaining output of a job, which may arrive after its result."""
        until = time.monotonic() + _OUTPUT_WITHIN
        while slot.name not in self._complete and time.monotonic() < until:
            with suppress(GetTimeoutError):
                self._show(ray.get(self._read, timeout=_WAIT))
                self._read = self._board.read.remote()
        self._complete.discard(slot.name)

    def _handle(self, slots: Iterable[Slot]) -> None:
        for slot in slots:
            reference, slot.reference = slot.reference, None
            task, slot.task = slot.task, None
            try:
                ended = ray.get(reference)
            except RayError as error:
                if task is None:
                    self._start_failed(slot, error)
                else:
                    self._died(slot, task, error)
                continue
            if task is None:
                self._idle_since = None
            else:
                self._failed_starts = 0
                self._show_rest(slot)
                self._ended(task, ended, slot)

    def _ended(self, task: Task, ended: Ended, slot: Slot) -> None:
        result = ended.result
        if result and not result.name:  # the job failed before its name was known
            result = JobResult(task.name, result.status, result.seconds, error=result.error)
            log.error("%s  FAILED: %s", task.title, result.error)
        self._record(task, result)
        limit = self._settings.memory_per_job
        if limit and ended.memory > _MAX_KEPT * limit:
            self._replace(slot)

    def _record(self, task: Task, result: JobResult | None) -> None:
        console.show("end_progress", task.title)
        self._results[task.number] = result
        if (
            result and JobResult.read(task.folder) != result
        ):  # the job ran on another disk or could not write its result
            task.folder.mkdir(parents=True, exist_ok=True)
            result.write(task.folder)
        if result:
            messages.about_run(task.config, result, task.folder)
        self._source.ended(task, result)
        if result and result.status == "FAILED" and task.config.sweep.fail_fast and self._failed is None:
            self._failed = task.number
            self._source.clear(f"job {task.number} failed")

    def _died(self, slot: Slot, task: Task, error: Exception) -> None:
        """Handle the death of a worker: retry its job or record it as failed."""
        with suppress(GetTimeoutError):  # its last output may still arrive
            self._show(ray.get(self._read, timeout=_WAIT))
            self._read = self._board.read.remote()
        reason = self._reported.get(slot.name) or death_reason(error)
        earlier = self._deaths.setdefault(task.number, [])
        may_retry = task.config.sweep.retries > len(earlier) and reason not in earlier[-1:]
        earlier.append(reason)
        again = "; it is tried again" if may_retry and self._failed is None and not self._stopping else ""
        log.error("%s  FAILED: %s%s", task.title, reason, again)
        console.show("end_progress", task.title)
        if again:
            self._source.put_back(task)
            if not (task.folder / FILE).exists():  # it ran on another machine, and the retry is a new run
                _record_end(task)
        else:
            _record_end(task)
            seconds = time.monotonic() - slot.began
            self._record(task, JobResult(task.name, "FAILED", seconds, experiment.run_id(task.folder), error=reason))
        if not self._stopping:
            self._replace(slot)

    def _start_failed(self, slot: Slot, error: Exception) -> None:
        self._failed_starts += 1
        if self._failed_starts >= _MAX_FAILED_STARTS:
            raise RuntimeError(f"no worker starts: {first_line(error)}") from error
        self._replace(slot)

    def _stop(self) -> None:
        """Stop all jobs as Ctrl-C would, and kill the workers of those that do not stop in time."""
        self._stopping = True
        self._source.clear()
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
            self._handle(self._wait())
        for slot, task in running.items():
            if task.number not in self._results:
                slot.kill()
                _record_end(task)
                seconds = time.monotonic() - slot.began
                self._record(task, JobResult(task.name, "KILLED", seconds, experiment.run_id(task.folder)))


def _record_end(task: Task) -> None:
    """Record the end of a run whose worker has died."""
    if (task.folder / FILE).exists():
        sync.send(task.folder)
        return
    with suppress(Exception):  # the store may be away as well
        sync.record_lost_job(Store.of(task.config.tracking), str(task.config.sweep.name), task.number)
