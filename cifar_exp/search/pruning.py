"""Which trials go on: successive halving, Hyperband and the median rule, with nothing but the values of all trials.

Asynchronous successive halving, as in Li et al. 2020, https://arxiv.org/abs/1810.05934: at a rung a trial goes on if it
is among the best of those that have been there. Others pause, and go on from their checkpoint once they are.
"""

from __future__ import annotations

import statistics
import zlib
from collections.abc import Collection
from dataclasses import dataclass, field

from cifar_exp.search.settings import HALVING, HYPERBAND, MEDIAN, Settings

_FIRST = 5  # trials that the median rule lets through, as Optuna's does


@dataclass
class Pruner:
    """Decides after each epoch of a trial whether it pauses.

    It is asked where all workers can reach it, so it holds plain values and imports no library.
    """

    kind: str
    maximizes: bool
    factor: int
    first_rung: int
    """Epochs."""
    epochs: int
    """Of a trial that is not pruned."""
    values: dict[int, list[float]] = field(default_factory=dict)
    """Trial -> the best value so far after each epoch; greater is better."""

    @classmethod
    def of(cls, settings: Settings, epochs: int) -> Pruner:
        """The pruner of a search whose trials have this many epochs."""
        return cls(settings.pruner, settings.maximizes, settings.factor, settings.first_rung, epochs)

    def rungs(self, bracket: int = 0) -> tuple[int, ...]:
        """Epochs after which the trials of a bracket are compared."""
        if self.kind == MEDIAN:
            return tuple(range(self.first_rung, self.epochs))
        found = []
        rung = self.first_rung * self.factor**bracket
        while self.kind in (HALVING, HYPERBAND) and rung < self.epochs:
            found.append(rung)
            rung *= self.factor
        return tuple(found)

    def bracket(self, trial: int) -> int:
        """Hyperband's bracket of a trial: trials of bracket b may be pruned from rung b on. Otherwise there is one.

        Each bracket gets about the same number of epochs, so those that prune early have more trials.
        """
        if self.kind != HYPERBAND:
            return 0
        last = len(self.rungs())
        shares = [
            -(-(last + 1) * self.factor ** (last - bracket) // (last - bracket + 1)) for bracket in range(last + 1)
        ]
        place = zlib.crc32(str(trial).encode()) % sum(shares)
        for bracket, share in enumerate(shares):
            if place < share:
                return bracket
            place -= share
        raise AssertionError("the place is within the shares")

    def set(self, trial: int, history: Collection[float]) -> None:
        """Take the values of a trial after each of its epochs so far."""
        best: list[float] = []
        for value in history:
            better = value if self.maximizes else -value
            if better != better:  # nan
                better = -float("inf")
            best.append(max(better, best[-1]) if best else better)
        if len(best) >= len(self.values.get(trial, ())):
            self.values[trial] = best

    def report(self, trial: int, history: Collection[float]) -> bool:
        """Take the values of a running trial, and decide whether it pauses after its last epoch so far."""
        self.set(trial, history)
        epoch = len(history)
        if epoch not in self.rungs(self.bracket(trial)):
            return False
        if self.kind == MEDIAN:
            others = [of[epoch - 1] for other, of in self.values.items() if other != trial and len(of) >= epoch]
            return len(others) >= _FIRST and self.values[trial][epoch - 1] < statistics.median(others)
        reached = self._reached(epoch, self.bracket(trial))
        return trial not in self._best(reached, epoch, max(1, len(reached) // self.factor))

    def promotable(self, paused: Collection[int]) -> int | None:
        """The paused trial that now belongs to the best at its rung, the highest rung first; None if none does."""
        if self.kind not in (HALVING, HYPERBAND):
            return None
        places = {(len(self.values[trial]), self.bracket(trial)) for trial in paused if trial in self.values}
        for epoch, bracket in sorted(places, reverse=True):
            reached = self._reached(epoch, bracket)
            for trial in self._best(reached, epoch, len(reached) // self.factor):
                if trial in paused and len(self.values[trial]) == epoch:
                    return trial
        return None

    def _reached(self, epoch: int, bracket: int) -> list[int]:
        return [
            trial for trial, of in sorted(self.values.items()) if len(of) >= epoch and self.bracket(trial) == bracket
        ]

    def _best(self, trials: list[int], epoch: int, count: int) -> list[int]:
        """The best trials at an epoch; of equals, the earlier ones."""
        return sorted(trials, key=lambda trial: (-self.values[trial][epoch - 1], trial))[:count]
