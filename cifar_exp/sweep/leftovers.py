"""Temporary folders of sweeps, and what is left of those whose driver was killed: found, and removed.

Run as a program it is the watchdog of one driver: it waits until its stdin ends, which the driver holds open, and
removes what the driver has left. It imports nothing of the package, so that it starts at once.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

_LOCK = "driver.lock"
_PATTERNS = ("cifar-????????", "cifar_exp-????????", f"cifar_exp-{os.getuid()}-*.part")
_OLD = 3600.0  # seconds after which a folder without a lock counts as left
_WITHIN = 20.0  # seconds, for processes to end and files to go
_LOOK = 0.2  # seconds between two looks


@dataclass(frozen=True)
class Leftover:
    """A temporary folder that nobody needs any more, and the processes that still work in it."""

    folder: Path
    processes: tuple[psutil.Process, ...]


@contextmanager
def temporary_folder(prefix: str, root: str) -> Iterator[Path]:
    """A folder of this process, which is removed afterwards, with all of Ray's processes in it, whatever ends this one.

    Args:
        prefix: of its name, `cifar-` or `cifar_exp-`.
        root: where it is made.
    """
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=Path(root).resolve()))
    made = folder / f"{_LOCK}.part"
    with made.open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made.rename(folder / _LOCK)  # where it is found, it is held
        watchdog = subprocess.Popen(
            [sys.executable, "-P", Path(__file__).resolve(), folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # what ends the driver's group does not end it
        )
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            watchdog.communicate()


def find() -> list[Leftover]:
    """What drivers of this user have left that live no more."""
    roots = {Path(root).resolve() for root in (tempfile.gettempdir(), "/tmp")}
    found = sorted(folder for root in roots for pattern in _PATTERNS for folder in root.glob(pattern))
    return [Leftover(folder, tuple(_processes(folder))) for folder in found if _is_left(folder)]


def remove(folder: Path) -> bool:
    """End the processes of Ray that work in this folder, and remove it; whether it is gone."""
    until = time.monotonic() + _WITHIN
    while time.monotonic() < until:
        working = _processes(folder)
        for process in working:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(working, timeout=1)
        shutil.rmtree(folder, ignore_errors=True)
        if not working and not folder.exists():
            return True
        time.sleep(_LOOK)
    return False


def _is_left(folder: Path) -> bool:
    """Whether it is this user's, and its driver has ended."""
    try:
        state = folder.lstat()
        if state.st_uid != os.getuid() or not folder.is_dir() or folder.is_symlink():
            return False
        with (folder / _LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return True
    except FileNotFoundError:  # it is being made, or was by an earlier version
        return folder.exists() and time.time() - state.st_mtime > _OLD and not _raylets(folder)
    except OSError:  # the lock is held
        return False


def _raylets(folder: Path) -> list[psutil.Process]:
    return [process for process in _processes(folder) if process.name() == "raylet"]


def _processes(folder: Path) -> list[psutil.Process]:
    """Ray's processes of this user that were told to work in this folder, or do so."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.uids().real == os.getuid() and _works_in(process, str(folder)):
                found.append(process)
    return found


def _works_in(process: psutil.Process, folder: str) -> bool:
    command = process.cmdline()
    if command and command[0].startswith("ray::"):  # its arguments are overwritten by that
        return any(file.path.startswith(f"{folder}/") for file in process.open_files())
    told = (argument.partition("=") for argument in command if argument.startswith("--"))
    return any(value == folder or value.startswith(f"{folder}/") for _, _, value in told)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    remove(Path(sys.argv[1]))
