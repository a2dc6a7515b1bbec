"""hydra/launcher=parallel: run as many jobs of a sweep at once as fit on this machine or a Ray cluster."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, setup_globals
from omegaconf import DictConfig, OmegaConf

from cifar_exp.config.schema import Config
from cifar_exp.errors import UserError
from cifar_exp.importing import is_installed
from cifar_exp.sweep import cluster, job, task
from cifar_exp.sweep.resources import Settings
from cifar_exp.sweep.result import JobResult
from cifar_exp.sweep.source import Listed, Source

_TARGET = "hydra_plugins.cifar_exp_launcher.ParallelLauncher"


def chosen(launcher: DictConfig | None) -> Settings | None:
    """Check whether the chosen launcher can run here, and the settings of the parallel one.

    Args:
        launcher: config of the launcher that was chosen.

    Returns:
        The checked settings; None for another launcher.

    Raises:
        UserError: if a setting is invalid, Ray is not installed, or this is no machine of a Slurm cluster.
    """
    if launcher is not None and str(launcher.get("_target_")).endswith(".SlurmLauncher") and not shutil.which("srun"):
        raise UserError(
            "hydra/launcher=slurm: there is no srun here: start the sweep on a machine of the Slurm cluster, or take "
            "hydra/launcher=parallel"
        )
    if launcher is None or launcher.get("_target_") != _TARGET:
        return None
    if not is_installed("ray"):
        raise UserError("hydra/launcher=parallel needs ray: pip install 'cifar-exp[parallel]'")
    values: Any = OmegaConf.to_container(launcher, resolve=True)
    return Settings.of(values)


def is_basic(launcher: DictConfig | None) -> bool:
    """Whether a launcher is Hydra's default, which runs the jobs one after another in this process."""
    return launcher is None or str(launcher.get("_target_")).endswith(".BasicLauncher")


def launch(
    settings: Mapping[str, Any], loader: Any, config: DictConfig, job_overrides: Sequence[Sequence[str]], first: int
) -> list[JobReturn]:
    """Run the jobs that Hydra hands over, and return when all have ended; what has finished before needs no worker.

    Args:
        settings: values of conf/hydra/launcher/parallel.yaml.
        loader: config loader of Hydra.
        config: config of the sweep.
        job_overrides: overrides of each job.
        first: index of the first job, from 0.
    """
    setup_globals()
    checked = Settings.of(settings)
    tasks = task.compose(loader, config, job_overrides, first, checked.threads)
    results: dict[int, JobResult | None] = {
        each.number: before for each in tasks if (before := job.finished_before(each.config, each.folder, each.title))
    }
    left = [replace(each, after=each.after - results.keys()) for each in tasks if each.number not in results]
    if left:
        results |= run(checked, Listed(left), [each.config for each in left])
    returns = []
    for overrides, each in zip(job_overrides, tasks, strict=True):
        job_return = JobReturn(overrides, status=JobStatus.COMPLETED)
        job_return.return_value = results.get(each.number)
        returns.append(job_return)
    return returns


def run(settings: Settings, source: Source, configs: Sequence[Config]) -> dict[int, JobResult | None]:
    """Run the jobs of a source on Ray's workers.

    Args:
        settings: of the launcher.
        source: gives the jobs.
        configs: of all jobs, or of some that use the same data and stores as all.

    Returns:
        Number of a job -> its result; None for a job that was stopped before it began.
    """
    with cluster.connected(settings, configs) as place:
        from cifar_exp.sweep import pool  # imports Ray, which reads its environment variables on import

        return pool.Pool(settings, place, source).run()
