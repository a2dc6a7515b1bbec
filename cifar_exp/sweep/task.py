"""A job of a parallel sweep before it runs: composed here, so that no other machine needs conf/."""

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
from cifar_exp.training import runtime


class Kind(NamedTuple):
    """What a process cannot change any more once it has run a job."""

    device: str
    deterministic: bool
    shares_cores: bool


@dataclass(frozen=True)
class Task:
    """A job to be run, composed."""

    number: int
    """From 1."""
    name: str
    config: Config
    compose: Callable[[], DictConfig]
    """Makes its config with Hydra's part: ten thousand of those at once would fill the memory."""
    folder: Path
    """Its own."""
    after: frozenset[int]
    """Numbers of the jobs whose trained weights it may go on from."""
    kind: Kind

    @property
    def title(self) -> str:
        """As its own lines begin."""
        return f"[{self.number}/{self.config.sweep.jobs}] {self.name}"


def compose(
    loader: Loader, config: DictConfig, job_overrides: Sequence[Sequence[str]], first: int, threads: int
) -> list[Task]:
    """The jobs that Hydra hands to a launcher.

    Args:
        loader: Hydra's, of configs.
        config: of the sweep.
        job_overrides: of each job.
        first: its index, from 0.
        threads: of each job.
    """
    tasks: list[Task] = []
    names: dict[str, set[int]] = {}  # that runs were given -> the jobs of them
    for_hydra = [str(override) for override in config.hydra.overrides.hydra]
    for index, overrides in enumerate(job_overrides, first):
        checked = from_content(loader.resolve(config.hydra.job.config_name, [*for_hydra, *overrides]))
        own = [o for o in overrides if not o.startswith("sweep.")]
        name = checked.run_name(varying(own, checked.sweep.varies))
        folder = Path(config.hydra.sweep.dir, str(index)).absolute()
        after = frozenset(names.get(checked.training.start_from or "", ()))
        shares_cores = runtime.can_share_cores(checked, threads)
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
