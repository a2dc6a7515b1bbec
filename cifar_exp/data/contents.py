"""What files hold, by hash; a file that has not changed since it was hashed is not read again."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

# A file that was written this recently can change again without a change of its times.
_SETTLED_NS = 2_000_000_000


def digests(root: Path, paths: Sequence[str], memory: Path) -> tuple[list[str], dict[int, str]]:
    """Hash files, those that have changed since the last call.

    Args:
        root: a folder.
        paths: of the files, relative to it.
        memory: folder that remembers size, times and hash of each file; nothing is remembered if it cannot be written.

    Returns:
        SHA-256 of each file in hexadecimal, `""` if it cannot be read; and the reasons of those, by index.
    """
    known_file = memory / f"{hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:32]}.json"
    known = _read(known_file)
    found, bad, remembered = [""] * len(paths), {}, {}
    changed: list[tuple[int, list[int]]] = []
    now = time.time_ns()
    prefix = f"{root}{os.sep}"
    for index, path in enumerate(paths):
        try:
            status = os.stat(prefix + path)
        except OSError as error:
            bad[index] = error.strerror or str(error)
            continue
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
            bad[index] = "not a regular file"
            continue
        # `cp -p`, `tar` and `mv` can leave the size and the modification time of another file, but not its change time.
        stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        entry = known.get(path)
        if entry is not None and entry[:-1] == stamp:
            found[index] = str(entry[-1])
            remembered[path] = entry
        else:
            changed.append((index, stamp))

    def hashed(item: tuple[int, list[int]]) -> str | OSError:
        try:
            with open(prefix + paths[item[0]], "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            return error

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:  # hashing leaves Python's lock
        for (index, stamp), digest in zip(changed, threads.map(hashed, changed), strict=True):
            if isinstance(digest, OSError):
                bad[index] = digest.strerror or str(digest)
                continue
            found[index] = digest
            if max(stamp[1:]) < now - _SETTLED_NS:
                remembered[paths[index]] = [*stamp, digest]
    if remembered != known:
        with suppress(OSError):
            _write(known_file, remembered)
    return found, bad


def forget(memory: Path) -> None:
    """Remove what a folder remembers."""
    for file in memory.glob(f"{'[0-9a-f]' * 32}.json"):
        file.unlink(missing_ok=True)


def _read(file: Path) -> dict[str, list[int | str]]:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write(file: Path, content: dict[str, list[int | str]]) -> None:
    """Write the whole file or nothing: other processes read it at any time."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=".")
    try:
        with os.fdopen(descriptor, "w") as opened:
            json.dump(content, opened)
        os.replace(temporary, file)
    except BaseException:
        os.unlink(temporary)
        raise
