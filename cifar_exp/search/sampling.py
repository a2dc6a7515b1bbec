"""What to try next: a point of the space, from all trials so far.

Every point is asked of a study that is made from the trials, with a seed that follows from the number of the trial. So
a search that was interrupted goes on as if it had not been.
"""

from __future__ import annotations

import math
import random
import warnings
import zlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any

from cifar_exp.config.dimension import CATEGORICAL, INT, Dimension, Point, Value
from cifar_exp.config.space import Space
from cifar_exp.search import trials as data
from cifar_exp.search.settings import Settings
from cifar_exp.search.trials import Trials

if TYPE_CHECKING:
    import optuna

_STARTUP = 10  # random trials before a sampler learns from them
_DRAWS = 40  # of a point, until it is one that was not tried: with the same seed it would be the same training


def distributions(space: Space) -> dict[str, str]:
    """Optuna's distribution of each dimension, as JSON."""
    from optuna.distributions import distribution_to_json

    return {dimension.key: distribution_to_json(_distribution(dimension)) for dimension in space.dimensions}


def ask(space: Space, settings: Settings, trials: Trials, number: int) -> tuple[Point, Mapping[str, Any]] | None:
    """Choose the point of a new trial.

    Args:
        space: of the search.
        settings: of the search.
        trials: all trials so far; the sampler avoids the points of those that are running.
        number: of the new trial, from 1.

    Returns:
        The point, and what the sampler stores with the trial. None if every point of the space was tried.
    """
    if settings.sampler == "grid":
        points = _shuffled_points(space, settings.seed)
        return (points[number - 1], {}) if number <= len(points) else None
    known = [row.params for row in trials.rows if not row.confirmed]
    with warnings.catch_warnings():
        # Optuna warns of experimental samplers and of fallbacks, SciPy of numbers that are no power of two.
        warnings.simplefilter("ignore")
        if settings.sampler == "quasi_random":
            drawn = _quasi_random(space, settings.seed, number)
        else:
            drawn = _suggested(space, settings, trials, number)
        for point, attributes in islice(drawn, _DRAWS):
            if point not in known:
                return point, attributes
    if math.isinf(space.size):
        return point, attributes
    untried = (one for one in _shuffled_points(space, settings.seed) if one not in known)
    return (left, {}) if (left := next(untried, None)) is not None else None


def _suggested(
    space: Space, settings: Settings, trials: Trials, number: int
) -> Iterator[tuple[Point, Mapping[str, Any]]]:
    """Points of Optuna's sampler; it takes each for that of a running trial, which samplers avoid."""
    study = data.to_study(trials)
    study.sampler = _sampler(settings, space, number)
    while True:
        trial = study.ask()
        point: dict[str, Value] = {}
        for dimension in space.dimensions:
            if dimension.exists(point):
                point[dimension.key] = dimension.fit(_suggest(trial, dimension))
        stored = study.get_trials(deepcopy=False)[-1].system_attrs if settings.sampler == "cmaes" else {}
        yield point, dict(stored)


def _sampler(settings: Settings, space: Space, number: int) -> optuna.samplers.BaseSampler:
    from optuna import samplers

    seed = zlib.crc32(f"{settings.seed} {number}".encode())
    if settings.sampler == "random":
        return samplers.RandomSampler(seed)
    if settings.sampler == "gp":
        return samplers.GPSampler(seed=seed, n_startup_trials=_STARTUP, deterministic_objective=False)
    if settings.sampler == "cmaes":
        independent = samplers.RandomSampler(seed)
        return samplers.CmaEsSampler(seed=seed, independent_sampler=independent, warn_independent_sampling=False)
    return samplers.TPESampler(
        seed=seed,
        n_startup_trials=_STARTUP,
        multivariate=True,
        group=space.is_conditional,
        constant_liar=True,
        warn_independent_sampling=False,
    )


def _suggest(trial: optuna.Trial, dimension: Dimension) -> Value:
    key, low, high = dimension.key, dimension.low, dimension.high
    if dimension.kind == CATEGORICAL:
        return str(trial.suggest_categorical(key, dimension.choices))
    if dimension.kind == INT:
        return trial.suggest_int(key, int(low), int(high), step=int(dimension.step or 1), log=dimension.log)
    return trial.suggest_float(key, low, high, step=dimension.step, log=dimension.log)


def _distribution(dimension: Dimension) -> optuna.distributions.BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if dimension.kind == CATEGORICAL:
        return CategoricalDistribution(dimension.choices)
    if dimension.kind == INT:
        return IntDistribution(int(dimension.low), int(dimension.high), dimension.log, int(dimension.step or 1))
    return FloatDistribution(dimension.low, dimension.high, dimension.log, dimension.step)


@lru_cache(maxsize=1)  # of the running search, which asks for every trial
def _shuffled_points(space: Space, seed: int) -> list[Point]:
    """All points in random order, so that a grid that is cut short has seen all of its parts."""
    points = space.points()
    random.Random(seed).shuffle(points)
    return points


def _quasi_random(space: Space, seed: int, number: int) -> Iterator[tuple[Point, Mapping[str, Any]]]:
    """A scrambled Sobol sequence over all dimensions, each cut into parts of equal size, from point `number` on."""
    import numpy as np
    from scipy.stats import qmc

    sequence = qmc.Sobol(len(space.dimensions), rng=np.random.default_rng(seed))
    if number > 1:
        sequence.fast_forward(number - 1)
    while True:
        (shares,) = sequence.random(1)
        point: dict[str, Value] = {}
        for dimension, share in zip(space.dimensions, shares, strict=True):
            if dimension.exists(point):
                point[dimension.key] = _at(dimension, float(share))
        yield point, {}


def _at(dimension: Dimension, share: float) -> Value:
    """The value at a share in [0, 1) of a dimension."""
    if dimension.kind == CATEGORICAL or dimension.step:
        values = dimension.values()
        return values[int(share * len(values))]
    low, high = float(dimension.low), float(dimension.high)
    if dimension.kind == INT:
        low, high = low - 0.5, high + 0.5
    value = low * (high / low) ** share if dimension.log else low + share * (high - low)
    if dimension.kind == INT:
        return min(max(round(value), int(dimension.low)), int(dimension.high))
    return dimension.fit(value)
