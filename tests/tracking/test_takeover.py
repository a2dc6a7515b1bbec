"""Tests of taking over runs that began on another machine."""

from __future__ import annotations

import getpass
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from cifar_exp.tracking import local_run, sync, takeover
from cifar_exp.tracking.journal import Journal
from cifar_exp.tracking.run import Run
from cifar_exp.tracking.run_tags import JOURNAL
from cifar_exp.tracking.store import Store


@pytest.mark.parametrize("name", ["${oc.env:HOME}", "a' AND tags.a = 'b", "../above", "", "n" * 300])
def test_a_run_that_is_named_as_no_sweep_can_be_is_not_taken_for_one(store: Store, tmp_path: Path, name: str) -> None:
    store = Store(store.uri, f"named {tmp_path.name}")

    def log(name: str) -> str:
        tags = {"cifar_exp.kind": "sweep", "cifar_exp.overrides": "seed=1,2", JOURNAL: "k", "cifar_exp.sweep": name}
        run = store.client.create_run(store.experiment_id, tags={**tags, "mlflow.user": getpass.getuser()})
        return str(run.info.run_id)

    run_id = log("mine")
    store.client.delete_run(log(name))
    log(name)
    assert (found := takeover.find_sweep_of_command(store, "seed=1,2")) is not None and found.info.run_id == run_id


def test_a_store_that_goes_away_leaves_nothing_of_a_run_that_was_being_taken_over(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Run.start(store, tmp_path / "there", "a run", {}, {}) as run:
        run.log_metrics({"test/accuracy": 0.9})
    logged = store.client.get_run(run.id)

    def away(*_: object) -> None:
        raise MlflowException("connection refused")

    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.setattr(MlflowClient, "get_metric_history", away)
    with pytest.raises(MlflowException):
        takeover.take_over(store, logged, folder)
    assert [path.name for path in folder.iterdir()] == [local_run.ADOPTED] and sync.find([folder]) == []
    local_run.check_folder(folder, "hydra.run.dir")  # the same command can go on
    monkeypatch.undo()
    takeover.take_over(store, logged, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["journal.jsonl", "sent.json"]


def test_what_a_process_killed_while_it_took_over_a_run_has_left_is_not_sent(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / local_run.ADOPTED):
        Journal(folder).close()
    assert sync.find([tmp_path]) == [tmp_path]
