"""Train, sweep and find runs from Python: the command line's own checks, folders, journal and store."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from cifar_exp.errors import UserError
from cifar_exp.notebook import keywords, process
from cifar_exp.notebook.keywords import Keywords
from cifar_exp.notebook.origin import Folder, Origin, Stored
from cifar_exp.notebook.runs import Run, Runs


def train(*overrides: str, config_dir: str | os.PathLike[str] | None = None, **settings: Unpack[Keywords]) -> Run:
    """Train one model, as `python -m cifar_exp OVERRIDES` does.

    Args:
        overrides: as on the command line, without the quotes of a shell: `"data=digits"`, `"model=bn"`.
        config_dir: folder with additional choices.
        settings: settings of `training`, and seed, name, note and resume: `epochs=5`.

    Returns:
        The finished run.

    Raises:
        UserError: if the run cannot start; nothing has been trained then.
        Diverged: if the training loss is NaN or infinite.
        OutOfMemory: if an allocation fails on the machine or its GPU.
        Stopped: a KeyboardInterrupt, once the run is logged as KILLED; the same call continues it.
    """
    arguments = _arguments(overrides, settings, config_dir)
    with process.command(arguments):
        from cifar_exp import launch

        result = launch.run(launch.parser().parse_args(["--run", *arguments])).result
        assert result is not None
        return Run.of(Folder(result.folder.resolve()))


def sweep(
    *overrides: str,
    launcher: str | None = None,
    sweeper: str | None = None,
    config_dir: str | os.PathLike[str] | None = None,
    **settings: Unpack[Keywords],
) -> Runs:
    """Train all combinations of values, as `python -m cifar_exp -m OVERRIDES` does.

    A job that fails does not stop the others; its run has the status FAILED. The same call, or the same command line,
    continues a sweep that was stopped.

    Args:
        overrides: as on the command line: `"model=large,bn"`, `"optimizer=sgd,adam"`, `"sweep.name=first"`.
        launcher: `parallel` runs several jobs at once; default: one after another in this process.
        sweeper: `search` searches the ranges that the overrides give; default: every combination.
        config_dir: folder with additional choices.
        settings: as those of `train`, the same for all jobs.

    Returns:
        The runs that have begun, in the order of the jobs.

    Raises:
        UserError: if a job cannot run; nothing has been trained then.
        Stopped: a KeyboardInterrupt, once all running jobs are logged as KILLED.
    """
    chosen = {"hydra/launcher": launcher, "hydra/sweeper": sweeper}
    groups = [f"{group}={choice}" for group, choice in chosen.items() if choice]
    arguments = ["-m", *_arguments([*overrides, *groups], settings, config_dir)]
    with process.command(arguments):
        from cifar_exp import launch

        plan = launch.run(launch.parser().parse_args(arguments)).plan
        assert plan.folder is not None
        return Runs(Run.of(origin) for origin in _jobs(plan.folder.resolve(), plan.jobs[0].tracking))


def find(
    *runs: str,
    sweep: str | None = None,
    filter: str | None = None,
    uri: str | None = None,
    experiment: str | None = None,
) -> Runs:
    """Find logged runs, as `cifar-exp compare` does.

    Args:
        runs: ids, first characters of ids, or names. Without `sweep` and `filter`, all runs if none are given.
        sweep: name of a sweep, to select its jobs.
        filter: condition in MLflow's syntax, such as `metrics."val/best_accuracy" > 0.7`.
        uri: tracking store (default: $MLFLOW_TRACKING_URI, otherwise mlflow.db in the current folder).
        experiment: name of the MLflow experiment (default: $MLFLOW_EXPERIMENT_NAME, otherwise cifar10).

    Returns:
        The runs in the order given, else the most accurate first.

    Raises:
        UserError: if no run matches, or the store cannot be read.
    """
    from cifar_exp import review
    from cifar_exp.review import query

    with process.command():
        store = review.store(uri, experiment)
        selected = query.select(store, runs, sweep, filter)
        return Runs(Run.of(Stored.of(store, run)) for run in selected)


def _arguments(
    overrides: Sequence[str], settings: Mapping[str, Any], config_dir: str | os.PathLike[str] | None
) -> list[str]:
    """The command line of a call, but for -m."""
    for override in overrides:
        if not isinstance(override, str):
            raise UserError(f"{override!r}: got {type(override).__name__}, expected 'key=value', each on its own")
        if override.startswith("-"):
            raise UserError(f"{override!r}: got an option, expected 'key=value' (train is one run, sweep several)")
    options = ["--config-dir", os.fspath(config_dir)] if config_dir else []
    return [*options, *overrides, *keywords.to_overrides(settings)]


def _jobs(folder: Path, tracking: Any) -> list[Origin]:
    """Where the runs of a sweep are: in the folders of its jobs, or in the store if they ran on another machine."""
    from cifar_exp.review import query
    from cifar_exp.sweep.result import JobResult
    from cifar_exp.tracking.local_run import LocalRun
    from cifar_exp.tracking.store import Store

    store = Store.of(tracking)
    origins: list[Origin] = []
    for job in sorted((path for path in folder.iterdir() if path.name.isdigit()), key=lambda path: int(path.name)):
        if LocalRun.read(job):
            origins.append(Folder(job))
        elif (result := JobResult.read(job)) and result.run_id:
            origins.append(Stored.of(store, query.get(store, result.run_id)))
    return origins
