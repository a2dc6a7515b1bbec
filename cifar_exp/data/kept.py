"""What was found out about images, kept beside the cache so that it is found out once on a machine."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cifar_exp.data import cache

_FOLDER = "findings"


def kept(key: str, find: Callable[[], Any]) -> Any:
    """Return what was kept under a key, or find it out and keep it.

    Processes that ask for the same at once wait for the first. If the cache cannot be written, nothing is kept.

    Args:
        key: file name that stands for everything the finding depends on.
        find: gives content that JSON can hold.
    """
    file = cache.folder() / _FOLDER / f"{key}.json"
    if (known := _read(file)) is not None:
        return known
    with _locked(file.with_suffix(".lock")):
        if (known := _read(file)) is not None:  # found by the process that had the lock
            return known
        content = json.dumps(find())
        with contextlib.suppress(OSError):
            part = file.with_suffix(f".{os.getpid()}")
            part.write_text(content)
            part.replace(file)  # other processes read it at any time
        return json.loads(content)


def clear() -> None:
    """Remove everything that was kept."""
    shutil.rmtree(cache.folder() / _FOLDER, ignore_errors=True)


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock, which ends with the process; without one if the folder cannot be written."""
    with contextlib.ExitStack() as opened:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = opened.enter_context(path.open("a"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
