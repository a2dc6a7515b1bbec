"""The settings of a search: what each bad request is told."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from cifar_exp.config import composition, overrides, space
from cifar_exp.config.space import Space
from cifar_exp.errors import UserError
from cifar_exp.search import settings
from cifar_exp.search.settings import Confirm

DEFAULTS = yaml.safe_load((composition.CONF / "hydra" / "sweeper" / "search.yaml").read_text())


def space_of(*swept: str) -> Space:
    return space.of(overrides.parse(swept, intervals=True), {}, {}, {}, None)


RANGE = space_of("optimizer.learning_rate=interval(0.1,1)", "model=a,b")


def of(where: Space = RANGE, **changed: Any) -> settings.Settings:
    return settings.of(DEFAULTS | changed, where)


def test_the_defaults_are_a_search() -> None:
    found = of()
    assert (found.sampler, found.pruner, found.metrics, found.directions) == (
        "tpe",
        "successive_halving",
        ("val/accuracy",),
        ("maximize",),
    )
    assert (found.n_trials, found.timeout, found.confirm) == (50, None, None)


def test_what_follows_from_the_metric() -> None:
    assert of(metric="val/loss").directions == ("minimize",)
    assert of(metric=["val/accuracy", "model/parameters"]).directions == ("maximize", "minimize")
    assert of(metric=["val/accuracy", "model/parameters"]).pruner == "none"
    assert of(metric="train/seconds").pruner == "none"
    assert of(metric="val/loss", direction="maximize").maximizes
    assert of(confirm="3x5").confirm == Confirm(best=3, seeds=5)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"timeout": 0}, "hydra.sweeper.timeout: got 0, expected seconds above 0"),
        ({"n_trials": 0}, "hydra.sweeper.n_trials: got 0, expected a whole number of at least 1"),
        ({"n_trials": 1.5}, "hydra.sweeper.n_trials: got 1.5, expected a whole number"),
        ({"patience": 0}, "hydra.sweeper.patience: got 0, expected a whole number of at least 1"),
        ({"factor": 1}, "hydra.sweeper.factor: got 1, expected a whole number of at least 2"),
        ({"metric": "test/accuracy"}, "hydra.sweeper.metric=test/accuracy: what is chosen by test images"),
        ({"metric": "val/acuracy"}, "got 'val/acuracy', which no run logs; .*; did you mean 'val/accuracy'"),
        ({"metric": []}, "hydra.sweeper.metric: got none"),
        ({"metric": ["val/loss", "val/loss"]}, "names one twice"),
        ({"direction": "up"}, "hydra.sweeper.direction: got up, expected maximize or minimize for each metric"),
        ({"direction": ["maximize", "minimize"]}, "expected maximize or minimize for each metric"),
        ({"sampler": "tep"}, "hydra.sweeper.sampler: got 'tep', expected one of .*; did you mean 'tpe'"),
        ({"pruner": "halving"}, "hydra.sweeper.pruner: got 'halving', expected one of successive_halving"),
        ({"pruner": "median", "metric": ["val/accuracy", "val/loss"]}, "cannot be pruned by several metrics"),
        ({"pruner": "median", "metric": "train/seconds"}, "cannot be pruned by train/seconds, which a run has only at"),
        ({"confirm": "3"}, "hydra.sweeper.confirm: got '3', expected TRIALSxSEEDS, such as 3x5"),
        ({"confirm": "0x5"}, "got '0x5', expected TRIALSxSEEDS"),
        ({"confirm": "3x5", "metric": ["val/accuracy", "val/loss"]}, "there is no best trial to confirm"),
        ({"sampler": "cmaes", "metric": ["val/accuracy", "val/loss"]}, "sampler=cmaes: it takes one metric"),
        ({"sampler": "grid"}, "sampler=grid: optimizer.learning_rate is an interval"),
    ],
)
def test_a_bad_request_is_refused_in_one_line(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        of(**changed)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("swept", "changed", "message"),
    [
        (["a=range(1,2)"], {}, "the space of the search has one point, a=1: run it without -m"),
        (["a=1,2", "b=x,y"], {}, "all 4 points are fewer than hydra.sweeper.n_trials=50: it is a grid; drop"),
        (["a=range(1,5)", "b=x,y"], {}, "the space has 8 points, no more than .*sampler=grid"),
        (["a=1,2", "b=x,y"], {"n_trials": 3, "sampler": "cmaes"}, "sampler=cmaes: no setting has a range of numbers"),
    ],
)
def test_a_space_that_is_none_is_refused(swept: list[str], changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        of(space_of(*swept), **changed)


def test_a_grid_may_be_asked_for() -> None:
    assert of(space_of("a=1,2", "b=x,y"), sampler="grid").sampler == "grid"
    assert of(space_of("a=range(1,100)"), n_trials=10).sampler == "tpe"
