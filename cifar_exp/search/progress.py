"""What a search says while it runs, and at its end."""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Sequence

from cifar_exp import console
from cifar_exp.config.space import Space
from cifar_exp.errors import counted
from cifar_exp.search import confirming
from cifar_exp.search.settings import Settings
from cifar_exp.search.trials import COMPLETE, FAILED, PRUNED, RUNNING, Trial, Trials, undominated

log = logging.getLogger(__name__)


class Progress:
    """Words for a search.

    Args:
        settings: of the search.
        epochs: of a trial that is not pruned.
        began: when this command began, as `time.monotonic` tells.
    """

    def __init__(self, settings: Settings, epochs: int, began: float) -> None:
        self._settings, self._epochs, self._began = settings, epochs, began
        self._ended_before: int | None = None
        self._said: set[str] = set()

    def say_once(self, text: str) -> None:
        """Log a line, unless it has been logged."""
        if text not in self._said:
            self._said.add(text)
            log.info("%s", text)

    def best(self, trials: Trials) -> Trial | None:
        """The best trial: by the mean over other seeds once the best of the search is confirmed.

        Of several objectives, the first decides.
        """
        first, found = next(iter(confirming.ranked(trials)), None), confirming.confirmed(trials)
        return found[0].trial if any(one.trial is first for one in found) else first

    def line(self, trials: Trials, space: Space) -> str:
        """Best trial so far with its settings, numbers of trials, epochs used and saved, time left."""
        rows = [row for row in trials.rows if not row.confirmed and row.trial > 0]
        confirming_rows = [row for row in trials.rows if row.confirmed]
        ended = [row for row in rows if row.state in (COMPLETE, PRUNED, FAILED)]
        states = [row.state for row in rows]
        parts = [self._best_so_far(trials, space)]
        counts = f"{len(ended)} of {self._settings.n_trials} trials done"
        for state in (RUNNING, PRUNED, FAILED):
            counts += f", {states.count(state)} {state}" if state in states else ""
        parts.append(counts)
        trained = [row for row in ended if row.state != FAILED]  # a failed trial saves nothing
        used, full = sum(row.epochs for row in trained), self._epochs * len(trained)
        if full:
            parts.append(counted(used, "epoch") + (f", {1 - used / full:.0%} saved" if used < full else ""))
        if confirming_rows:
            done = sum(row.state == COMPLETE for row in confirming_rows)
            confirm = self._settings.confirm
            of = f" of {confirm.best * confirm.seeds}" if confirm else ""
            parts.append(f"{done}{of} runs confirm the best")
        elif (left := self._seconds_left(len(ended))) is not None:
            parts.append(f"{console.clock(left)} left")
        return "Search: " + "; ".join(parts)

    def conclusion(self, trials: Trials, space: Space, fixed: Sequence[str]) -> list[str]:
        """What was found, and the command that runs it."""
        best = self.best(trials)
        if best is None:
            failed = [row for row in trials.rows if row.state == FAILED]
            if failed and len(failed) == len([row for row in trials.rows if not row.confirmed and row.trial > 0]):
                return [f"All {len(failed)} trials failed: there is no best one. The first lines above say why"]
            return ["No trial has finished: there is no best one yet"]
        if len(self._settings.metrics) > 1:
            return self._front(trials, space, fixed)
        metric = self._settings.metrics[0]
        lines = list(confirming.luck(trials))
        lines.append(f"The best is trial {best.trial}, {metric} {best.value:.4f}: {_command(best, space, fixed)}")
        return lines

    def _front(self, trials: Trials, space: Space, fixed: Sequence[str]) -> list[str]:
        rows = undominated(trials.search, confirming.ranked(trials))
        lines = [f"No trial is better in every metric than these {len(rows)}:"]
        for row in rows:
            values = zip(self._settings.metrics, row.values, strict=True)
            shown = ", ".join(f"{metric} {_number(value)}" for metric, value in values)
            lines.append(f"trial {row.trial}, {shown}: {_command(row, space, fixed)}")
        return lines

    def _best_so_far(self, trials: Trials, space: Space) -> str:
        best = self.best(trials)
        if best is None:
            return "no trial has finished yet"
        settings = ", ".join(f"{key.rpartition('.')[2]}={best.params[key]}" for key in space.keys if key in best.params)
        metric = self._settings.metrics[0]
        return f"best {metric} {_number(best.value)}, trial {best.trial} ({settings})"

    def _seconds_left(self, ended: int) -> float | None:
        passed = time.monotonic() - self._began
        if self._ended_before is None:
            self._ended_before = ended - 1
        new = ended - self._ended_before
        estimates = []
        if new > 0:
            estimates.append(max(0, self._settings.n_trials - ended) * passed / new)
        if self._settings.timeout is not None:
            estimates.append(max(0.0, self._settings.timeout - passed))
        return min(estimates, default=None)


def _command(row: Trial, space: Space, fixed: Sequence[str]) -> str:
    return f"python -m cifar_exp {shlex.join([*fixed, *space.overrides(row.params)])}"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4f}"
