"""The task that Hydra runs for every job, in whatever process its launcher chose."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from cifar_exp import console, exits
from cifar_exp.config.checks import from_composed
from cifar_exp.config.schema import Config
from cifar_exp.errors import Diverged, OutOfMemory, UserError
from cifar_exp.experiment import experiment, resume
from cifar_exp.sweep import requeue
from cifar_exp.tracking import local_run, sync
from cifar_exp.tracking.local_run import LocalRun
from cifar_exp.tracking.store import Store

log = logging.getLogger(__name__)

RESULT = "result.json"


@dataclass(frozen=True)
class JobResult:
    """How a job of a sweep ended; in its folder as result.json, where the sweep finds it whatever ran it."""

    name: str
    status: str
    seconds: float
    run_id: str | None = None
    metrics: dict[str, float] | None = None
    history: dict[str, list[float]] | None = None
    error: str | None = None

    @classmethod
    def read(cls, folder: Path) -> JobResult | None:
        """None for a job that never ended."""
        path = folder / RESULT
        try:
            return cls(**json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            log.warning("%s is damaged and not used: %s", path, error)
            return None

    def write(self, folder: Path) -> None:
        """Whole or not at all."""
        part = folder / f"{RESULT}.part"
        part.write_text(json.dumps(asdict(self)))
        part.rename(folder / RESULT)


def varying(overrides: Sequence[str], varies: Sequence[str]) -> dict[str, str]:
    """What the sweep varies -> its value in the job of these overrides."""
    values = dict(override.lstrip("+").split("=", 1) for override in overrides if "=" in override)
    return {key: values[key] for key in varies if key in values}


def run(composed: DictConfig, in_order: bool = True) -> None:
    """Run one job.

    In a sweep a job that fails is recorded and does not raise: the others go on.

    Args:
        composed: its config.
        in_order: whether the jobs before it have ended. Where they run beside it, whoever starts them heeds
            `sweep.fail_fast`.
    """
    console.set_up()
    hydra = HydraConfig.get()
    if hydra.job.chdir:  # paths are relative to where the command was started, those of a store too
        os.chdir(hydra.runtime.cwd)
    config = from_composed(composed)
    overrides = tuple(o for o in hydra.overrides.task if not o.startswith("sweep."))
    folder = Path(hydra.runtime.output_dir)
    if config.sweep.name is None:
        done = experiment.run(config, experiment.Job(overrides), folder)
        if done.run_id:
            store = Store.of(config.tracking)
            try:
                console.say(store.how_to_open(store.run_address(done.run_id)))
            except UserError as error:  # the server has gone away since
                log.warning("Run %s has no address to show: %s", done.run_id, error)
        return
    job = experiment.Job(overrides, int(hydra.job.num) + 1, varying(overrides, config.sweep.varies))
    with requeue.once_stopped():
        _run_job(config, job, folder, in_order)


def _run_job(config: Config, job: experiment.Job, folder: Path, in_order: bool) -> None:
    """Of a sweep: it leaves its result in its folder."""
    name, began = config.run_name(job.varying), time.monotonic()
    if config.resume == "auto" and _has_finished(config, folder):
        log.info("[%d/%d] %s  has finished before", job.number, config.sweep.jobs, name)
        return
    if in_order and config.sweep.fail_fast and (failed := _failed_before(job.number, folder)):
        log.info("[%d/%d] %s  is not started: job %d failed", job.number, config.sweep.jobs, name, failed)
        return
    started = time.time_ns() // 1_000_000
    try:
        _train(config, job, folder).write(folder)
    except BaseException:
        with exits.held():
            left, run_id = LocalRun.read(folder), experiment.run_id(folder)
            if left and left.status == local_run.FINISHED and left.ended >= started:  # it had ended already
                replace(_of_journal(folder), run_id=run_id).write(folder)
            else:
                JobResult(name, "KILLED", time.monotonic() - began, run_id).write(folder)
        raise


def _train(config: Config, job: experiment.Job, folder: Path) -> JobResult:
    """Train it, and try again what failed otherwise than the time before."""
    name, began, before = config.run_name(job.varying), time.monotonic(), None
    for left in reversed(range(config.sweep.retries + 1)):
        try:
            done = experiment.run(config, job, folder)
            return JobResult(name, "FINISHED", done.seconds, done.run_id, done.metrics, done.history)
        except Exception as error:
            if exits.received():  # what was interrupted has made this of it
                raise KeyboardInterrupt from error
            certain = isinstance(error, UserError | Diverged)
            plain = certain or isinstance(error, OutOfMemory)
            reason = " ".join((str(error) if plain else f"{type(error).__name__}: {error}").split())
            final = certain or reason == before or not left
            before = reason
            again = "" if final else "; it is tried again"
            log.error("[%s/%d] %s  FAILED: %s%s", job.number, config.sweep.jobs, name, reason, again)
            if final:
                break
    return JobResult(name, "FAILED", time.monotonic() - began, experiment.run_id(folder), error=before)


def _failed_before(number: int | None, folder: Path) -> int | None:
    """The first job before this one that failed."""
    for earlier in range(1, number or 1):
        left = JobResult.read(folder.parent / str(earlier - 1))
        if left and left.status == "FAILED":
            return earlier
    return None


def _has_finished(config: Config, folder: Path) -> bool:
    """Whether this very job left its result here; what its store has not taken yet is then sent."""
    if not resume.is_finished(config, folder):
        return False
    sync.send(folder)
    left = JobResult.read(folder) or _of_journal(folder)
    replace(left, run_id=experiment.run_id(folder)).write(folder)
    return True


def _of_journal(folder: Path) -> JobResult:
    """Of a finished job whose process was killed before it could leave its result."""
    run, metrics = LocalRun.read(folder), local_run.metrics(folder)
    assert run is not None
    last = {name: steps[0] for name, steps in metrics.items() if list(steps) == [0]}
    history = {name: list(steps.values()) for name, steps in metrics.items() if 1 in steps and "system/" not in name}
    return JobResult(run.name, local_run.FINISHED, (run.ended - run.began) / 1000, metrics=last, history=history)
