"""The jobs of a command line, from their composition to Hydra, which runs them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from omegaconf import DictConfig

from cifar_exp.config.schema import Config
from cifar_exp.config.space import Space
from cifar_exp.errors import UserError

T = TypeVar("T")

log = logging.getLogger(__name__)

_SAID_EVERY = 2.0  # seconds between two lines about the progress of the checks
_FEW = 20  # jobs that are checked in less time than that
_SWEEPER = "hydra_plugins.cifar_exp_sweeper.PlannedSweeper"
_handed_over: list[list[str]] = []


@dataclass(frozen=True)
class Plan:
    """The jobs of a command line: a single one, those of a sweep in their order, or the space of a search.

    The jobs of a search are those that were checked: together they have every choice and both ends of every range.
    """

    jobs: tuple[Config, ...]
    overrides: tuple[tuple[str, ...], ...]  # of each job
    folder: Path | None = None  # of the sweep; None for a single job
    sweep_name: str = ""
    varies: tuple[str, ...] = ()  # keys that differ between the jobs
    is_named: bool = False  # whether the user named the sweep
    launcher: DictConfig | None = None  # config of Hydra's launcher
    composed_with: tuple[str, ...] = ()  # overrides of Hydra, with which every job is composed
    is_basic: bool = False  # whether the sweeper is Hydra's default, which is replaced by one that runs these jobs
    of_the_sweep: tuple[str, ...] = ()  # overrides of sweep settings for all jobs, such as sweep.retries=2
    space: Space | None = None  # of a search
    fixed: tuple[str, ...] = ()  # overrides of a search that all of its trials have
    sweeper: DictConfig | None = None  # config of Hydra's sweeper
    run_folder: Path | None = None  # of a single job

    @property
    def count(self) -> int:
        """Number of jobs; of a search, the number of trials that is asked for."""
        wanted = self.sweeper.get("n_trials") if self.space and self.sweeper else None
        if self.space is None or not isinstance(wanted, int):
            return len(self.overrides)
        return max(1, int(min(wanted, self.space.size)))

    def check(self, check: Callable[[Config, Collection[str]], None]) -> None:
        """Check all jobs.

        Args:
            check: called with each job and the names of the jobs before it.

        Raises:
            UserError: if `check` refuses a job. In a sweep, the message begins with the job.
        """
        earlier: set[str] = set()
        for number, job in announced(self.jobs):
            try:
                check(job, earlier)
            except UserError as error:
                where = in_sweep(number, len(self.jobs), self.overrides[number - 1]) if self.folder else ""
                raise UserError(f"{where}{error}") from error
            if job.name:
                earlier.add(job.name)

    def hand_over(self) -> list[str]:
        """Make Hydra run these jobs instead of composing them again.

        Returns:
            Overrides to add to the command line of Hydra.
        """
        if not self.is_basic:  # a search adds them to each of its jobs
            return self.arguments
        _handed_over[:] = [[*job, *self.of_the_sweep, *self.arguments] for job in self.overrides]
        return [f"hydra.sweeper._target_={_SWEEPER}", *self.arguments]

    @property
    def arguments(self) -> list[str]:
        """Return the overrides that tell each job which sweep it belongs to; none for a single job."""
        if self.folder is None:
            return []
        varies = ",".join(f"'{key}'" for key in self.varies)
        return [f"sweep.name={self.sweep_name}", f"sweep.varies=[{varies}]", f"sweep.jobs={self.count}"]


def handed_over() -> list[list[str]]:
    """Return the overrides of each job of the sweep that `Plan.hand_over` has handed to Hydra."""
    return _handed_over


def announced(jobs: Sequence[T]) -> Iterator[tuple[int, T]]:
    """Yield jobs with their numbers, from 1. If there are many, log every two seconds how many have been checked."""
    said = time.monotonic()
    for number, job in enumerate(jobs, 1):
        yield number, job
        if len(jobs) > _FEW and time.monotonic() - said > _SAID_EVERY:
            said = time.monotonic()
            log.info("checked %s of %s jobs", f"{number:,}", f"{len(jobs):,}")


def in_sweep(number: int, total: int, job: Sequence[str]) -> str:
    """Format the beginning of the error message of a job of a sweep."""
    return f"job {number} of {total} ({' '.join(job)}): "
