"""The settings of a search, hydra.sweeper.*, checked against its space before the first trial."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cifar_exp.config.dimension import CATEGORICAL
from cifar_exp.config.space import Space
from cifar_exp.errors import UserError, did_you_mean
from cifar_exp.importing import is_installed
from cifar_exp.search.trials import MAXIMIZE, MINIMIZE

SAMPLERS = ("tpe", "gp", "cmaes", "random", "grid", "quasi_random")
HALVING, HYPERBAND, MEDIAN, NONE = "successive_halving", "hyperband", "median", "none"
PRUNERS = (HALVING, HYPERBAND, MEDIAN, NONE)
# Metrics of a run, and how they are meant. Of a metric of epochs, the best epoch counts.
OF_EPOCHS = {
    "val/accuracy": MAXIMIZE,
    "val/loss": MINIMIZE,
    "train/accuracy": MAXIMIZE,
    "train/loss": MINIMIZE,
    "train/epoch_seconds": MINIMIZE,
    "train/images_per_second": MAXIMIZE,
}
OF_RUNS = {"val/best_accuracy": MAXIMIZE, "model/parameters": MINIMIZE, "train/seconds": MINIMIZE}
NOT_IDENTIFYING = ("n_trials", "timeout", "patience", "confirm")
"""Settings that a command may change and still continue the same search."""

_METRICS = OF_EPOCHS | OF_RUNS


@dataclass(frozen=True)
class Confirm:
    """How the best trials are confirmed."""

    best: int
    """Number of trials."""
    seeds: int
    """Number of runs of each, with other seeds."""


@dataclass(frozen=True)
class Settings:
    """Checked settings of conf/hydra/sweeper/search.yaml."""

    n_trials: int
    timeout: float | None
    """Seconds; None: no limit."""
    patience: int | None
    metrics: tuple[str, ...]
    directions: tuple[str, ...]
    sampler: str
    pruner: str
    factor: int
    first_rung: int
    """Epochs."""
    seed: int
    confirm: Confirm | None
    from_sweep: str | None

    @property
    def maximizes(self) -> bool:
        """Whether the first objective is better when it is greater."""
        return self.directions[0] == MAXIMIZE


def of(values: Mapping[str, Any], space: Space) -> Settings:
    """Check the settings of a search.

    Args:
        values: of hydra.sweeper.
        space: of the search.

    Raises:
        UserError: for the first that cannot be used.
    """
    if not is_installed("optuna"):
        raise UserError("hydra/sweeper=search needs optuna: pip install 'cifar-exp[search]'")
    metrics = _metrics(values["metric"])
    settings = Settings(
        n_trials=_count(values, "n_trials", 1),
        timeout=_seconds(values["timeout"]),
        patience=None if values["patience"] is None else _count(values, "patience", 1),
        metrics=metrics,
        directions=_directions(values["direction"], metrics),
        sampler=_choice(values, "sampler", SAMPLERS),
        pruner=_pruner(values, metrics),
        factor=_count(values, "factor", 2),
        first_rung=_count(values, "first_rung", 1),
        seed=_count(values, "seed", 0),
        confirm=_confirm(values["confirm"], metrics),
        from_sweep=None if values["from_sweep"] is None else str(values["from_sweep"]),
    )
    _check_space(settings, space)
    return replace(settings, n_trials=int(min(settings.n_trials, space.size)))


def _check_space(settings: Settings, space: Space) -> None:
    size, sampler = space.size, settings.sampler
    if size == 1:
        point = " ".join(space.overrides(space.points()[0]))
        raise UserError(f"the space of the search has one point, {point}: run it without -m and hydra/sweeper=search")
    if sampler == "grid":
        if unlisted := next((dimension for dimension in space.dimensions if math.isinf(dimension.size)), None):
            raise UserError(
                f"hydra.sweeper.sampler=grid: {unlisted.key} is an interval, which has no single values; "
                f"give a list or range(START,STOP,STEP), or another sampler"
            )
    elif size <= settings.n_trials:
        raise UserError(
            f"no setting has a range, and all {size:.0f} points are fewer than hydra.sweeper.n_trials="
            f"{settings.n_trials}: it is a grid; drop hydra/sweeper=search, or ask for fewer trials"
            if all(dimension.kind == CATEGORICAL for dimension in space.dimensions)
            else f"the space has {size:.0f} points, no more than hydra.sweeper.n_trials={settings.n_trials}: it is a "
            "grid; add hydra.sweeper.sampler=grid, or ask for fewer trials"
        )
    if sampler == "cmaes":
        if all(dimension.kind == CATEGORICAL for dimension in space.dimensions):
            raise UserError("hydra.sweeper.sampler=cmaes: no setting has a range of numbers; take tpe")
        if len(settings.metrics) > 1:
            raise UserError("hydra.sweeper.sampler=cmaes: it takes one metric, got several; take tpe")
        if not is_installed("cmaes"):
            raise UserError("hydra.sweeper.sampler=cmaes needs cmaes: pip install 'cifar-exp[search]'")
    if sampler == "gp" and not is_installed("torch"):
        raise UserError("hydra.sweeper.sampler=gp needs torch: pip install 'cifar-exp[torch]'")


def _metrics(wanted: Any) -> tuple[str, ...]:
    metrics = tuple(wanted) if isinstance(wanted, list) else (wanted,)
    if not metrics:
        raise UserError("hydra.sweeper.metric: got none, expected a metric or a list of them")
    for metric in metrics:
        if str(metric).startswith("test/"):
            raise UserError(
                f"hydra.sweeper.metric={metric}: what is chosen by test images says nothing about new images; "
                "choose by val/accuracy"
            )
        if metric not in _METRICS:
            raise UserError(
                f"hydra.sweeper.metric: got {metric!r}, which no run logs; expected one of {', '.join(_METRICS)}"
                f"{did_you_mean(str(metric), _METRICS)}"
            )
    if len(set(metrics)) < len(metrics):
        raise UserError(f"hydra.sweeper.metric: {', '.join(metrics)} names one twice")
    return metrics


def _directions(wanted: Any, metrics: Sequence[str]) -> tuple[str, ...]:
    if wanted is None:
        return tuple(_METRICS[metric] for metric in metrics)
    directions = tuple(wanted) if isinstance(wanted, list) else (wanted,)
    if len(directions) != len(metrics) or not set(directions) <= {MAXIMIZE, MINIMIZE}:
        shown = ", ".join(map(str, directions))
        raise UserError(f"hydra.sweeper.direction: got {shown}, expected {MAXIMIZE} or {MINIMIZE} for each metric")
    return directions


def _pruner(values: Mapping[str, Any], metrics: Sequence[str]) -> str:
    can_prune = len(metrics) == 1 and metrics[0] in OF_EPOCHS
    if values["pruner"] is None:
        return HALVING if can_prune else NONE
    pruner = _choice(values, "pruner", PRUNERS)
    if pruner != NONE and not can_prune:
        reason = "several metrics" if len(metrics) > 1 else f"{metrics[0]}, which a run has only at its end"
        raise UserError(f"hydra.sweeper.pruner={pruner}: trials cannot be pruned by {reason}; expected {NONE}")
    return pruner


def _confirm(wanted: Any, metrics: Sequence[str]) -> Confirm | None:
    if wanted is None:
        return None
    found = re.fullmatch(r"(\d+)x(\d+)", str(wanted))
    if not found or int(found[1]) < 1 or int(found[2]) < 1:
        raise UserError(f"hydra.sweeper.confirm: got {wanted!r}, expected TRIALSxSEEDS, such as 3x5")
    if len(metrics) > 1:
        raise UserError("hydra.sweeper.confirm: with several metrics there is no best trial to confirm")
    return Confirm(int(found[1]), int(found[2]))


def _choice(values: Mapping[str, Any], name: str, known: Sequence[str]) -> str:
    value = values[name]
    if value not in known:
        nearest = did_you_mean(str(value), known)
        raise UserError(f"hydra.sweeper.{name}: got {value!r}, expected one of {', '.join(known)}{nearest}")
    return str(value)


def _count(values: Mapping[str, Any], name: str, least: int) -> int:
    value = values[name]
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"hydra.sweeper.{name}: got {value!r}, expected a whole number of at least {least}")
    return value


def _seconds(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise UserError(f"hydra.sweeper.timeout: got {value!r}, expected seconds above 0")
    return float(value)
