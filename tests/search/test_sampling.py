"""Points of a space: the same ones with the same seed, whatever was interrupted, and all within the space."""

from __future__ import annotations

import math

import pytest
from test_settings import of as settings_of

from cifar_exp.config import overrides, space
from cifar_exp.config.space import Space
from cifar_exp.search import sampling
from cifar_exp.search.settings import Settings
from cifar_exp.search.trials import Search, Trial, Trials

RATE = "optimizer.learning_rate"


def space_of(*swept: str, **section: object) -> Space:
    return space.of(overrides.parse(swept, intervals=True), section, {}, {}, None)


SPACE = space_of(f"{RATE}=tag(log,interval(1e-4,1e-1))", "model=baseline,bn", "filters=int(interval(8,64))")


def score(row: Trial) -> float:
    return -abs(math.log10(float(row.params[RATE])) + 2) - (row.params["model"] == "bn")


def found(where: Space, settings: Settings, rows: tuple[Trial, ...]) -> Trials:
    search = Search(
        settings.metrics, settings.directions, "tpe", "none", settings.seed, 9, 9, (), sampling.distributions(where)
    )
    return Trials(search, rows)


def searched(settings: Settings, count: int, rows: tuple[Trial, ...] = (), where: Space = SPACE) -> tuple[Trial, ...]:
    """Rows of so many trials, the given ones first, each complete before the next is asked for."""
    for number in range(len(rows) + 1, count + 1):
        asked = sampling.ask(where, settings, found(where, settings, rows), number)
        assert asked is not None
        row = Trial(number, "complete", asked[0], (0.0,), attributes=asked[1])
        value = score(row) if where is SPACE else float(number % 3)
        rows = (*rows, Trial(number, "complete", asked[0], (value,), (value,), 1, attributes=asked[1]))
    return rows


@pytest.mark.parametrize("sampler", ["tpe", "random", "quasi_random", "cmaes", "gp"])
def test_the_same_seed_gives_the_same_trials_also_after_an_interruption(sampler: str) -> None:
    if sampler == "gp":
        pytest.importorskip("torch", reason="sampler=gp needs torch: pip install 'cifar-exp[torch]'")
    settings = settings_of(sampler=sampler, seed=1)
    whole = searched(settings, 13)
    assert searched(settings, 13, whole[:6]) == whole
    assert searched(settings_of(sampler=sampler, seed=2), 3) != whole[:3]
    assert len({tuple(row.params.items()) for row in whole}) == 13
    for row in whole:
        texts = dict(override.split("=") for override in SPACE.overrides(row.params))
        assert SPACE.point(texts) == row.params


def test_tpe_learns() -> None:
    rows = searched(settings_of(), 40)
    assert sum(map(score, rows[20:])) > sum(map(score, rows[:20]))


def test_a_grid_is_seen_once_and_then_ends() -> None:
    grid = space_of("a=range(1,4)", "b=x,y")
    settings = settings_of(grid, sampler="grid")
    rows = searched(settings, 6, where=grid)
    assert len({tuple(row.params.items()) for row in rows}) == 6
    assert sampling.ask(grid, settings, found(grid, settings, rows), 7) is None
    other = space_of("a=range(1,4)", "b=x,z")
    assert {row.params["b"] for row in searched(settings_of(other, sampler="grid"), 6, where=other)} == {"x", "z"}


def test_the_points_of_a_grid_are_listed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    listed, points = [], Space.points
    monkeypatch.setattr(Space, "points", lambda space: listed.append(space) or points(space))
    grid = space_of("a=range(10,14)", a={"values": [1]}, b={"values": [1, 2], "when": {"c": "x"}}, c=["x", "y"])
    settings = settings_of(grid, sampler="grid")
    listed.clear()
    assert len(searched(settings, 12, where=grid)) == 12
    assert listed == [grid]


def test_the_upper_end_of_a_range_of_floats_is_drawn() -> None:
    where = space_of("a=range(0,0.95,0.3)")
    settings = settings_of(where, n_trials=2)
    rows = searched(settings, 4, where=where)
    assert sorted(row.params["a"] for row in rows) == [0, 0.3, 0.6, 0.9]
    assert sampling.ask(where, settings, found(where, settings, rows), 5) is None


@pytest.mark.parametrize("sampler", ["tpe", "random", "quasi_random"])
def test_no_point_is_tried_twice(sampler: str) -> None:
    where = space_of("model=baseline,bn,large", "training.batch_size=choice(16,32,64,128)")
    settings = settings_of(sampler=sampler, n_trials=11)
    rows = searched(settings, 12, where=where)
    assert len({tuple(row.params.items()) for row in rows}) == 12
    assert sampling.ask(where, settings, found(where, settings, rows), 13) is None


def test_a_condition_holds_in_every_trial() -> None:
    conditional = space_of(
        f"{RATE}=interval(0.1,1)",
        optimizer=["sgd", "adam"],
        momentum={"values": "interval(0.5,0.9)", "when": {"optimizer": "sgd"}},
    )
    for sampler in ("tpe", "random", "quasi_random"):
        rows = searched(settings_of(conditional, sampler=sampler), 16, where=conditional)
        assert all(("momentum" in row.params) == (row.params["optimizer"] == "sgd") for row in rows)
        assert {row.params["optimizer"] for row in rows} == {"sgd", "adam"}


def test_running_trials_are_known_to_the_sampler() -> None:
    """Two workers that ask at once get different points, although nothing has ended in between."""
    grid = space_of("a=range(1,200)", "b=x,y")
    settings = settings_of(grid)
    rows = searched(settings, 12, where=grid)
    for number in range(13, 19):
        asked = sampling.ask(grid, settings, found(grid, settings, rows), number)
        assert asked is not None
        rows = (*rows, Trial(number, "running", asked[0], (None,)))
    assert len({tuple(row.params.items()) for row in rows[12:]}) == 6


def test_quasi_random_points_cover_every_part() -> None:
    rows = searched(settings_of(sampler="quasi_random"), 16)
    quarters = {math.floor((math.log10(float(row.params[RATE])) + 4) / 3 * 4) for row in rows}
    assert quarters == {0, 1, 2, 3}
    assert {row.params["model"] for row in rows} == {"baseline", "bn"}
