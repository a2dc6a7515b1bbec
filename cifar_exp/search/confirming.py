"""The best trials again with other seeds: the best of many single runs is partly luck."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cifar_exp.errors import counted
from cifar_exp.search.trials import COMPLETE, INTERRUPTED, Trial, Trials

if TYPE_CHECKING:
    from cifar_exp.search.settings import Confirm

BLANK: dict[str, Any] = {
    **{"state": INTERRUPTED, "values": (None,), "history": (), "epochs": 0, "seconds": 0.0, "started": 0, "ended": 0},
    **{"run_id": None, "name": "", "diverged": False, "attributes": {}},
}
"""What a run that confirms a trial does not take from it."""


@dataclass(frozen=True)
class Confirmed:
    """A trial and its results with other seeds."""

    trial: Trial
    values: tuple[float, ...]
    """Value of the objective for each other seed."""

    @property
    def mean(self) -> float:
        """Mean over the other seeds; the run of the search, which was chosen for its value, does not count."""
        return float(statistics.fmean(self.values))

    @property
    def error(self) -> float:
        """Standard error of the mean; nan for one seed."""
        if len(self.values) < 2:
            return float("nan")
        return float(statistics.stdev(self.values)) / math.sqrt(len(self.values))

    def __str__(self) -> str:
        """The mean, with its standard error if there is one."""
        return f"{self.mean:.4f}" + (f" ± {self.error:.4f} (standard error)" if len(self.values) > 1 else "")

    @property
    def seeds(self) -> str:
        """Number of other seeds in words."""
        return counted(len(self.values), "other seed")


def ranked(trials: Trials) -> list[Trial]:
    """Complete trials of the search, the best first; of equals, the earlier."""
    complete = [row for row in trials.rows if row.state == COMPLETE and not row.confirmed and row.trial > 0]
    return sorted(complete, key=lambda row: (-trials.search.score(row.value or 0.0), row.trial))


def missing(trials: Trials, confirm: Confirm, seed: int) -> list[tuple[Trial, int]]:
    """Pairs of a trial and a seed that have not been run, the best trial first.

    Args:
        trials: all of the search, with the runs that confirm some.
        confirm: how many trials, and seeds of each.
        seed: of the trials of the search, which is not used again.
    """
    known = {(row.trial, row.seed) for row in trials.rows if row.confirmed}
    wanted = [(row, seed + number) for row in ranked(trials)[: confirm.best] for number in range(1, confirm.seeds + 1)]
    return [(row, other) for row, other in wanted if (row.trial, other) not in known]


def confirmed(trials: Trials) -> list[Confirmed]:
    """The trials that were confirmed, the best mean first."""
    values: dict[int, list[float]] = {}
    for row in trials.rows:
        if row.confirmed and row.state == COMPLETE and row.value is not None and math.isfinite(row.value):
            values.setdefault(row.trial, []).append(row.value)
    found = [Confirmed(row, tuple(values[row.trial])) for row in ranked(trials) if row.trial in values]
    return sorted(found, key=lambda one: (-trials.search.score(one.mean), one.trial.trial))


def luck(trials: Trials) -> Sequence[str]:
    """What the confirmation says, a sentence each; none unless the best trial of the search was confirmed."""
    found, chosen = confirmed(trials), next(iter(ranked(trials)), None)
    first = next((one for one in found if one.trial is chosen), None)
    if first is None:
        return ()
    search, best = trials.search, found[0]
    gap = search.score(first.trial.value or 0.0) - search.score(first.mean)
    said = (
        f"Trial {first.trial.trial} had the best {search.metrics[0]} of the search, {first.trial.value:.4f}; with "
        f"{first.seeds} its mean is {first}: " + (f"{gap:.4f} of it was luck" if gap > 0 else "no luck")
    )
    if best is first:
        return (said, f"It remains the best of the {len(found)} that were confirmed")
    return (said, f"Of the {len(found)} that were confirmed, trial {best.trial.trial} is the best: {best}")
