"""What an earlier process has left in a run's folder, read off its journal."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cifar_exp.tracking import journal
from cifar_exp.tracking.heartbeat import PROCESS
from cifar_exp.tracking.journal import Event
from cifar_exp.tracking.progress import SENT
from cifar_exp.tracking.store import Store

ARTIFACTS = "artifacts"  # the folder beside the journal
FINISHED = "FINISHED"
_LOG = "logs/run.log"
_DIVERGED = "diverged"  # it would again


@dataclass(frozen=True)
class LocalRun:
    """A run that was begun in this folder."""

    folder: Path
    name: str
    store: Store
    """That holds it, or will."""
    began: int
    ended: int
    """Milliseconds since 1970: its beginning, and its last event."""
    tags: dict[str, str]
    """As they were set last."""
    status: str | None
    """As it ended; None where its process was killed before it could tell, or goes on."""

    @classmethod
    def read(cls, folder: Path) -> LocalRun | None:
        """None for a folder without the beginning of a run."""
        if not (folder / journal.FILE).exists():
            return None
        content, began, ended, tags, status = {}, None, 0, {}, None
        for event in journal.read(folder):
            if not isinstance(event, Event):
                continue
            ended = event.time
            if event.kind == "start":
                content, began, tags = event.content, event.time, dict(event.content["tags"])
            elif event.kind in ("tags", "resume"):
                tags |= event.content
                status = None if event.kind == "resume" else status
            elif event.kind == "finish":
                status = event.content["status"]
        if began is None:
            return None
        return cls(folder, content["name"], Store(content["uri"], content["experiment"]), began, ended, tags, status)

    def is_of(self, store: Store, **tags: str) -> bool:
        """Whether this store holds it, and it has these tags."""
        there = (self.store.uri, self.store.experiment) == (store.absolute_uri, store.experiment)
        return there and tags.items() <= self.tags.items()

    def can_go_on(self) -> bool:
        """Whether it was interrupted, by whatever would not happen again, and nobody else goes on with it."""
        ended = self.status == FINISHED and journal.was_closed(self.folder)
        return not (ended or self.tags.get("cifar_exp.outcome") == _DIVERGED or journal.is_live(self.folder))


def interrupted(root: Path, store: Store, **tags: str) -> LocalRun | None:
    """The last run in a folder of this one that has these tags and can go on."""
    found = (run for run in runs(root) if run.is_of(store, **tags) and run.can_go_on())
    return max(found, key=lambda run: run.began, default=None)


def set_aside(folder: Path) -> None:
    """Rename a folder, so that another run may have its name and nothing of this one is lost."""
    number = 1
    while (aside := folder.with_name(f"{folder.name}.{number}")).exists():
        number += 1
    folder.rename(aside)
    folder.mkdir()


def set_journal_aside(folder: Path) -> None:
    """Rename a folder's journal, so that another run may begin there among the files of this one."""
    number = 1
    while (folder / f"{journal.FILE}.{number}").exists():
        number += 1
    for name in (journal.FILE, SENT):
        if (folder / name).exists():
            (folder / name).rename(folder / f"{name}.{number}")


def processes(folder: Path) -> set[str]:
    """That have written its journal."""
    events = (event for event in journal.read(folder) if isinstance(event, Event))
    tags = [{"start": event.content.get("tags"), "resume": event.content}.get(event.kind) for event in events]
    return {known[PROCESS] for known in tags if known and PROCESS in known}


def checkpoints(folder: Path) -> int:
    """How many of them were logged."""
    events = (event for event in journal.read(folder) if isinstance(event, Event))
    return sum(event.kind == "checkpoint" for event in events)


def resumed(folder: Path) -> int:
    """How often its run was gone on with."""
    return sum(isinstance(event, Event) and event.kind == "resume" for event in journal.read(folder))


def rewritten(folder: Path) -> dict[str, str]:
    """Artifacts that differ from what was logged last under their path, or of the log, were never logged.

    A process that is stopped has written some of them anew and has not come to log them.

    Returns:
        Path below the artifacts -> SHA-256 of the file as it is now.
    """
    events = (event for event in journal.read(folder) if isinstance(event, Event))
    logged = {event.content["path"]: event.content["sha256"] for event in events if event.kind == "artifact"}
    root = folder / ARTIFACTS
    now = {path: hash_of(root / path) for path in {*logged, _LOG} if (root / path).is_file()}
    return {path: sha256 for path, sha256 in sorted(now.items()) if logged.get(path) != sha256}


def hash_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def metrics(folder: Path) -> dict[str, dict[int, float]]:
    """Every metric that was logged: its value at each step."""
    found: dict[str, dict[int, float]] = {}
    for event in journal.read(folder):
        if isinstance(event, Event) and event.kind == "metrics":
            for name, value in event.content["values"].items():
                found.setdefault(name, {})[event.content["step"]] = value
    return found


def runs(root: Path) -> Iterator[LocalRun]:
    """Those that were begun in a folder of this one."""
    for path in root.glob(f"*/{journal.FILE}"):
        if run := LocalRun.read(path.parent):
            yield run
