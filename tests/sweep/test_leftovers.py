"""Tests of finding and removing what killed drivers leave in the temporary folder, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from cifar_exp.sweep import leftovers

# A driver that starts something in its folder, as Ray does, and something that only looks into it, as a person does.
DRIVER = """
import subprocess, sys, time
from cifar_exp.sweep import leftovers
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
apart = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "start_new_session": True}
with leftovers.temporary_folder("cifar-", sys.argv[1]) as folder:
    started = subprocess.Popen([*sleep, f"--session-dir={folder}/session"], **apart)
    looks = subprocess.Popen([*sleep, folder / "session"], **apart)
    print(folder, started.pid, looks.pid, flush=True)
    sys.stdin.read()
    started.kill()
    started.wait()
    looks.kill()
"""


class Driver:
    """Process with a temporary folder and a watchdog."""

    def __init__(self, root: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(root)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        folder, started, looks = self.process.stdout.readline().split()
        self.folder, self.started, self.looks = Path(folder), psutil.Process(int(started)), psutil.Process(int(looks))
        children = psutil.Process(self.process.pid).children()
        (self.watchdog,) = (child for child in children if child not in (self.started, self.looks))

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def end(self) -> None:
        self.process.communicate("")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def driver(root: Path) -> Iterator[Driver]:
    made = Driver(root)
    yield made
    for process in (made.watchdog, made.started, made.looks):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    made.kill()


def found(root: Path) -> dict[Path, list[int]]:
    return {one.folder: [p.pid for p in one.processes] for one in leftovers.find() if one.folder.parent == root}


def test_a_driver_that_ends_removes_its_folder_and_ends_its_watchdog(driver: Driver) -> None:
    driver.end()
    assert not driver.folder.exists() and not driver.watchdog.is_running()


def test_the_watchdog_of_a_killed_driver_removes_its_leftovers(driver: Driver, root: Path) -> None:
    assert found(root) == {}  # the folder of a running driver is not a leftover
    assert os.getpgid(driver.watchdog.pid) == driver.watchdog.pid  # Ctrl-C does not reach the watchdog
    driver.kill()
    gone, _ = psutil.wait_procs([driver.watchdog, driver.started], timeout=60)
    assert len(gone) == 2 and not driver.folder.exists()
    assert driver.looks.is_running()  # it is not a process of Ray


def test_leftovers_without_a_watchdog_are_found_and_removed(driver: Driver, root: Path) -> None:
    other = Driver(root)
    driver.watchdog.kill()
    driver.kill()
    assert found(root) == {driver.folder: [driver.started.pid]}
    assert leftovers.remove(driver.folder)
    assert not driver.folder.exists() and psutil.wait_procs([driver.started], timeout=60)[0]
    assert driver.looks.is_running() and other.started.is_running() and other.folder.exists()
    assert found(root) == {}
    other.end()


def test_an_old_folder_without_a_lock_is_a_leftover(root: Path) -> None:
    names = ("cifar-abcdefgh", f"cifar_exp-{os.getuid()}-0123.ab.part", f"cifar_exp-{os.getuid()}-0123456789abcdef")
    for name in names:
        (root / name).mkdir()
    (root / names[1] / "cifar-10-batches-bin").mkdir()
    assert found(root) == {}
    for name in names:
        os.utime(root / name, (0, 0))
    assert found(root) == {root / name: [] for name in names[:2]}  # the others are images, which later sweeps use


def test_an_old_folder_of_the_user_with_such_a_name_is_no_leftover(root: Path) -> None:
    for name in ("cifar-datasets", "cifar-abcdefgh"):
        (root / name).mkdir()
    (root / "cifar-datasets" / "mine.zip").touch()
    (root / "cifar-abcdefgh" / "driver.lock.part").touch()  # of a driver that was killed before it had the lock
    for name in ("cifar-datasets", "cifar-abcdefgh"):
        os.utime(root / name, (0, 0))
    assert found(root) == {root / "cifar-abcdefgh": []}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder to another user")
def test_folders_of_other_users_are_left_alone(root: Path) -> None:
    theirs = root / "cifar-abcdefgh"
    theirs.mkdir()
    os.chown(theirs, 12345, 12345)
    os.utime(theirs, (0, 0))
    assert found(root) == {}
