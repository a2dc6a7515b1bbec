"""Tests of the store: its selection, its experiments and its web addresses."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import proxy
import pytest

from cifar_exp.config.composition import plan
from cifar_exp.config.schema import TrackingConfig
from cifar_exp.errors import UserError
from cifar_exp.tracking import addresses, takeover
from cifar_exp.tracking.store import EMBEDDED, Store


def known(store: Store, experiment_id: str) -> Store:
    """Set the id of a store's experiment, as if it had been looked up."""
    store.__dict__["experiment_id"] = experiment_id  # cached_property stores its value there
    return store


def test_the_config_overrides_the_environment_which_overrides_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert Store.of(TrackingConfig(experiment="e")) == Store(EMBEDDED, "e")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://from-environment")
    assert Store.of(TrackingConfig(experiment="e")).uri == "http://from-environment"
    assert Store.of(TrackingConfig(uri="http://from-config", experiment="e")).uri == "http://from-config"


def test_the_experiment_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    def experiment(*overrides: str) -> str:
        return plan(overrides, multirun=False).jobs[0].tracking.experiment

    assert experiment() == "cifar10"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "birds")
    assert experiment() == "birds"
    assert experiment("tracking.experiment=fish") == "fish"


def test_an_experiment_is_created_once(store: Store) -> None:
    first = Store(store.uri, "found again").experiment_id
    assert Store(store.uri, "found again").experiment_id == first
    assert Store(store.uri, "another").experiment_id != first
    assert store.client.get_experiment(first).tags["mlflow.experimentKind"] == "custom_model_development"


