"""Tests of backups: one made during a sweep can be restored elsewhere, and invalid files change nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import program
import pytest
import record
from record import Record
from stack import NewStack, Stack, User, docker

SEARCH = "/api/2.0/mlflow/experiments/search"
WITHIN = 300  # seconds, until a job starts


@dataclass(frozen=True)
class BackedUp:
    """A server with two sweeps, and a backup that was made during the second one."""

    server: Stack
    ann: User
    file: Path
    recorded: Record  # immediately before the backup


@dataclass(frozen=True)
class Restored:
    """Another server that was restored from the backup."""

    server: Stack
    ann: User
    recorded: Record


@pytest.fixture(scope="module")
def backed_up(new_stack: NewStack, tmp_path_factory: pytest.TempPathFactory) -> BackedUp:
    server, folder = new_stack(), tmp_path_factory.mktemp("backup")
    server.up()
    ann = server.add("ann")
    sweep = ("-m", "model=dense", "data=digits")
    first = program.run(folder, *sweep, "seed=1,2", "training.epochs=1", **server.environment(ann))
    assert first.returncode == 0, first.stderr
    arguments = (*sweep, "seed=3", "training.epochs=1,12,1")
    second = program.popen([*program.PROGRAM, *arguments], folder, merged=True, **server.environment(ann))
    try:
        with server.client(ann) as client:
            until = time.monotonic() + WITHIN
            while len(program.runs(client)) < 3 + 3:  # both parents, two jobs of the first sweep, two of the second
                assert second.poll() is None and time.monotonic() < until, second.communicate()
                time.sleep(0.5)
            recorded = record.finished(client)
        server.make("backup", f"FILE={folder / 'b.tar'}")
        assert second.wait(WITHIN) == 0, second.communicate()
    finally:
        second.kill()
    return BackedUp(server, ann, folder / "b.tar", recorded)


@pytest.fixture(scope="module")
def restored(backed_up: BackedUp, new_stack: NewStack) -> Restored:
    backed_up.server.destroy()
    other = new_stack()
    other.make("restore", f"FILE={backed_up.file}")
    return Restored(other, backed_up.ann, backed_up.recorded)


@pytest.fixture(scope="module")
def never_started(new_stack: NewStack) -> Stack:
    return new_stack()


def assert_refused(done: program.Done, *says: str) -> None:
    """The command failed, and one line of this project says why."""
    assert done.returncode != 0
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("cifar_exp: "))
    for text in says:
        assert text in line


def assert_nothing_was_made(stack: Stack) -> None:
    """The server has no containers and no volumes."""
    label = f"label=com.docker.compose.project={stack.name}"
    assert docker("ps", "--all", "--quiet", "--filter", label).stdout == ""
    assert docker("volume", "ls", "--quiet", "--filter", label).stdout == ""


def test_only_its_owner_can_read_a_backup(backed_up: BackedUp) -> None:
    assert backed_up.file.stat().st_mode & 0o777 == 0o600


def test_backup_leaves_one_file(backed_up: BackedUp) -> None:
    assert [path.name for path in backed_up.file.parent.iterdir() if path.name.startswith("b.tar")] == ["b.tar"]


def test_a_server_with_runs_is_not_overwritten(backed_up: BackedUp) -> None:
    server = backed_up.server
    containers = server.compose("ps", "-q").stdout
    with server.client(backed_up.ann) as client:
        before = record.finished(client)
        assert_refused(
            server.make("restore", f"FILE={backed_up.file}", check=False), "holds runs", "nothing was changed"
        )
        assert record.finished(client) == before
    assert server.compose("ps", "-q").stdout == containers


@pytest.mark.parametrize("kept", [0.5, 0.99, 0.0], ids=["half", "all but the end", "nothing"])
def test_truncated_backup_is_refused(backed_up: BackedUp, never_started: Stack, tmp_path: Path, kept: float) -> None:
    whole = backed_up.file.read_bytes()
    cut = tmp_path / "cut.tar"
    cut.write_bytes(whole[: int(kept * len(whole))])
    assert_refused(never_started.make("restore", f"FILE={cut}", check=False), str(cut), "no whole backup")
    assert_nothing_was_made(never_started)


def test_a_file_that_is_not_a_backup_is_refused(never_started: Stack, tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("not a backup\n" * 1000)
    assert_refused(never_started.make("restore", f"FILE={note}", check=False), str(note), "no whole backup")
    assert_nothing_was_made(never_started)


def test_restore_without_a_file_is_refused(never_started: Stack) -> None:
    assert_refused(never_started.make("restore", check=False), "usage: make restore FILE=")
    assert_nothing_was_made(never_started)


def test_a_missing_file_is_refused(never_started: Stack, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere.tar"
    assert_refused(never_started.make("restore", f"FILE={nowhere}", check=False), str(nowhere), "cannot be read")
    assert_nothing_was_made(never_started)


def test_backup_of_a_server_that_was_never_started_leaves_no_file(never_started: Stack, tmp_path: Path) -> None:
    assert never_started.make("backup", f"FILE={tmp_path / 'b.tar'}", check=False).returncode != 0
    assert list(tmp_path.iterdir()) == []


def test_sweep_was_logging_when_the_backup_was_made(restored: Restored) -> None:
    with restored.server.client(restored.ann) as client:
        runs = program.runs(client)
    unfinished = [run for run in runs if run.info.run_id not in restored.recorded]
    assert len(runs) == len(restored.recorded) + len(unfinished)
    assert "RUNNING" in {run.info.status for run in unfinished}


def test_all_finished_runs_are_restored(restored: Restored) -> None:
    assert len(restored.recorded) >= 4  # the first sweep with its two jobs, the first job of the second
    with restored.server.client(restored.ann) as client:
        back = record.of(client, (client.get_run(run_id) for run_id in restored.recorded))
    for run_id, before in restored.recorded.items():
        for part, value in before.items():
            assert back[run_id][part] == value, f"{before['info']['run_name']}: {part}"
    jobs = [run for run in back.values() if run["tags"].get("cifar_exp.kind") != "sweep"]
    assert all(len(run["models"]) == 1 and run["metrics"] and run["artifacts"] for run in jobs)


def test_users_are_restored_and_the_administrator_has_the_new_password(backed_up: BackedUp, restored: Restored) -> None:
    old, new = backed_up.server.admin, restored.server.admin
    stranger = User(restored.ann.name, "another-password")
    logins = {restored.ann: 200, new: 200, old: 401, stranger: 401}
    for user, status in logins.items():
        assert restored.server.ask(SEARCH, user, json={"max_results": 1}).status_code == status, user.name


def test_the_restored_server_accepts_runs(restored: Restored, tmp_path: Path) -> None:
    login = restored.server.environment(restored.ann)
    done = program.run(tmp_path, "model=dense", "data=digits", "training.epochs=1", **login)
    assert done.returncode == 0, done.stderr
    with restored.server.client(restored.ann) as client:
        newest = program.runs(client)[-1]
        assert newest.info.run_id not in restored.recorded and newest.info.status == "FINISHED"
        assert program.artifacts(client, newest.info.run_id)


@pytest.mark.parametrize("service", ["db", "mlflow"])
def test_backup_of_a_stopped_server_leaves_no_file(restored: Restored, tmp_path: Path, service: str) -> None:
    restored.server.compose("stop", service)
    try:
        done = restored.server.make("backup", f"FILE={tmp_path / 'b.tar'}", check=False)
    finally:
        restored.server.compose("start", service)
        restored.server.wait_until_healthy()
    assert done.returncode != 0
    assert list(tmp_path.iterdir()) == []
