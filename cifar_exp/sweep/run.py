"""Run a sweep, from its first job to its results."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from cifar_exp import console, exits
from cifar_exp.config.plan import Plan
from cifar_exp.review.section import Section
from cifar_exp.sweep import messages, parent
from cifar_exp.sweep.result import JobResult
from cifar_exp.tracking import addresses, experiment_note
from cifar_exp.tracking.run import Run

log = logging.getLogger(__name__)


class Jobs(Protocol):
    """The jobs of a sweep or a search."""

    def results(self) -> list[JobResult]:
        """Result of each job so far, in order."""

    def succeeded(self) -> bool:
        """Whether the sweep has what it was to find."""

    def remarks(self) -> Sequence[str]:
        """What is to be said beside the table of the results, a sentence each."""

    def sections(self) -> Sequence[Section]:
        """What the report page shows beside the runs."""


class Planned:
    """The jobs of a sweep that were known from its beginning."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def results(self) -> list[JobResult]:
        """Result of each job."""
        return parent.results(self._plan)

    def succeeded(self) -> bool:
        """Whether all jobs finished."""
        return all(job.status == "FINISHED" for job in self.results())

    def remarks(self) -> Sequence[str]:
        """Nothing: the table says it all."""
        return ()

    def sections(self) -> Sequence[Section]:
        """Nothing but the runs."""
        return ()


def run(plan: Plan, launch: Callable[[], None], command: str, jobs: Jobs | None = None, identity: str = "") -> int:
    """Run the jobs of a plan under one parent run, then print and log their results.

    Args:
        plan: all jobs, composed and checked; of a search, its space.
        launch: hands the jobs to Hydra's launcher and returns when they have ended.
        command: the arguments of the command line.
        jobs: of a search; default: those of the plan.
        identity: what another command must have in common with this one to continue the sweep; default: everything.

    Returns:
        Exit code: 0 if all jobs finished, or a search has found something; else 1.

    Raises:
        KeyboardInterrupt: after the results so far are logged.
    """
    jobs = jobs or Planned(plan)
    run = parent.start(plan, identity or command)
    if plan.space is None:
        parent.forget_results(plan)
    status = "KILLED"
    try:
        where = _page(run, plan) if run.wait_until_started() else f"not yet in {run.store.uri}"
        if run.id:
            parent.end_dead_runs(run)
            parent.take_in(run, plan.sweep_name)
        kind, each = ("Search", "trials") if plan.space else ("Sweep", "jobs")
        log.info("%s %s: %d %s, %s", kind, plan.sweep_name, plan.count, each, where)
        launch()
        status = "FINISHED" if jobs.succeeded() else "FAILED"
    except Exception:
        status = "KILLED" if exits.received() else "FAILED"
        raise
    finally:
        with exits.delay_signals():
            _end(run, plan, jobs, status, command)
    return 0 if status == "FINISHED" else 1


def _end(run: Run, plan: Plan, jobs: Jobs, status: str, command: str) -> None:
    """Print and log the results of the jobs, and end the parent run."""
    results, remarks = jobs.results(), jobs.remarks()
    frame = parent.table(results)
    console.say(f"\n{parent.show(frame)}\n")  # before logging, which may fail
    for remark in remarks:
        console.say(remark)
    try:
        parent.finish(run, results, frame, command, remarks, jobs.sections)
    finally:
        run.finish(status)
    if run.id and run.wait(0):  # a server that takes nothing would hold up the end
        experiment_note.update(run.store)
    page = _page(run, plan)
    if page:
        console.say(addresses.how_to_open(run.store, page))
    messages.about_sweep(plan.jobs[0], plan.sweep_name, status, frame, remarks, page)


def _page(run: Run, plan: Plan) -> str:
    """Web address of the sweep; empty if it is not in the store yet."""
    return addresses.sweep_page(run.store, plan.sweep_name, run.id) if run.id else ""
