"""Trials of searches over a smooth landscape, made by Optuna, without any training."""

from __future__ import annotations

import math
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)

from cifar_exp.search.trials import COMPLETE, FAILED, PRUNED, RUNNING, Search, Trial, Trials

EPOCHS, RUNGS = 27, (1, 3, 9)
LONG = "an_augmentation_with_a_name_that_fills_a_whole_line_of_the_chart"
SPACE: dict[str, BaseDistribution] = {
    "optimizer.learning_rate": FloatDistribution(1e-4, 1e-1, log=True),
    "optimizer": CategoricalDistribution(("adam", "sgd")),
    "optimizer.momentum": FloatDistribution(0.0, 0.99),  # of sgd alone
    "training.batch_size": CategoricalDistribution(("32", "64", "128")),
    "model.filters.0": IntDistribution(16, 64),
    "augmentation": CategoricalDistribution(("none", "flip_crop", LONG)),
}


def search(metrics: tuple[str, ...] = ("val/accuracy",), n_trials: int = 50) -> Search:
    """A search of this space, that maximizes the first metric and minimizes the others."""
    directions = ("maximize", *("minimize" for _ in metrics[1:]))
    distributions = {key: distribution_to_json(one) for key, one in SPACE.items()}
    return Search(metrics, directions, "tpe", "successive_halving", 0, n_trials, EPOCHS, RUNGS, distributions)


def made(count: int, metrics: tuple[str, ...] = ("val/accuracy",), confirmed: int = 0) -> Trials:
    """So many random trials, pruned by their ranks; of ten or more, one failed, one diverged, the last is running."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    rows: list[Trial] = []
    for number in range(1, count + 1):
        point = _point(study.ask())
        curve = _curve(point, number)
        kept = next((rung for rung in RUNGS if _pauses(curve, rung, rows)), EPOCHS)
        state = COMPLETE if kept == EPOCHS else PRUNED
        if count >= 10 and number in (4, 7, count):
            state, kept = (RUNNING, 2) if number == count else (FAILED, 0)
        history = curve[:kept]
        cost = float(point["model.filters.0"] * 1_000 + 500)
        values = (max(history), *(cost for _ in metrics[1:])) if history else (None,) * len(metrics)
        clock = 1_700_000_000_000 + number * 60_000
        rows.append(Trial(number, state, point, values, tuple(history), kept, kept * 2.0, clock, clock + kept * 2_000))
    best = sorted((row for row in rows if row.state == COMPLETE), key=lambda row: -(row.value or 0))[:confirmed]
    rows += [
        Trial(row.trial, COMPLETE, row.params, ((row.value or 0) - 0.01 * seed,), (), EPOCHS, confirmed=True, seed=seed)
        for row in best
        for seed in (1, 2, 3)
    ]
    return Trials(search(metrics, max(50, count)), tuple(rows))


def _point(trial: optuna.Trial) -> dict[str, Any]:
    point: dict[str, Any] = {}
    for key, distribution in SPACE.items():
        if key != "optimizer.momentum" or point["optimizer"] == "sgd":
            point[key] = trial._suggest(key, distribution)
    return point


def _curve(point: dict[str, Any], number: int) -> list[float]:
    distance = math.log10(point["optimizer.learning_rate"] / 3e-3) ** 2 + 0.3 * (point["optimizer"] == "sgd")
    top = 0.8 * math.exp(-0.3 * distance) + 0.001 * point["model.filters.0"] + 0.002 * math.sin(number)
    return [round(top * (1 - math.exp(-(epoch + 2) / 6)), 4) for epoch in range(EPOCHS)]


def _pauses(curve: list[float], rung: int, rows: list[Trial]) -> bool:
    there = sorted((row.history[rung - 1] for row in rows if len(row.history) >= rung), reverse=True)
    return len(there) >= 3 and curve[rung - 1] < there[len(there) // 3]
