"""Temporary folders of sweeps; find and remove folders and processes of sweeps whose driver was killed.

Run as a program, this module is the watchdog of one driver: it waits for the end of its stdin, which the driver keeps
open, and then removes the driver's folder and processes. It imports nothing from the package, so that it starts fast.
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

_LOCK, _PART = "driver.lock", "driver.lock.part"
_IMAGES = f"cifar_exp-{os.getuid()}-*.part"  # of a worker, see `worker.Images`
_PATTERNS = ("cifar-????????", "cifar_exp-????????", _IMAGES)
_OLD = 3600.0  # seconds after which a folder without a lock counts as a leftover
_REMOVE_WITHIN = 20.0  # seconds
_RETRY = 0.2  # seconds between two attempts


@dataclass(frozen=True)
class Leftover:
    """Temporary folder of a sweep whose driver has ended, and the processes that still use it."""

    folder: Path
    processes: tuple[psutil.Process, ...]


@contextmanager
def temporary_folder(prefix: str, root: str) -> Iterator[Path]:
    """Context manager that creates a temporary folder for this process and removes it at the end.

    A watchdog removes it, with Ray's processes that use it, even if this process is killed.

    Args:
        prefix: of the folder's name, `cifar-` or `cifar_exp-`.
        root: parent folder.
    """
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=Path(root).resolve()))
    part = folder / _PART
    with part.open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        part.rename(folder / _LOCK)  # renamed after locking: a lock file with this name was always locked
        watchdog = subprocess.Popen(
            [sys.executable, "-P", Path(__file__).resolve(), folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # signals to the driver's process group do not reach it
        )
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            watchdog.communicate()


def find() -> list[Leftover]:
    """Find all leftovers of sweeps of this user."""
    roots = {Path(root).resolve() for root in (tempfile.gettempdir(), "/tmp")}
    found = sorted(folder for root in roots for pattern in _PATTERNS for folder in root.glob(pattern))
    return [Leftover(folder, tuple(_processes(folder))) for folder in found if _is_left(folder)]


def remove(folder: Path) -> bool:
    """Kill Ray's processes that use a folder and remove it.

    Returns:
        Whether the folder is removed.
    """
    until = time.monotonic() + _REMOVE_WITHIN
    while time.monotonic() < until:
        processes = _processes(folder)
        for process in processes:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(processes, timeout=1)
        shutil.rmtree(folder, ignore_errors=True)
        if not processes and not folder.exists():
            return True
        time.sleep(_RETRY)
    return False


def _is_left(folder: Path) -> bool:
    """Whether a folder belongs to this user and its driver has ended."""
    try:
        state = folder.lstat()
        if state.st_uid != os.getuid() or not folder.is_dir() or folder.is_symlink():
            return False
        with (folder / _LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return True
    except FileNotFoundError:  # not locked yet, images that were being written, or a folder of somebody else
        is_ours = folder.match(_IMAGES) or (folder.is_dir() and {path.name for path in folder.iterdir()} <= {_PART})
        return is_ours and time.time() - state.st_mtime > _OLD
    except OSError:  # the lock is held
        return False


def _processes(folder: Path) -> list[psutil.Process]:
    """Find Ray's processes of this user that use a folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.uids().real == os.getuid() and _uses(process, str(folder)):
                found.append(process)
    return found


def _uses(process: psutil.Process, folder: str) -> bool:
    command = process.cmdline()
    if command and command[0].startswith("ray::"):  # Ray has overwritten the arguments with this title
        return any(file.path.startswith(f"{folder}/") for file in process.open_files())
    options = (argument.partition("=") for argument in command if argument.startswith("--"))
    return any(value == folder or value.startswith(f"{folder}/") for _, _, value in options)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    remove(Path(sys.argv[1]))
