"""Which trials pause, and which of them go on."""

from __future__ import annotations

import math
import pickle
from collections import Counter

import pytest

from cifar_exp.search.pruning import Pruner


def pruner(kind: str = "successive_halving", maximizes: bool = True, epochs: int = 27) -> Pruner:
    return Pruner(kind, maximizes, factor=3, first_rung=1, epochs=epochs)


def test_rungs() -> None:
    assert pruner().rungs() == (1, 3, 9)
    assert pruner(epochs=28).rungs() == (1, 3, 9, 27)
    assert pruner(epochs=1).rungs() == ()
    assert pruner("none").rungs() == ()
    assert pruner("median", epochs=4).rungs() == (1, 2, 3)
    assert pruner("hyperband").rungs(bracket=1) == (3, 9)


def test_a_trial_goes_on_if_it_is_among_the_best_at_its_rung() -> None:
    found = pruner()
    assert not found.report(1, [0.5])  # the first has no other to be compared with
    assert found.report(2, [0.4])
    assert not found.report(3, [0.6])
    assert not found.report(3, [0.6, 0.5])  # no rung
    assert not found.report(3, [0.6, 0.5, 0.5])  # the first at its rung
    assert found.report(1, [0.5, 0.5, 0.5])  # behind trial 3, whose best epoch counts


def test_a_paused_trial_is_promoted_once_it_is_among_the_best() -> None:
    found = pruner()
    for trial, value in enumerate([0.5, 0.4, 0.3, 0.2, 0.1], 1):
        found.report(trial, [value])
    paused = [2, 3, 4, 5]
    assert found.promotable(paused) is None  # 5 trials: the best one goes on
    found.report(6, [0.05])
    assert found.promotable([*paused, 6]) == 2
    found.report(2, [0.4, 0.45])
    assert found.promotable([3, 4, 5, 6]) is None


def test_the_highest_rung_is_promoted_first() -> None:
    found = pruner()
    for trial in range(1, 7):
        found.set(trial, [trial / 10] * 3)
    found.set(7, [0.9])
    found.set(8, [0.8])
    assert found.promotable([1, 2, 3, 4, 5, 6, 7, 8]) == 6
    assert found.promotable([7, 8]) == 7


def test_smaller_is_better_if_it_is_minimized_and_nan_is_worst() -> None:
    found = pruner(maximizes=False)
    assert not found.report(1, [0.5])
    assert found.report(2, [0.6])
    assert found.report(3, [math.nan])
    assert not found.report(4, [0.4])


def test_the_median_rule_lets_the_first_trials_through() -> None:
    found = pruner("median")
    for trial in range(1, 6):
        assert not found.report(trial, [trial / 10])
    assert found.report(6, [0.2])
    assert not found.report(7, [0.4])
    assert found.promotable([6]) is None


def test_hyperband_has_trials_in_every_bracket_most_where_it_prunes_early() -> None:
    found = pruner("hyperband")
    counts = Counter(found.bracket(trial) for trial in range(1, 1001))
    assert set(counts) == {0, 1, 2, 3}
    assert counts[0] > counts[1] > counts[2]
    late = next(trial for trial in range(1, 100) if found.bracket(trial) == 3)
    assert not found.report(late, [0.0])


def test_none_never_pauses() -> None:
    found = pruner("none")
    assert not any(found.report(trial, [-trial]) for trial in range(1, 20))
    assert found.promotable([1, 2]) is None


def test_it_can_be_sent_to_another_process() -> None:
    found = pruner()
    found.report(1, [0.5])
    assert pickle.loads(pickle.dumps(found)).report(2, [0.4])


@pytest.mark.parametrize("kind", ["successive_halving", "hyperband"])
def test_a_rebuilt_pruner_decides_as_the_first(kind: str) -> None:
    found, rebuilt = pruner(kind), pruner(kind)
    histories = {trial: [((trial * 7) % 11) / 11] * 3 for trial in range(1, 12)}
    for trial, history in histories.items():
        for epoch in range(1, 4):
            found.report(trial, history[:epoch])
        rebuilt.set(trial, history)
    assert [found.report(20, [0.6]), found.promotable(histories)] == [
        rebuilt.report(20, [0.6]),
        rebuilt.promotable(histories),
    ]
