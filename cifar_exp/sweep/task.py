"""Jobs of a parallel sweep before they run. They are composed here, so that other machines do not need conf/."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig, open_dict

from cifar_exp.config.checks import from_content
from cifar_exp.config.loader import Loader
from cifar_exp.config.schema import Config
from cifar_exp.sweep.job import varying
from cifar_exp.training.threads import can_share_cores


class Kind(NamedTuple):
    """Settings that a process cannot change after it has run a job."""

    device: str
    deterministic: bool
    shares_cores: bool


@dataclass(frozen=True)
class Task:
    """A composed job that is to be run."""

    number: int
    """Number of the job, from 1."""
    name: str
    config: Config
    compose: Callable[[], DictConfig]
    """Composes the config with Hydra's part; ten thousand of these at once would not fit in memory."""
    folder: Path
    """Folder of the job."""
    after: frozenset[int]
    """Numbers of the jobs that must end first, because this job may start from their trained weights."""
    kind: Kind

    @property
    def title(self) -> str:
        """Beginning of the job's log lines."""
        return f"[{self.number}/{self.config.sweep.jobs}] {self.name}"


def compose(
    loader: Loader, config: DictConfig, job_overrides: Sequence[Sequence[str]], first: int, threads: int
) -> list[Task]:
    """Compose the jobs that Hydra hands to a launcher.

    Args:
        loader: config loader of Hydra.
        config: config of the sweep.
        job_overrides: overrides of each job.
        first: index of the first job, from 0.
        threads: number of threads of each job.
    """
    tasks: list[Task] = []
    names: dict[str, set[int]] = {}  # name of a run -> numbers of the jobs with this name
    for_hydra = [str(override) for override in config.hydra.overrides.hydra]
    for index, overrides in enumerate(job_overrides, first):
        checked = from_content(loader.resolve(config.hydra.job.config_name, [*for_hydra, *overrides]))
        own = [o for o in overrides if not o.startswith("sweep.")]
        name = checked.run_name(varying(own, checked.sweep.varies))
        folder = Path(config.hydra.sweep.dir, str(index)).absolute()
        after = frozenset(names.get(checked.training.start_from or "", ()))
        shares_cores = can_share_cores(checked, threads)
        kind = Kind(checked.training.device, checked.training.deterministic, shares_cores)
        composed = partial(_composed, loader, config, overrides, index)
        tasks.append(Task(index + 1, name, checked, composed, folder, after, kind))
        if checked.name:
            names.setdefault(checked.name, set()).add(index + 1)
    return tasks


def _composed(loader: Loader, config: DictConfig, overrides: Sequence[str], index: int) -> DictConfig:
    composed: DictConfig = loader.load_sweep_config(config, list(overrides))
    with open_dict(composed):
        composed.hydra.job.id = composed.hydra.job.num = index
    return composed
