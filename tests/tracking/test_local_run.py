"""Tests of reading a run from its folder, and of the decision whether it can be resumed."""

from __future__ import annotations

from pathlib import Path

import pytest

from cifar_exp.errors import UserError
from cifar_exp.tracking import local_run
from cifar_exp.tracking.journal import Journal
from cifar_exp.tracking.local_run import LocalRun
from cifar_exp.tracking.store import Store

WHERE = {"uri": "sqlite:////a/mlflow.db", "experiment": "e"}
STORE = Store(**WHERE)
START = ("start", {**WHERE, "name": "a run", "tags": {"cifar_exp.fingerprint": "f", "cifar_exp.outcome": "running"}})


def left(folder: Path, *events: tuple[str, dict[str, object]]) -> LocalRun | None:
    with Journal(folder) as journal:
        for kind, content in events:
            journal.append(kind, content)
    return LocalRun.read(folder)


@pytest.mark.parametrize(
    ("events", "goes_on"),
    [
        ([START], True),  # killed
        ([START, ("finish", {"status": "KILLED"})], True),
        ([START, ("finish", {"status": "FAILED"})], True),
        ([START, ("tags", {"cifar_exp.outcome": "diverged"}), ("finish", {"status": "FAILED"})], False),
        ([START, ("finish", {"status": "FINISHED"})], False),
        ([START, ("finish", {"status": "KILLED"}), ("resume", {"cifar_exp.outcome": "running"})], True),
    ],
)
def test_interrupted_runs_can_be_resumed(
    tmp_path: Path, events: list[tuple[str, dict[str, object]]], goes_on: bool
) -> None:
    run = left(tmp_path / "run", *events)
    assert run is not None
    assert run.can_resume() == goes_on
    found = local_run.interrupted(tmp_path, STORE, **{"cifar_exp.fingerprint": "f"})
    assert (found.folder if found else None) == (tmp_path / "run" if goes_on else None)
    assert local_run.interrupted(tmp_path, STORE, **{"cifar_exp.fingerprint": "g"}) is None
    assert local_run.interrupted(tmp_path, Store(STORE.uri, "another"), **{"cifar_exp.fingerprint": "f"}) is None


def test_a_run_that_is_being_written_cannot_be_resumed(tmp_path: Path) -> None:
    with Journal(tmp_path / "run") as journal:
        journal.append(*START)
        run = LocalRun.read(tmp_path / "run")
        assert run is not None and not run.can_resume()


def test_a_finished_run_that_was_killed_before_it_closed_its_journal_can_be_resumed(tmp_path: Path) -> None:
    left(tmp_path, START, ("finish", {"status": "FINISHED"}))
    run = LocalRun.read(tmp_path)
    assert run is not None and not run.can_resume()
    (tmp_path / "journal.reserve").touch()  # a process removes it when it closes the journal
    assert run.can_resume()


def test_the_latest_of_several_runs_is_resumed(tmp_path: Path) -> None:
    for name in ("b", "a"):
        left(tmp_path / name, START)
    runs = sorted(local_run.runs(tmp_path), key=lambda run: run.began)
    found = local_run.interrupted(tmp_path, STORE, **{"cifar_exp.fingerprint": "f"})
    assert found is not None and found.began == runs[-1].began


def test_a_folder_without_a_start_event_has_no_run(tmp_path: Path) -> None:
    assert LocalRun.read(tmp_path) is None
    assert left(tmp_path, ("metrics", {"step": 1, "values": {}})) is None


def test_set_aside_renames_a_folder(tmp_path: Path) -> None:
    for content in ("first", "second"):
        (tmp_path / "0").mkdir(exist_ok=True)
        (tmp_path / "0" / "file").write_text(content)
        local_run.set_aside(tmp_path / "0")
    assert list((tmp_path / "0").iterdir()) == []
    assert [(tmp_path / name / "file").read_text() for name in ("0.1", "0.2")] == ["first", "second"]


@pytest.mark.parametrize("name", [".", "job"])
def test_a_folder_that_is_being_written_is_not_set_aside(tmp_path: Path, name: str) -> None:
    sweep = tmp_path / "sweep"
    left(sweep, START)
    left(sweep / name, START)
    with Journal(sweep / name):
        with pytest.raises(UserError, match="another process is writing this run"):
            local_run.set_aside(sweep)
        with pytest.raises(UserError, match="another process is writing this run"):
            local_run.set_journal_aside(sweep / name)
    assert [path.name for path in tmp_path.iterdir()] == ["sweep"]
    assert (sweep / name / "journal.jsonl").exists()


@pytest.mark.parametrize(
    ("setting", "has"),
    [
        ("run", ()),
        ("run", (".hydra",)),
        ("run", ("journal.jsonl", "notes")),
        ("run", ("journal.jsonl.1", "0")),
        ("sweep", ("1/journal.jsonl",)),
    ],
)
def test_a_new_folder_and_one_with_a_run_can_be_used(tmp_path: Path, setting: str, has: tuple[str, ...]) -> None:
    local_run.check_folder(tmp_path / "new", f"hydra.{setting}.dir")
    for name in has:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    local_run.check_folder(tmp_path, f"hydra.{setting}.dir")


def test_a_folder_with_runs_in_it_is_not_that_of_a_run(tmp_path: Path) -> None:
    left(tmp_path / "1", START)
    left(tmp_path / "2026-11-30_10-00-00", START)
    with pytest.raises(UserError, match=r"^hydra\.run\.dir: .*files that are no run"):
        local_run.check_folder(tmp_path, "hydra.run.dir")
    (tmp_path / "1" / "journal.jsonl").unlink()
    with pytest.raises(UserError, match=r"^hydra\.sweep\.dir: .*files that are no run"):
        local_run.check_folder(tmp_path, "hydra.sweep.dir")


@pytest.mark.parametrize(
    ("folder", "says"),
    [
        (".", "not the current one"),
        ("..", "not the current one"),
        ("own", "files that are no run"),
        ("own/a", "a file"),
    ],
)
def test_a_folder_of_the_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, says: str
) -> None:
    (tmp_path / "here" / "own").mkdir(parents=True)
    (tmp_path / "here" / "own" / "a").touch()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(UserError, match=rf"^hydra\.run\.dir: got {folder}, .*{says}"):
        local_run.check_folder(Path(folder), "hydra.run.dir")


def test_logged_metrics_are_read_by_name_and_step(tmp_path: Path) -> None:
    events = [("metrics", {"step": step, "values": {"train/loss": 1.0, "val/loss": 2.0}}) for step in (1, 2)]
    left(tmp_path, START, *events, ("resume", {}), ("resume", {}))
    assert local_run.metrics(tmp_path) == {"train/loss": {1: 1.0, 2: 1.0}, "val/loss": {1: 2.0, 2: 2.0}}
    assert local_run.count_resumes(tmp_path) == 2
