"""The task that Hydra runs for every job, in the process that its launcher chose."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from cifar_exp import console, exits
from cifar_exp.config.checks import from_composed
from cifar_exp.config.schema import Config, TrialConfig
from cifar_exp.errors import Diverged, Pruned, UserError, described
from cifar_exp.experiment import experiment, resume
from cifar_exp.sweep import messages, requeue
from cifar_exp.sweep.result import JobResult, from_journal
from cifar_exp.tracking import addresses, experiment_note, local_run, sync
from cifar_exp.tracking.local_run import LocalRun
from cifar_exp.tracking.store import Store

log = logging.getLogger(__name__)

# number of the job, number of the trial, its objective after each epoch so far -> whether it pauses there
Ask = Callable[[int, int, list[float]], bool]


def varying(overrides: Sequence[str], varies: Sequence[str]) -> dict[str, str]:
    """Select the overrides that the sweep varies.

    Args:
        overrides: of the job.
        varies: keys that the sweep varies.

    Returns:
        Key -> value in this job.
    """
    values = dict(override.lstrip("+").split("=", 1) for override in overrides if "=" in override)
    return {key: values[key] for key in varies if key in values}


def run(composed: DictConfig, in_order: bool = True, ask: Ask | None = None) -> experiment.Result | None:
    """Run one job.

    A failed job of a sweep records its error and does not raise, so that the other jobs run.

    Args:
        composed: config of the job.
        in_order: whether all earlier jobs have ended. If jobs run in parallel, `sweep.fail_fast` is left to the code
            that starts them.
        ask: of a trial, whether a search pauses it.

    Returns:
        The result of a job that belongs to no sweep; the others write theirs to their folder.
    """
    console.set_up()
    hydra = HydraConfig.get()
    if hydra.job.chdir:  # all paths, including that of the store, are relative to where the command was started
        os.chdir(hydra.runtime.cwd)
    config = from_composed(composed)
    overrides = tuple(o for o in hydra.overrides.task if not o.startswith("sweep."))
    folder = Path(hydra.runtime.output_dir)
    if config.sweep.name is None:
        return _run_alone(config, experiment.Job(overrides), folder)
    number = int(hydra.job.num) + 1
    pauses = _pauses(config.sweep.trial, number, ask) if ask else None
    job = experiment.Job(overrides, number, varying(overrides, config.sweep.varies), pauses=pauses)
    with requeue.once_stopped():
        _run_job(config, job, folder, in_order)
    return None


def _run_alone(config: Config, job: experiment.Job, folder: Path) -> experiment.Result:
    """Run a job that belongs to no sweep, and show where it can be looked at."""
    name, began = config.run_name({}), time.monotonic()
    try:
        result = experiment.run(config, job, folder)
    except Exception as error:
        if not exits.received():  # else it was stopped, and other code replaced the KeyboardInterrupt
            seconds, run_id = time.monotonic() - began, experiment.run_id(folder)
            messages.about_run(config, JobResult(name, "FAILED", seconds, run_id, error=described(error)), folder)
        raise
    messages.about_run(config, _finished(result), folder)
    if result.run_id:
        store = Store.of(config.tracking)
        experiment_note.update(store)
        try:
            console.say(addresses.how_to_open(store, addresses.run_page(store, result.run_id)))
        except UserError as error:  # the server went away meanwhile
            log.warning("Run %s has no address to show: %s", result.run_id, error)
    return result


def _finished(result: experiment.Result) -> JobResult:
    measured = (result.seconds, result.run_id, result.metrics, result.history)
    return JobResult(result.name, "FINISHED", *measured, collapsed=result.collapsed)


def _pauses(trial: TrialConfig, job: int, ask: Ask) -> Callable[[int, dict[str, list[float]]], bool] | None:
    """What a training asks after each epoch; None if it is no trial, or has no metric to compare it by."""
    number, metric = trial.number, trial.metric
    if number is None or metric is None:
        return None
    return lambda epoch, history: ask(job, number, history[metric][:epoch]) and epoch > trial.released


def _run_job(config: Config, job: experiment.Job, folder: Path, in_order: bool) -> None:
    """Run a job of a sweep and write its result to its folder."""
    name, began = config.run_name(job.varying), time.monotonic()
    if finished_before(config, folder, f"[{job.number}/{config.sweep.jobs}] {name}"):
        return
    if in_order and config.sweep.fail_fast and (failed := _failed_before(job.number, folder)):
        log.info("[%d/%d] %s  is not started: job %d failed", job.number, config.sweep.jobs, name, failed)
        return
    started = time.time_ns() // 1_000_000
    try:
        result = _train(config, job, folder)
        result.write(folder)
    except BaseException:
        with exits.delay_signals():
            local, run_id = LocalRun.read(folder), experiment.run_id(folder)
            if local and local.status == local_run.FINISHED and local.ended >= started:  # interrupted after its end
                replace(from_journal(folder), run_id=run_id).write(folder)
            else:
                JobResult(name, "KILLED", time.monotonic() - began, run_id).write(folder)
        raise
    if in_order:
        messages.about_run(config, result, folder)


def _train(config: Config, job: experiment.Job, folder: Path) -> JobResult:
    """Run the job, and retry it up to `sweep.retries` times unless it would certainly fail in the same way."""
    name, began, last_reason = config.run_name(job.varying), time.monotonic(), None
    for retries_left in reversed(range(config.sweep.retries + 1)):
        try:
            return _finished(experiment.run(config, job, folder))
        except Pruned:
            return replace(from_journal(folder), run_id=experiment.run_id(folder))
        except Exception as error:
            if exits.received():  # other code replaced the KeyboardInterrupt by this exception
                raise KeyboardInterrupt from error
            permanent, reason = isinstance(error, UserError | Diverged), described(error)
            final = permanent or reason == last_reason or not retries_left
            last_reason = reason
            again = "" if final else "; it is tried again"
            log.error("[%s/%d] %s  FAILED: %s%s", job.number, config.sweep.jobs, name, reason, again)
            if final:
                break
    return JobResult(name, "FAILED", time.monotonic() - began, experiment.run_id(folder), error=last_reason)


def _failed_before(number: int | None, folder: Path) -> int | None:
    """Number of the first failed job before this one, if any."""
    for earlier in range(1, number or 1):
        result = JobResult.read(folder.parent / str(earlier - 1))
        if result and result.status == "FAILED":
            return earlier
    return None


def finished_before(config: Config, folder: Path, title: str) -> JobResult | None:
    """Return the result of the same job if it has finished before; send its remaining events.

    Args:
        config: of the job.
        folder: of the job.
        title: beginning of the line that says so.
    """
    if config.resume != "auto" or not resume.is_finished(config, folder):
        return None
    sync.send(folder)
    result = replace(from_journal(folder), run_id=experiment.run_id(folder))
    result.write(folder)
    log.info("%s  has finished before", title)
    return result
