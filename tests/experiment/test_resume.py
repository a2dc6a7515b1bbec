"""Tests of resuming an earlier run, and of starting again if it was deleted from the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cifar_exp.config.schema import Config
from cifar_exp.experiment import resume
from cifar_exp.tracking import run_tags
from cifar_exp.tracking.run import Run
from cifar_exp.tracking.store import Store

Compose = Callable[..., Config]


@pytest.fixture(params=["file", "server"])
def config(request: pytest.FixtureRequest, compose: Compose) -> Config:
    uri = request.getfixturevalue("store").uri if request.param == "file" else request.getfixturevalue("mlflow_server")
    config = compose("data=digits")
    return replace(config, tracking=replace(config.tracking, uri=uri, experiment="resumed here"))


def interrupted(config: Config, folder: Path, wanted: str) -> str:
    """Start and interrupt a run in a folder; return its id."""
    run = Run.start(Store.of(config.tracking), folder, "a run", {run_tags.FINGERPRINT: wanted}, {})
    assert run.wait_until_started() and run.id
    run.finish("KILLED")
    return run.id


def test_an_interrupted_run_is_resumed_in_its_folder(config: Config, tmp_path: Path) -> None:
    interrupted(config, tmp_path / "first", "kept")
    (tmp_path / "second" / ".hydra").mkdir(parents=True)
    assert resume.find_interrupted(config, "kept", tmp_path / "second") == tmp_path / "first"
    assert not (tmp_path / "second").exists()  # Hydra has created it
    (tmp_path / "second" / ".hydra").mkdir(parents=True)
    (tmp_path / "second" / "thesis.txt").write_text("of the user")
    assert resume.find_interrupted(config, "kept", tmp_path / "second") == tmp_path / "first"
    assert [path.name for path in (tmp_path / "second").iterdir()] == ["thesis.txt"]
    assert resume.find_interrupted(config, "other", tmp_path / "second") is None


def test_a_run_of_other_settings_is_kept_beside_and_told(
    config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    config = replace(config, sweep=replace(config.sweep, name="s"))
    interrupted(config, tmp_path / "0", "one")
    assert resume.find_interrupted(config, "another", tmp_path / "0") is None
    assert f"{tmp_path / '0'}: the earlier run a run is kept in {tmp_path / '0.1'}" in caplog.messages
    assert list((tmp_path / "0").iterdir()) == []
    assert (tmp_path / "0.1" / "journal.jsonl").exists()


def test_a_deleted_run_is_started_again_and_reported_once(
    config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_id = interrupted(config, tmp_path / "first", "deleted")
    Store.of(config.tracking).client.delete_run(run_id)
    for name in ("second", "third"):
        (tmp_path / name).mkdir()
        assert resume.find_interrupted(config, "deleted", tmp_path / name) is None
    assert [record.getMessage() for record in caplog.records if "trained again" in record.getMessage()] == [
        f"Run a run ({tmp_path / 'first'}) was deleted from {config.tracking.uri}: it is trained again"
    ]
    assert (tmp_path / "first" / "journal.jsonl.1").exists()


def test_the_folder_of_a_deleted_job_is_set_aside(config: Config, tmp_path: Path) -> None:
    config = replace(config, sweep=replace(config.sweep, name="s"))
    run_id = interrupted(config, tmp_path / "0", "job")
    assert resume.find_interrupted(config, "job", tmp_path / "0") == tmp_path / "0"
    Store.of(config.tracking).client.delete_run(run_id)
    assert resume.find_interrupted(config, "job", tmp_path / "0") is None
    assert list((tmp_path / "0").iterdir()) == []
    assert (tmp_path / "0.1" / "journal.jsonl").exists()


def test_no_run_is_started_again_while_its_experiment_is_deleted(config: Config, tmp_path: Path) -> None:
    config = replace(config, tracking=replace(config.tracking, experiment=f"gone {tmp_path.name}"))
    interrupted(config, tmp_path / "first", "hidden")
    store = Store.of(config.tracking)
    store.client.delete_experiment(store.experiment_id)
    assert resume.find_interrupted(config, "hidden", tmp_path / "first") == tmp_path / "first"
