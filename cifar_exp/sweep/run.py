"""Run a sweep, from its first job to its results."""

from __future__ import annotations

import logging
from collections.abc import Callable

from cifar_exp import console, exits
from cifar_exp.config.composition import Plan
from cifar_exp.sweep import parent
from cifar_exp.tracking.run import Run

log = logging.getLogger(__name__)


def run(plan: Plan, launch: Callable[[], None], command: str) -> int:
    """Run the planned jobs under one parent run, then print and log their results.

    Args:
        plan: all jobs, composed and checked.
        launch: hands the jobs to Hydra's launcher and returns when they have ended.
        command: the arguments of the command line.

    Returns:
        Exit code: 0 if all jobs finished, else 1.

    Raises:
        KeyboardInterrupt: after the results so far are logged.
    """
    run = parent.start(plan, command)
    status = "KILLED"
    try:
        where = run.store.run_address(run.id) if run.wait_until_started() and run.id else f"not yet in {run.store.uri}"
        if run.id:
            parent.end_dead_runs(run)
            parent.take_in(run, plan.sweep_name)
        log.info("Sweep %s: %d jobs, %s", plan.sweep_name, len(plan.jobs), where)
        launch()
        status = "FINISHED" if all(job.status == "FINISHED" for job in parent.results(plan)) else "FAILED"
    except Exception:
        status = "KILLED" if exits.received() else "FAILED"
        raise
    finally:
        with exits.delay_signals():
            _end(run, plan, status, command)
    return 0 if status == "FINISHED" else 1


def _end(run: Run, plan: Plan, status: str, command: str) -> None:
    """Print and log the results of the jobs, and end the parent run."""
    jobs = parent.results(plan)
    frame = parent.table(jobs)
    console.say(f"\n{parent.show(frame)}\n")  # before logging, which may fail
    try:
        parent.finish(run, jobs, frame, command)
    finally:
        run.finish(status)
    if run.id:
        console.say(run.store.opening_instructions(run.store.sweep_address(run.id)))
