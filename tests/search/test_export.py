"""Tests of cifar-exp study: the study of a search in a storage of Optuna."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import made_trials
import optuna
import pytest
from optuna.trial import TrialState

from cifar_exp import cli
from cifar_exp.errors import UserError
from cifar_exp.search import export, finding, trials
from cifar_exp.search.trials import COMPLETE, PRUNED, Trials
from cifar_exp.tracking.store import Store

METRICS = ("val/accuracy", "model/parameters")


def load(url: str, name: str = "s") -> optuna.Study:
    return optuna.load_study(study_name=name, storage=url)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'study.db'}"


@pytest.fixture
def own_store(store: Store, request: pytest.FixtureRequest) -> Store:
    """A store with an experiment that only this test uses."""
    return Store(store.uri, request.node.nodeid)


@pytest.fixture
def searched(own_store: Store, tmp_path: Path) -> tuple[Store, Trials]:
    """A store with the parent run of a search, and one of an ordinary sweep."""
    made = made_trials.made(20)
    client = own_store.client
    for name in ("s", "plain"):
        tags = {"cifar_exp.kind": "sweep", "cifar_exp.sweep": name}
        run = client.create_run(own_store.experiment_id, run_name=name, tags=tags)
        if name == "s":
            made.write(tmp_path / trials.FILE)
            client.log_artifact(run.info.run_id, str(tmp_path / trials.FILE), "search")
    return own_store, made


@pytest.mark.parametrize("metrics", [METRICS[:1], METRICS])
def test_optuna_reads_back_every_trial(url: str, metrics: tuple[str, ...]) -> None:
    made = made_trials.made(20, metrics)
    assert export.export(made, "s", url)
    study = load(url)
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"][: len(metrics)]
    assert study.metric_names == list(metrics)
    states = {COMPLETE: TrialState.COMPLETE, PRUNED: TrialState.PRUNED}
    for row, trial in zip(made.rows, study.trials, strict=True):
        assert trial.params == row.params and trial.user_attrs["trial"] == row.trial
        assert list(trial.intermediate_values.values()) == list(row.history)
        if row.state in states:
            assert trial.state == states[row.state]
        if row.state == COMPLETE:
            assert tuple(trial.values) == row.values


def test_an_export_again_changes_nothing_and_a_longer_search_takes_its_place(url: str) -> None:
    made = made_trials.made(20)
    assert export.export(replace_rows(made, 12), "s", url)
    assert not export.export(replace_rows(made, 12), "s", url)
    load(url).set_user_attr("note", "kept")
    storage = optuna.storages.RDBStorage(url)
    storage.set_study_system_attr(storage.get_study_id_from_name("s"), "dashboard:note:0", "kept as well")
    assert export.export(made, "s", url)
    assert len(load(url).trials) == 20 and load(url).user_attrs["note"] == "kept"
    of_system = storage.get_study_system_attrs(storage.get_study_id_from_name("s"))
    assert of_system["dashboard:note:0"] == "kept as well" and load(url).metric_names == ["val/accuracy"]


def replace_rows(made: Trials, count: int) -> Trials:
    return replace(made, rows=made.rows[:count])


def test_a_study_with_other_trials_is_not_overwritten(url: str) -> None:
    study = optuna.create_study(storage=url, study_name="s", direction="maximize")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    with pytest.raises(UserError, match=r"has a study 's', and 3 of its trials are not of this search"):
        export.export(made_trials.made(5), "s", url)
    assert len(load(url).trials) == 3 and "x" in load(url).trials[0].params


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("study.db", "expected an address of Optuna, such as sqlite:///study.db"),
        ("sqlite:////nowhere/at/all/study.db", "unable to open database file"),
        ("postgresql://localhost/study", "psycopg"),
    ],
)
def test_a_storage_that_cannot_be_used_is_refused(address: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        export.export(made_trials.made(3), "s", address)


def test_the_command_exports_what_the_store_has(
    searched: tuple[Store, Trials], url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own, made = searched
    monkeypatch.setattr(
        sys, "argv", ["cifar-exp", "study", "s", "--storage", url, "--uri", own.uri, "--experiment", own.experiment]
    )
    assert cli.main() == 0
    assert f"{url} has the study s of 20 trials" in capsys.readouterr().out
    assert len(load(url).trials) == len(made.rows)


def test_a_search_is_found_by_its_name_alone(searched: tuple[Store, Trials], tmp_path: Path) -> None:
    own, made = searched
    assert finding.by_name(own, "s", tmp_path) == made
    assert finding.if_search(own, "plain", tmp_path) is None and finding.if_search(own, "none", tmp_path) is None
    with pytest.raises(UserError, match="sweep 'plain' is not a search"):
        finding.by_name(own, "plain", tmp_path)
    with pytest.raises(UserError, match=r"no search 'plane' .*did you mean 'plain'"):
        finding.by_name(own, "plane", tmp_path)
    with pytest.raises(UserError, match=r"no search \"it's\""):
        finding.by_name(own, "it's", tmp_path)


def written(folder: Path, **changed: Any) -> bytes:
    """A file of one trial that is not as a search makes it."""
    made = made_trials.made(1)
    replace(made, rows=(replace(made.rows[0], **changed),)).write(folder / "made")
    return (folder / "made").read_bytes()


@pytest.mark.parametrize("changed", [{}, {"params": {"model.filters.0": 999}}, {"values": ()}])
def test_a_file_of_anything_else_is_refused_in_one_line(
    own_store: Store, tmp_path: Path, changed: dict[str, Any]
) -> None:
    client = own_store.client
    tags = {"cifar_exp.kind": "sweep", "cifar_exp.sweep": "s"}
    run = client.create_run(own_store.experiment_id, tags=tags)
    path = tmp_path / trials.FILE
    path.parent.mkdir()
    path.write_bytes(written(tmp_path, **changed) if changed else b"no Parquet")
    client.log_artifact(run.info.run_id, str(path), "search")
    with pytest.raises(UserError, match="cannot be read as the trials of a search"):
        finding.by_name(own_store, "s", tmp_path)
