"""Tests of the published experiments: their entries, and the runs that match them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cifar_exp.config.composition import CONF
from cifar_exp.errors import UserError
from cifar_exp.review import published, published_runner
from cifar_exp.review.published import Entry
from cifar_exp.tracking.store import Store

Log = Callable[..., str]
COPY = "/data/cifar (not the official release: it differs)"


def matched(entries: list[Entry], store: Store) -> dict[str, list[str]]:
    """Name of each entry that has runs -> their ids."""
    runs_by_name = published.match(entries, published.finished(store))
    return {name: [run.id for run in runs] for name, runs in runs_by_name.items() if runs}


def test_every_preset_is_an_entry_and_a_sweep_one_for_each_reported_setting(entries: list[Entry]) -> None:
    names = [entry.name for entry in entries]
    presets = {path.stem for path in (CONF / "experiment").glob("s[0-9]_*.yaml")}
    assert {name.partition("=")[0] for name in names} == presets
    assert len(names) == len(set(names)) == len(presets) - 3 + 5 + 4 + 2
    assert names.index("s4_model_3") < names.index("s4_model_10") < names.index("s4_model_10_15")


def test_of_a_pattern_there_are_those_that_match_and_those_that_they_start_from(by_name: dict[str, Entry]) -> None:
    assert published.entries(pattern="s1_sub*") == [by_name["s1_bn"], by_name["s1_subset"]]
    listed = [entry.name for entry in published.entries(pattern="s0_dense_units=1*")]
    assert {"s0_dense_units=16", "s0_dense_units=128"} <= set(listed) <= set(by_name)
    assert published.entries(pattern="s0_wied") == []


def test_an_entry_of_a_sweep_has_the_reported_setting_and_its_figures(by_name: dict[str, Entry]) -> None:
    gelu, wide, sgd = (by_name[n] for n in ("s0_activation=gelu", "s0_dense_units=256", "s0_optimizer=sgd"))
    assert gelu.config.model.knobs["activation"] == "gelu"
    assert (gelu.reference.accuracy, gelu.reference.loss, gelu.reference.parameters) == (0.6976, 1.1008, 122_570)
    assert (wide.config.model.knobs["dense_units"], wide.reference.parameters) == (256, 321_290)
    assert by_name["s0_dense_units=16"].reference.parameters is None
    assert (sgd.config.optimizer.name, sgd.config.optimizer.learning_rate) == ("sgd", 0.01)
    assert sgd.overrides == ("experiment=s0_optimizer", "optimizer=sgd")


def test_a_run_is_found_under_its_own_entry_alone(entries: list[Entry], own_store: Store, log: Log) -> None:
    expected = {entry.name: [log(entry.name)] for entry in entries if not entry.config.training.start_from}
    assert matched(entries, own_store) == expected


@pytest.mark.parametrize(
    "logged",
    [
        {"params": {"seed": 7, "name": "mine", "note": "said", "tracking.uri": "http://elsewhere"}},
        {"params": {"data.dir": "/data", "data.verify": "size", "training.device": "gpu"}},
        {"params": {"training.steps_per_execution": 1}},
        {"without": ("training.start_from", "training.early_stopping.monitor", "augmentation.crop")},
    ],
    ids=str,
)
def test_settings_that_change_nothing_or_are_not_logged_may_differ(
    entries: list[Entry], own_store: Store, log: Log, logged: dict[str, Any]
) -> None:
    assert matched(entries, own_store) == {}
    run = log("s0_wide", **logged)
    assert matched(entries, own_store) == {"s0_wide": [run]}


@pytest.mark.parametrize(
    "logged",
    [
        {"params": {"training.epochs": 1}},
        {"params": {"data.name": "digits"}},
        {"params": {"data.train_images": 1000}},
        {"params": {"optimizer.learning_rate": 0.01}},
        {"params": {"model.filters": [1, 2, 3]}},
        {"params": {"model.another_knob": 1}},
        {"without": ("training.epochs",)},
        {"without": ("model.filters",)},
        {"without": ("test/accuracy",)},
        {"without": ("model/parameters",)},
        {"metrics": {"model/parameters": 1_151_691}},
        {"start_from": "0" * 32},
        {"status": "KILLED"},
        {"status": "FAILED"},
        {"status": "RUNNING"},
    ],
    ids=str,
)
def test_a_run_of_other_settings_or_another_size_is_not_of_the_experiment(
    entries: list[Entry], own_store: Store, log: Log, logged: dict[str, Any]
) -> None:
    log("s0_wide", **logged)
    assert matched(entries, own_store) == {}


def test_a_run_that_goes_on_counts_only_after_a_run_of_the_experiment_it_should_go_on_from(
    entries: list[Entry], own_store: Store, log: Log
) -> None:
    short = log("s1_bn", params={"training.epochs": 1})
    for origin in (None, short, "0" * 32, "/weights.keras"):
        log("s1_subset", start_from=origin)
    assert matched(entries, own_store) == {}
    whole = log("s1_bn", params={"seed": 3})
    subset = log("s1_subset", start_from=whole, params={"training.start_from": whole})
    assert matched(entries, own_store) == {"s1_bn": [whole], "s1_subset": [subset]}


def test_a_chain_is_followed_to_its_beginning(entries: list[Entry], own_store: Store, log: Log) -> None:
    short = log("s4_model_8_adagrad", params={"training.epochs": 1})
    log("s4_model_8_adamax", start_from=log("s4_model_8_adadelta", start_from=short))
    first = log("s4_model_8_adagrad")
    second = log("s4_model_8_adadelta", start_from=first)
    third = log("s4_model_8_adamax", start_from=second)
    expected = {"s4_model_8_adagrad": [first], "s4_model_8_adadelta": [second], "s4_model_8_adamax": [third]}
    assert matched(entries, own_store) == expected


def test_experiments_that_go_on_from_each_other_match_nothing_and_are_refused(by_name: dict[str, Entry]) -> None:
    circle = [
        replace(entry, config=replace(entry.config, training=replace(entry.config.training, start_from=start)))
        for entry, start in ((by_name["s0_wide"], "s0_narrow"), (by_name["s0_narrow"], "s0_wide"))
    ]
    assert published.match(circle, []) == {"s0_wide": [], "s0_narrow": []}
    with pytest.raises(UserError, match="s0_wide, s0_narrow start from each other"):
        published_runner.sort_by_cost(circle, {"s0_wide": 1, "s0_narrow": 1})


def test_a_store_that_is_not_there_holds_nothing_and_is_not_made(tmp_path: Path) -> None:
    assert published.finished(Store(f"sqlite:///{tmp_path / 'none.db'}", "e")) == []
    assert not list(tmp_path.iterdir())


def test_listing_runs_creates_no_experiment(store: Store) -> None:
    assert published.finished(Store(store.uri, "looked for")) == []
    assert store.client.get_experiment_by_name("looked for") is None
