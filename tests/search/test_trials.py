from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution, distribution_to_json

from cifar_exp.search.trials import Search, Trial, Trials, read, to_study

RATE, MODEL, FILTERS = "optimizer.learning_rate", "model", "model.filters.0"
SEARCH = Search(
    metrics=("val/accuracy",),
    directions=("maximize",),
    sampler="tpe",
    pruner="successive_halving",
    seed=0,
    n_trials=6,
    epochs=9,
    rungs=(1, 3),
    distributions={
        RATE: distribution_to_json(FloatDistribution(1e-4, 1e-1, log=True)),
        MODEL: distribution_to_json(CategoricalDistribution(["baseline", "bn"])),
        FILTERS: distribution_to_json(IntDistribution(16, 64)),
    },
)
ROWS = (
    Trial(
        1, "complete", {RATE: 0.01, MODEL: "baseline", FILTERS: 32}, (0.8,), (0.5, 0.8), 9, 4.0, 1000, 5000, "a", "x"
    ),
    Trial(2, "pruned", {RATE: 0.001, MODEL: "bn"}, (0.4,), (0.4,), 1, 1.0, 2000, 3000, "b", "y", attributes={"c": "d"}),
    Trial(3, "failed", {RATE: 0.1, MODEL: "bn"}, (None,), (), 0, 1.0, 2000, 3000),
    Trial(4, "failed", {RATE: 0.09, MODEL: "bn"}, (0.1,), (0.1, float("nan")), 1, 1.0, 2000, 3000, diverged=True),
    Trial(5, "running", {RATE: 0.02, MODEL: "bn"}, (0.3,), (0.3,), 1, 1.0, 2000, 3000),
    Trial(6, "interrupted", {RATE: 0.03, MODEL: "bn"}, (None,), (), 0, 1.0, 2000, 3000),
    Trial(
        1, "complete", {RATE: 0.01, MODEL: "baseline", FILTERS: 32}, (0.7,), (0.7,), 9, job=7, confirmed=True, seed=1
    ),
)


def test_trials_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "search" / "trials.parquet"
    Trials(SEARCH, ROWS).write(path)
    again = read(path)
    assert again.search == SEARCH
    assert repr(again.rows) == repr(ROWS)  # nan differs from itself
    assert [found.name for found in path.parent.iterdir()] == ["trials.parquet"]


def test_another_file_is_no_search(tmp_path: Path) -> None:
    import pandas as pd

    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="does not hold the trials of a search"):
        read(tmp_path / "a.parquet")


def test_the_study_has_every_trial_in_its_state(tmp_path: Path) -> None:
    study = to_study(Trials(SEARCH, ROWS))
    states = optuna.trial.TrialState
    assert [trial.state for trial in study.trials] == [
        states.COMPLETE,
        states.PRUNED,
        states.FAIL,
        states.PRUNED,  # diverged: samplers avoid it
        states.RUNNING,
        states.RUNNING,
    ]
    assert study.best_value == 0.8
    assert study.best_params == {RATE: 0.01, MODEL: "baseline", FILTERS: 32}
    assert study.trials[1].intermediate_values == {1: 0.4}
    assert study.trials[1].system_attrs == {"c": "d"}
    assert FILTERS not in study.trials[1].params
    assert study.ask().number == 6


def test_a_study_of_several_objectives_has_a_front() -> None:
    from dataclasses import replace

    search = replace(SEARCH, metrics=("val/accuracy", "model/parameters"), directions=("maximize", "minimize"))
    rows = [
        Trial(1, "complete", {RATE: 0.01, MODEL: "bn"}, (0.8, 1000.0)),
        Trial(2, "complete", {RATE: 0.01, MODEL: "bn"}, (0.7, 500.0)),
        Trial(3, "complete", {RATE: 0.01, MODEL: "bn"}, (0.7, 900.0)),
    ]
    assert [trial.number for trial in to_study(Trials(search, tuple(rows))).best_trials] == [0, 1]