def test_an_experiment_that_another_process_creates_at_the_same_time_is_used(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Store(store.uri, "contended").experiment_id
    second = Store(store.uri, "contended")
    found = second.client.get_experiment_by_name
    answers = iter([None])  # the first look-up does not find it
    monkeypatch.setattr(second.client, "get_experiment_by_name", lambda name: next(answers, found(name)))
    assert second.experiment_id == made


def test_the_same_relative_path_in_another_folder_is_another_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        store = Store(EMBEDDED, name)
        run = store.client.create_run(store.experiment_id)
        assert [experiment.name for experiment in store.client.search_experiments()] == [name, "Default"]
        store.client.log_dict(run.info.run_id, {}, "config.json")
        assert [file.path for file in store.artifacts(run).list_artifacts()] == ["config.json"]
        assert list((tmp_path / name).rglob("config.json"))


@pytest.mark.parametrize("name", ["what?", "100%"])
def test_a_path_that_sqlalchemy_reads_otherwise_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    with pytest.raises(UserError, match=r"must not contain \? or %"):
        Store(EMBEDDED, "e").check()


def test_a_deleted_experiment_is_refused(store: Store) -> None:
    deleted = Store(store.uri, "deleted").experiment_id
    store.client.delete_experiment(deleted)
    with pytest.raises(UserError, match="deleted"):
        _ = Store(store.uri, "deleted").experiment_id


def test_artifacts_of_an_sqlite_store_are_beside_its_file(store: Store) -> None:
    folder = Path(store.uri.removeprefix("sqlite:///")).parent
    location = store.client.get_experiment(store.experiment_id).artifact_location
    assert location == (folder / "mlartifacts").as_uri()


@pytest.mark.parametrize("uri", ["sqlite:", "sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite+pysqlite:///"])
def test_a_database_without_a_file_is_refused(uri: str) -> None:
    with pytest.raises(UserError, match="it names no file, expected sqlite:///PATH"):
        Store(uri, "e").check(may_be_away=True)


@pytest.mark.parametrize("uri", ["ftp://x/y", "mlruns", "sqllite:///x.db", "127.0.0.1:5000"])
def test_an_unsupported_tracking_uri_is_refused(uri: str, tmp_path: Path) -> None:
    uri = str(tmp_path / uri) if uri == "mlruns" else uri
    with pytest.raises(UserError, match="tracking store "):
        _ = Store(uri, "e").experiment_id
    with pytest.raises(UserError, match="tracking store "):
        Store(uri, "e").check(may_be_away=True)


@pytest.mark.parametrize("uri", ["http://host:5000", "http://host:5000/"])
def test_web_addresses_have_the_format_of_the_ui(uri: str) -> None:
    store = known(Store(uri, "e"), "7")
    assert addresses.run(store, "abc") == "http://host:5000/#/experiments/7/runs/abc?workflowType=machine_learning"
    assert addresses.sweep(store, "abc") == (
        "http://host:5000/#/experiments/7/runs?workflowType=machine_learning&compareRunsMode=CHART"
        "&orderByKey=metrics.%60test%2Faccuracy%60&orderByAsc=false"
        "&searchFilter=tags.%60mlflow.parentRunId%60%20%3D%20'abc'"
    )
    assert addresses.compare(store, ["a", "b"]) == (
        "http://host:5000/#/compare-runs?runs=%5B%22a%22%2C%20%22b%22%5D&experiments=%5B%227%22%5D"
        "&workflowType=machine_learning"
    )


def test_instructions_for_an_sqlite_store_contain_the_command_that_starts_the_ui(store: Store) -> None:
    assert addresses.run(store, "abc").startswith(
        f"http://127.0.0.1:5000/#/experiments/{store.experiment_id}/runs/abc?"
    )
    command = addresses.ui_command(store)
    assert command is not None
    assert command.endswith(f"mlflow ui --backend-store-uri {store.uri}")


def test_instructions_for_a_server_contain_no_command() -> None:
    assert addresses.ui_command(Store("sqlite:///of mine/m.db", "e")).endswith(" 'sqlite:///of mine/m.db'")
    assert addresses.ui_command(Store("https://host", "e")) is None
    assert Store("https://host", "e").is_server
    assert not Store(EMBEDDED, "e").is_server


def test_the_parent_run_of_a_sweep_is_found_by_its_name(store: Store) -> None:
    def create(**tags: str) -> str:
        named = {f"cifar_exp.{key}": value for key, value in tags.items()}
        return str(store.client.create_run(store.experiment_id, tags=named).info.run_id)

    create(sweep="wanted")  # a job
    wanted = create(sweep="wanted", kind="sweep")
    create(sweep="wanted-2", kind="sweep")
    found = store.find_sweep("wanted")
    assert found is not None and found.info.run_id == wanted
    assert store.find_sweep("unknown") is None
    assert Store(store.uri, "elsewhere").find_sweep("wanted") is None


def test_a_call_that_the_server_does_not_answer_well_is_not_repeated(mlflow_server: str) -> None:
    with proxy.before(mlflow_server) as shaky:
        shaky.mode = "500"
        with pytest.raises(UserError, match="500"), Store(shaky.uri, "e").translate_errors():
            takeover.find_sweep_of_command(Store(shaky.uri, "e"), "seed=1,2")
        assert shaky.requests == 1


def test_a_run_id_in_the_environment_is_cleared(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    _ = Store(store.uri, "unit").client
    assert "MLFLOW_RUN_ID" not in os.environ


def test_a_process_killed_while_it_creates_a_store_leaves_no_partial_one(tmp_path: Path) -> None:
    code = "import sys; from cifar_exp.tracking.store import Store; Store(sys.argv[1], 'e').experiment_id"
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    process = subprocess.Popen([sys.executable, "-c", code, uri])
    while not any(part.stat().st_size > 100_000 for part in tmp_path.glob(".mlflow.db.*.part")):  # some of its tables
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert not (tmp_path / "mlflow.db").exists()
    assert Store(uri, "e").experiment_id == Store(uri, "e").experiment_id


def test_processes_that_create_a_store_at_the_same_time_share_it(tmp_path: Path) -> None:
    code = "import sys; from cifar_exp.tracking.store import Store; print(Store(sys.argv[1], 'e').experiment_id)"
    command = [sys.executable, "-c", code, f"sqlite:///{tmp_path / 'mlflow.db'}"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = {process.communicate(timeout=120)[0] for process in processes}
    assert len(outputs) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db"]
