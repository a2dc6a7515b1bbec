"""Run a search: check its settings, rebuild what is known, hand its trials to Hydra's launcher, say what was found."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import setup_globals
from omegaconf import DictConfig, OmegaConf

from cifar_exp.config.plan import Plan
from cifar_exp.errors import UserError
from cifar_exp.search import records, settings, trials
from cifar_exp.search.driver import Driver, Job
from cifar_exp.search.outcome import Outcome
from cifar_exp.search.settings import Settings
from cifar_exp.sweep import launcher as parallel
from cifar_exp.sweep import run as sweep
from cifar_exp.sweep import task
from cifar_exp.sweep.result import JobResult
from cifar_exp.sweep.task import Task
from cifar_exp.tracking.delivery import ARTIFACTS
from cifar_exp.tracking.store import Store

_running: list[Driver] = []  # Hydra creates the sweeper and calls it with the overrides alone


def check(plan: Plan) -> Settings:
    """Check the settings of a planned search.

    Raises:
        UserError: for the first that cannot be used, and for a launcher that cannot run a search.
    """
    assert plan.space is not None and plan.sweeper is not None
    values: Any = OmegaConf.to_container(plan.sweeper, resolve=True)
    checked = settings.of(values, plan.space)
    if checked.confirm and "seed" in plan.space.keys:
        raise UserError("hydra.sweeper.confirm: the search chooses seed, so the best trials have no other seeds")
    if not parallel.is_basic(plan.launcher) and parallel.chosen(plan.launcher) is None:
        raise UserError(
            "hydra/sweeper=search: it runs with hydra/launcher=basic or parallel, not with another launcher"
        )
    return checked


def identity(arguments: Sequence[str]) -> str:
    """What a command must have in common with another one to continue its search: everything but its limits."""
    ignored = tuple(f"hydra.sweeper.{name}=" for name in settings.NOT_IDENTIFYING)
    return shlex.join(argument for argument in arguments if not argument.lstrip("+").startswith(ignored))


def run(plan: Plan, checked: Settings, launch: Callable[[], object], arguments: Sequence[str]) -> int:
    """Run a search under one parent run.

    Args:
        plan: of the search.
        checked: its settings.
        launch: lets Hydra call the sweeper.
        arguments: of the command line.

    Returns:
        Exit code: 0 if a trial was completed, else 1.

    Raises:
        UserError: if what is known of the search does not fit it.
        KeyboardInterrupt: after the results so far are logged.
    """
    assert plan.folder is not None and plan.space is not None
    driver = Driver(plan, checked)
    store, folder, space = Store.of(plan.jobs[0].tracking), plan.folder, plan.space
    earlier = []
    if checked.from_sweep:
        earlier = records.of_sweep(folder.parent, store, checked.from_sweep, space, checked)

    def go_on() -> None:  # once the parent run has its folder: what is there then belongs to this store
        resumes = plan.jobs[0].resume == "auto"
        rows = records.read(folder, store, plan.sweep_name, space, checked) if resumes else []
        driver.rebuild(rows, earlier)
        driver.on_change(lambda found: found.write(folder / ARTIFACTS / trials.FILE))
        driver.trials.write(folder / ARTIFACTS / trials.FILE)
        if not driver.is_finished():
            launch()

    _running[:] = [driver]
    try:
        return sweep.run(plan, go_on, shlex.join(arguments), Outcome(plan, driver), identity(arguments))
    finally:
        _running.clear()


def ask(number: int, trial: int, history: list[float]) -> bool:
    """Whether the search in this process, if there is one, pauses a trial here."""
    return bool(_running) and _running[0].ask(number, trial, history)


def choose(launcher: Any, loader: Any, config: DictConfig) -> None:
    """Run trials with Hydra's launcher until the search ends.

    Args:
        launcher: of Hydra.
        loader: config loader of Hydra.
        config: config of the search.
    """
    (driver,) = _running
    folder = Path(config.hydra.sweep.dir)
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(config, folder / "multirun.yaml")
    chosen = parallel.chosen(config.hydra.launcher)
    overrides: dict[int, Sequence[str]] = {}

    def compose(job: Job) -> Task:
        overrides[job.number] = job.overrides
        threads = chosen.threads if chosen else 1
        (composed,) = task.compose(loader, config, [job.overrides], job.number - 1, threads)
        return composed

    driver.compose = compose
    setup_globals()
    if chosen:
        parallel.run(chosen, driver, driver.configs)
        return
    while (next_task := driver.next(None)) is not None:
        number = next_task.number
        try:
            launcher.launch([overrides[number]], initial_job_idx=number - 1)
        except KeyboardInterrupt:
            driver.clear()
            raise
        finally:
            driver.ended(next_task, JobResult.read(next_task.folder))
