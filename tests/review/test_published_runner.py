"""Tests of running the published experiments that have no run yet, the cheapest first."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from cifar_exp.errors import UserError
from cifar_exp.review import published, published_runner
from cifar_exp.review.published import Entry
from cifar_exp.review.published_runner import Runner
from cifar_exp.tracking.store import Store

Log = Callable[..., str]
COPY = "/data/cifar (not the official release: it differs)"


def test_the_cheapest_comes_first_and_each_after_what_it_goes_on_from(by_name: dict[str, Entry]) -> None:
    names = ["s0_wide", "s4_model_8_adamax", "s4_model_8_adadelta", "s4_model_8_adagrad", "s1_subset"]
    costs = dict(zip(names, (5, 1, 2, 6, 3), strict=True))
    ordered = published_runner.sort_by_cost([by_name[name] for name in names], costs)
    assert [entry.name for entry in ordered] == [
        "s1_subset",  # the experiment it starts from is not missing
        "s0_wide",
        "s4_model_8_adagrad",
        "s4_model_8_adadelta",
        "s4_model_8_adamax",
    ]


def test_multiply_adds_are_those_of_the_layers(by_name: dict[str, Entry]) -> None:
    config = by_name["s0_one_conv"].config
    counts = published_runner.multiply_adds({"one": config.model, "wide": by_name["s0_wide"].config.model}, config)
    assert counts["one"] == (3 * 3 * 3 + 1) * 32 * 30 * 30 + (15 * 15 * 32 + 1) * 64 + (64 + 1) * 10
    assert counts["wide"] > counts["one"]


def test_an_experiment_starts_from_a_matching_run(
    entries: list[Entry], by_name: dict[str, Entry], own_store: Store, log: Log
) -> None:
    runner = Runner(entries, own_store, ["tracking.experiment=e"], ["data.verify=size"])
    assert runner.command(by_name["s1_subset"], {}) == (
        "python -m cifar_exp experiment=s1_subset data.verify=size tracking.experiment=e"
    )
    whole = log("s1_bn")
    log("s1_bn", params={"training.epochs": 1})
    runs_by_name = published.match(entries, published.finished(own_store))
    assert f" training.start_from={whole} " in runner.command(by_name["s1_subset"], runs_by_name)


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["training.epochs=1"], "training.epochs"),
        (["data=digits"], "data.name"),
        (["seed=1", "model.filters=[1,1,1]"], "model.filters"),
        (["model.layers=[Flatten,{Dense:{units:10}}]"], "model.layers"),
        (["training.start_from=s1_bn"], "training.start_from"),
        (["tracking.uri=sqlite:///other.db"], "tracking.uri"),
        (["tracking.experiment=other"], "tracking.experiment"),
    ],
)
def test_overrides_after_which_a_run_would_not_count_are_refused(
    entries: list[Entry], by_name: dict[str, Entry], own_store: Store, overrides: list[str], key: str
) -> None:
    with pytest.raises(UserError, match=f": changes {re.escape(key)} of s0_wide, so the run") as refused:
        Runner(entries, own_store, overrides=overrides).run([by_name["s0_wide"]], {})
    assert "\n" not in str(refused.value)
