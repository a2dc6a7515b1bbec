import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution, distribution_to_json

from cifar_exp.search import trials
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


def forged(path: Path, search: dict[str, Any] | None = None, rows: int = 1, **columns: Any) -> Path:
    """A file of the first trial, repeated, with other metadata of the search, or other values in a column."""
    Trials(SEARCH, ROWS[:1]).write(path)
    table = pq.read_table(path).take(pa.array(np.zeros(rows, np.int32)))
    for name, value in columns.items():
        table = table.set_column(table.schema.get_field_index(name), name, pa.array([value] * rows))
    metadata = {b"cifar_exp.search": json.dumps(asdict(SEARCH) | (search or {})).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    return path


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("search", "columns", "message"),
    [
        ({"n_trials": "x"}, {}, "not described by texts and whole numbers"),
        ({"rungs": ["a"]}, {}, "not described by texts and whole numbers"),
        ({"directions": ["up"]}, {}, "got the directions"),
        ({"directions": []}, {}, "got the directions"),
        ({"metrics": [], "directions": []}, {}, "got the directions"),
        ({"distributions": {RATE: DEEP}}, {}, "more than 40 levels"),
        ({}, {"attributes": DEEP}, "more than 40 levels"),
        ({}, {"state": "<b>complete</b>"}, "no state of a trial"),
        ({}, {"name": None}, "its column 'name' is null, expected string"),
        ({}, {"trial": "1"}, "its column 'trial' is string, expected int64"),
        ({}, {"attributes": pa.scalar(None, pa.string())}, "row of trial 1 is not complete"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(
    tmp_path: Path, search: dict[str, Any], columns: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read(forged(tmp_path / "a.parquet", search, **columns))


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        (400_000, {}, "values; at most 5,000,000 are read"),
        (100, {"values": [0.5] * 60_000}, "it holds 6,00.,... values"),
        (100, {"name": "x" * 50_000}, "it holds more than 1 MB"),
    ],
)
def test_a_small_file_that_expands_to_gigabytes_is_refused(
    tmp_path: Path, rows: int, columns: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "_MAX_BYTES", 1 << 20)
    path = forged(tmp_path / "a.parquet", rows=rows, **columns)
    assert path.stat().st_size < 1_000_000
    with pytest.raises(ValueError, match=message):
        read(path)


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
    search = replace(SEARCH, metrics=("val/accuracy", "model/parameters"), directions=("maximize", "minimize"))
    rows = [
        Trial(1, "complete", {RATE: 0.01, MODEL: "bn"}, (0.8, 1000.0)),
        Trial(2, "complete", {RATE: 0.01, MODEL: "bn"}, (0.7, 500.0)),
        Trial(3, "complete", {RATE: 0.01, MODEL: "bn"}, (0.7, 900.0)),
    ]
    assert [trial.number for trial in to_study(Trials(search, tuple(rows))).best_trials] == [0, 1]
