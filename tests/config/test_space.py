"""The space of a search: Hydra's grammar, the section `search` of an experiment, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cifar_exp.config import composition, overrides, space
from cifar_exp.config.dimension import CATEGORICAL, FLOAT, INT, Dimension
from cifar_exp.config.plan import Plan
from cifar_exp.config.space import Space
from cifar_exp.errors import UserError

RATE = "optimizer.learning_rate"
SEARCH = "hydra/sweeper=search"


def of(*swept: str, section: Mapping[str, Any] | None = None, **fixed: str) -> Space:
    return space.of(overrides.parse(swept, intervals=True), section or {}, fixed, {"model": "baseline"}, None)


def one(swept: str) -> Dimension:
    (dimension,) = of(swept).dimensions
    return dimension


@pytest.mark.parametrize(
    ("swept", "expected"),
    [
        ("a=interval(1,3)", Dimension("a", FLOAT, low=1, high=3)),
        ("a=tag(log,interval(1e-4,1e-1))", Dimension("a", FLOAT, low=1e-4, high=1e-1, log=True)),
        ("a=int(interval(16,64))", Dimension("a", INT, low=16, high=64)),
        ("a=tag(log,int(interval(16,64)))", Dimension("a", INT, low=16, high=64, log=True)),
        ("a=range(1,10,2)", Dimension("a", INT, low=1, high=9, step=2)),
        ("a=range(5,1,-2)", Dimension("a", INT, low=3, high=5, step=2)),
        ("a=range(0.1,0.5,0.1)", Dimension("a", FLOAT, low=0.1, high=0.4, step=0.1)),
        ("a=range(0,0.95,0.3)", Dimension("a", FLOAT, low=0, high=0.9, step=0.3)),
        ("a=choice(32,64)", Dimension("a", CATEGORICAL, ("32", "64"))),
        ("a=x,null,[3,4],true", Dimension("a", CATEGORICAL, ("x", "null", "[3,4]", "True"))),
        ("+b.0=1,1,2", Dimension("+b.0", CATEGORICAL, ("1", "2"))),
    ],
)
def test_hydras_grammar_makes_dimensions(swept: str, expected: Dimension) -> None:
    found = one(swept)
    assert (found.key, found.kind, found.choices, found.log) == (
        expected.key,
        expected.kind,
        expected.choices,
        expected.log,
    )
    assert (found.low, found.high, found.step or 0) == pytest.approx((expected.low, expected.high, expected.step or 0))


def test_a_glob_lists_the_choices_of_a_group() -> None:
    plan = composition.plan(["model=glob(b*)", SEARCH, f"{RATE}=interval(0.1,0.2)"], multirun=True)
    assert plan.space is not None
    assert {"baseline", "bn"} <= set(plan.space.dimensions[0].choices)


@pytest.mark.parametrize(
    ("swept", "message"),
    [
        ("a=interval(3,1)", r"a=interval\(3,1\): got 3 to 1, expected a smaller and a greater number"),
        ("a=interval(1,1)", "got 1 to 1"),
        ("a=tag(log,interval(0,1))", "got 0 on a logarithmic scale, expected a number above 0"),
        ("a=tag(lgo,interval(1,2))", "got the tag 'lgo', expected log"),
        ("a=tag(lgo,choice(1,2))", "got the tag 'lgo', expected log"),
        ("a=tag(log,range(1,9))", "a range has equal steps"),
        ("a=range(5,1)", "holds no value"),
    ],
)
def test_a_range_that_is_none_is_refused(swept: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        of(swept)


def test_values_fit_into_overrides_and_can_be_read_back() -> None:
    found = of("a=tag(log,interval(1e-5,1e-1))", "b=int(interval(2,9))", "c=x,y")
    point = {"a": found.dimensions[0].fit(0.000123456789), "b": found.dimensions[1].fit(3.0), "c": "y"}
    assert found.overrides(point) == ("a=0.00012346", "b=3", "c=y")
    texts = dict(override.split("=") for override in found.overrides(point))
    assert found.point(texts) == point
    assert found.point(texts | {"c": "z"}) is None
    assert of("a=range(0,0.95,0.3)").point({"a": "0.8999999999999999"}) == {"a": 0.8999999999999999}
    assert of("a=range(0,0.95,0.3)").point({"a": "0.5"}) is None
    assert found.point(texts | {"b": "20"}) is None
    assert found.dimensions[0].fit(0.09999999) == 0.1 == found.dimensions[0].high


def test_sizes_and_points() -> None:
    assert math.isinf(of("a=interval(0,1)", "b=1,2").size)
    grid = of("a=range(1,4)", "b=x,y")
    assert grid.size == 6
    assert [grid.overrides(point) for point in grid.points()][:3] == [("a=1", "b=x"), ("a=1", "b=y"), ("a=2", "b=x")]


def test_a_conditional_space_is_counted_without_listing_it() -> None:
    conditions = {
        "optimizer": ["sgd", "adam"],
        "momentum": {"values": [0, 0.9], "when": {"optimizer": "sgd"}},
        "nesterov": {"values": ["true", "false"], "when": {"momentum": 0.9}},
        "beta": {"values": "range(0,5)", "when": {"optimizer": "adam"}},
    }
    small = of("a=range(0,3)", section=conditions)
    assert small.size == len(small.points()) == 3 * (1 + 2 + 5)
    assert of(*(f"k{number}=int(interval(1,1000))" for number in range(9)), section=conditions).size == 1000**9 * 8
    assert math.isinf(of(section=conditions | {"rate": {"values": "interval(0,1)", "when": {"momentum": 0.9}}}).size)


CONDITIONAL = {
    "optimizer.momentum": {"values": "interval(0.5,0.9)", "when": {"optimizer": "sgd"}},
    "optimizer": ["sgd", "adam"],
    RATE: "tag(log,interval(1e-4,1e-1))",
}


def test_a_section_has_conditions() -> None:
    found = of(section=CONDITIONAL)
    assert found.keys == ("optimizer", "optimizer.momentum", RATE)
    assert found.is_conditional
    with_momentum = {"optimizer": "sgd", RATE: 0.1, "optimizer.momentum": 0.5}
    assert found.overrides(with_momentum)[1] == "optimizer.momentum=0.5"
    texts = {"optimizer": "adam", RATE: "0.1", "optimizer.momentum": "0.5"}
    assert found.point(texts) == {"optimizer": "adam", RATE: 0.1}
    checked = found.checked_points()
    assert len(checked) == 6  # two rates with adam; with sgd, two momentums as well
    assert {"optimizer": "adam", RATE: 1e-4} in checked


def test_overrides_win_over_a_section() -> None:
    assert of(section=CONDITIONAL, optimizer="sgd").keys == ("optimizer.momentum", RATE)
    assert not of(section=CONDITIONAL, optimizer="sgd").is_conditional
    assert of(section=CONDITIONAL, optimizer="adam").keys == (RATE,)
    assert of("optimizer=sgd,nadam", section=CONDITIONAL).dimensions[0].choices == ("sgd", "nadam")
    assert of(section={"a": {"values": [1, 2], "when": {"model": "baseline"}}}).dimensions[0].when == {}
    assert of(section={"a": {"values": [1, 2], "when": {"model": "bn"}}}).dimensions == ()


@pytest.mark.parametrize(
    ("values", "choices"),
    [
        (["sgd", "adam"], ("sgd", "adam")),
        ([None, 1.0], ("null", "1.0")),
        (["x,y", "a (b)"], ("'x,y'", "'a (b)'")),
        (["true", True], ("'true'", "True")),
        ([[1, 2], [3]], ("[1,2]", "[3]")),
        (["alone"], ("alone",)),
    ],
)
def test_a_list_of_a_section_holds_its_values(values: list[Any], choices: tuple[str, ...]) -> None:
    (dimension,) = of(section={"a": values}).dimensions
    assert dimension.choices == choices


@pytest.mark.parametrize("given", ["training.whiten=false", "training.whiten=False", "training.whiten='x y'"])
def test_a_condition_is_met_however_the_value_is_spelled(given: str) -> None:
    (override,) = overrides.parse([given])
    value = override.value()
    wanted = {"training.whiten": value if isinstance(value, bool) else "x y"}
    section = {"a": {"values": [1, 2], "when": wanted}}
    assert of(section=section, **{"training.whiten": override.get_value_element_as_str()}).keys == ("a",)
    chosen = of("training.whiten=true,false,'x y'", section=section)
    assert len(chosen.points()) == 4


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"a": 3}, "search.a: got 3, expected interval"),
        ({"a": "3"}, "search.a: got '3', expected several values"),
        ({"a": {"value": [1, 2]}}, "search.a: got 'value', expected values and when"),
        ({"a": {"values": [1, 2], "when": "sgd"}}, "search.a.when: got 'sgd', expected a mapping"),
        ({"a": {"values": [1, 2], "when": {"b": 1}}}, "search.a.when: b is not chosen by the search"),
        ({"a": {"values": [1, 2], "when": {"b": 3}}, "b": [1, 2]}, "search.a.when: b is never 3, it is one of 1, 2"),
        (
            {"a": {"values": [1, 2], "when": {"b": 1}}, "b": {"values": [1, 2], "when": {"a": 1}}},
            "search.a.when: the conditions form a circle",
        ),
    ],
)
def test_a_section_that_makes_no_space_is_refused(section: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        of(section=section)


def plan(*arguments: str, config_dir: Path | None = None) -> Plan:
    return composition.plan([SEARCH, *arguments], multirun=True, config_dir=str(config_dir) if config_dir else None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([f"{RATE}=interval(-1,1)"], f"a trial with {RATE}=-1.0 cannot run: {RATE}: got -1.0, expected above 0"),
        (["model=baseline,bm", f"{RATE}=interval(0.1,1)"], "model 'bm' not found; did you mean 'bn'"),
        (
            ["model=baseline,bn", "model.filters.0=int(interval(8,16))"],
            "a trial with model=bn model.filters.0=8 cannot",
        ),
        (["training.batch_size=32"], "no setting has several values; give a range"),
        (["sweep.retries=1,2", f"{RATE}=interval(0.1,1)"], "it is set for the whole search"),
        (["+search={sweep.name:[a,b]}"], "search.sweep.name: it is set for the whole search"),
        (["trainin.epochs=int(interval(1,3))"], "trainin.epochs: no such setting; did you mean 'training.epochs'"),
    ],
)
def test_every_choice_and_both_ends_are_checked_before_the_first_trial(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError) as refused:
        plan(*arguments)
    assert message in str(refused.value)


def test_a_large_space_is_checked_by_its_parts() -> None:
    found = of(*(f"k{number}=int(interval(1,9))" for number in range(10)))
    checked = found.checked_points()
    assert len(checked) <= 40
    for key in found.keys:
        assert {point[key] for point in checked} == {1, 9}


def test_an_interval_needs_a_search() -> None:
    with pytest.raises(UserError, match="hydra/sweeper=search makes it a search"):
        composition.plan([f"{RATE}=interval(0.1,1)"], multirun=True)
    with pytest.raises(UserError, match="hydra/sweeper=search: several trials are a sweep: add -m"):
        composition.plan([SEARCH, f"{RATE}=interval(0.1,1)"], multirun=False)


def test_an_experiment_has_a_search_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\nsearch:\n  optimizer: [sgd, adam]\n"
        "  optimizer.momentum: {values: 'interval(0.5,0.9)', when: {optimizer: sgd}}\n"
    )
    planned = plan("experiment=mine", "training.epochs=2", config_dir=tmp_path)
    assert planned.space is not None
    assert planned.space.keys == ("optimizer", "optimizer.momentum")
    assert planned.fixed == ("experiment=mine", "training.epochs=2")
    assert [job[2:] for job in planned.overrides] == [
        ("optimizer=sgd", "optimizer.momentum=0.5"),
        ("optimizer=sgd", "optimizer.momentum=0.9"),
        ("optimizer=adam",),
    ]
    alone = composition.plan(["experiment=mine"], multirun=False, config_dir=str(tmp_path))
    assert len(alone.jobs) == 1
