"""Trials are read from runs; runs with tags that no trial has are none."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_settings import of as settings_of
from test_settings import space_of

from cifar_exp.search import records
from cifar_exp.tracking.run_tags import JOURNAL
from cifar_exp.tracking.store import Store

SPACE = space_of("model=baseline,bn", "optimizer.learning_rate=interval(0.1,1)")
POINT = {"model": "bn", "optimizer.learning_rate": 0.5}
TRIAL = {"cifar_exp.overrides": "model=bn optimizer.learning_rate=0.5", "cifar_exp.job": "2", "cifar_exp.trial": "1"}


@pytest.fixture
def own_store(store: Store, request: pytest.FixtureRequest) -> Store:
    """A store with a trial, and runs that anybody has logged with its tags, but for one."""
    own = Store(store.uri, request.node.nodeid)
    changed = [
        {},
        {"cifar_exp.overrides": "model='bn"},
        {"cifar_exp.job": "a"},
        {"cifar_exp.trial": "x"},
        {"cifar_exp.confirms": "9" * 4400},
    ]
    for tags in changed:
        run = own.client.create_run(own.experiment_id, tags=TRIAL | tags | {"cifar_exp.sweep": "s", JOURNAL: "a"})
        own.client.log_param(run.info.run_id, "seed", "x" if tags else "3")
        own.client.log_metric(run.info.run_id, "val/accuracy", 0.5, step=1)
        own.client.set_terminated(run.info.run_id)
    return own


def test_runs_whose_tags_are_those_of_no_trial_are_left_out(
    own_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "is_server", True)  # only a server has trials of other machines
    monkeypatch.setattr(Store, "away", lambda store: None)
    (row,) = records.read(tmp_path, own_store, "s", SPACE, settings_of(SPACE))
    assert (row.trial, row.job, row.seed, row.state, row.params, row.value) == (1, 2, 3, "complete", POINT, 0.5)


def test_of_an_earlier_sweep_such_runs_are_points_if_their_overrides_are(own_store: Store, tmp_path: Path) -> None:
    found = records.of_sweep(tmp_path, own_store, "s", SPACE, settings_of(SPACE))
    assert [(row.trial, row.job, row.params) for row in found] == [(-number, 0, POINT) for number in range(4)]
