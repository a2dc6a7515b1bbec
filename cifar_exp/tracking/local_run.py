"""Read what an earlier process left in the folder of a run, from its journal."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cifar_exp.errors import UserError
from cifar_exp.tracking import journal, run_tags
from cifar_exp.tracking.journal import Event
from cifar_exp.tracking.progress import SENT
from cifar_exp.tracking.store import Store

ARTIFACTS = "artifacts"  # folder beside the journal
ADOPTED = ".adopted"  # folder of the journal of a run that is being taken over from a store
HYDRA = ".hydra"  # folder in which Hydra keeps the config of a job
FINISHED = "FINISHED"
_LOG = "logs/run.log"


@dataclass(frozen=True)
class LocalRun:
    """A run that was started in a local folder."""

    folder: Path
    name: str
    store: Store
    """The store to which the run is sent."""
    began: int
    """Time of its first event, in milliseconds since 1970."""
    ended: int
    """Time of its last event, in milliseconds since 1970."""
    tags: dict[str, str]
    """Tags with their latest values."""
    status: str | None
    """Final status; None if the run is still running or its process was killed before it could log the end."""
    params: dict[str, str]

    @classmethod
    def read(cls, folder: Path) -> LocalRun | None:
        """Read the run of a folder; None if the folder has no journal or the journal has no start."""
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
        store = Store(content["uri"], content["experiment"])
        return cls(folder, content["name"], store, began, ended, tags, status, content.get("params", {}))

    def belongs_to(self, store: Store, **tags: str) -> bool:
        """Whether the run belongs to this store and experiment and has these tags."""
        same_store = (self.store.uri, self.store.experiment) == (store.absolute_uri, store.experiment)
        return same_store and tags.items() <= self.tags.items()

    @property
    def is_pruned(self) -> bool:
        """Whether a search has paused the run before its last epoch."""
        return self.status == FINISHED and self.tags.get(run_tags.OUTCOME) == run_tags.PRUNED

    def can_resume(self) -> bool:
        """Whether the run did not finish or was pruned, did not diverge, and is not being written by a process."""
        finished = self.status == FINISHED and not self.is_pruned and journal.was_closed(self.folder)
        return not (finished or self.tags.get(run_tags.OUTCOME) == run_tags.DIVERGED or journal.is_live(self.folder))


def interrupted(root: Path, store: Store, **tags: str) -> LocalRun | None:
    """Find the latest run in a subfolder of `root` that belongs to the store, has these tags and can be resumed."""
    found = (run for run in runs(root) if run.belongs_to(store, **tags) and run.can_resume())
    return max(found, key=lambda run: run.began, default=None)


def check_folder(folder: Path, setting: str) -> None:
    """Check that a folder is free or has a run or a sweep of ours, whose files are replaced, renamed and removed.

    Args:
        folder: for a run or a sweep.
        setting: that names it, for the error message.

    Raises:
        UserError: if it has anything else, or is the current folder or a parent of it.
    """
    place = folder.resolve()
    if place in (Path.cwd(), *Path.cwd().parents):
        raise UserError(f"{setting}: got {folder}, expected a folder of its own, not the current one or a parent of it")
    if not place.exists():
        return
    if not place.is_dir():
        raise UserError(f"{setting}: got {folder}, which is a file, expected a folder")
    is_ours = any(place.glob(f"{journal.FILE}*")) or (place / ADOPTED).is_dir()  # also a journal that was set aside
    if setting == "hydra.sweep.dir":  # a node of a cluster has journals of some jobs, but not the sweep's own
        is_ours = is_ours or any(path.parent.name.isdecimal() for path in place.glob(f"*/{journal.FILE}"))
    if not is_ours and {path.name for path in place.iterdir()} - {HYDRA}:
        raise UserError(f"{setting}: got {folder}, which has files that are no run, expected a new or an empty folder")


def remove_unused(folder: Path) -> None:
    """Remove a folder that Hydra has created and that nothing else was written to."""
    shutil.rmtree(folder / HYDRA, ignore_errors=True)
    with suppress(OSError):  # it has other files
        folder.rmdir()


def set_aside(folder: Path) -> Path:
    """Rename a folder by appending a number and create it again empty, for another run; return its new path.

    Raises:
        UserError: if a process is writing the run of the folder, or a job of its sweep.
    """
    for written in (folder, *(path.parent for path in folder.glob(f"*/{journal.FILE}"))):
        journal.refuse_live(written)
    number = 1
    while (aside := folder.with_name(f"{folder.name}.{number}")).exists():
        number += 1
    folder.rename(aside)
    folder.mkdir()
    return aside


def set_journal_aside(folder: Path) -> None:
    """Rename the journal of a folder by appending a number, so that another run can start among the same files.

    Raises:
        UserError: if a process is writing it.
    """
    journal.refuse_live(folder)
    number = 1
    while (folder / f"{journal.FILE}.{number}").exists():
        number += 1
    for name in (journal.FILE, SENT):
        if (folder / name).exists():
            (folder / name).rename(folder / f"{name}.{number}")


def end(folder: Path) -> tuple[int, Event] | None:
    """Line, from 1, and event of the end of the run; None if it has not ended or was resumed since."""
    found = None
    for line, event in enumerate(journal.read(folder), 1):
        if isinstance(event, Event) and event.kind in ("finish", "resume"):
            found = (line, event) if event.kind == "finish" else None
    return found


def process_names(folder: Path) -> set[str]:
    """Names of the processes that have written the journal of a folder."""
    events = (event for event in journal.read(folder) if isinstance(event, Event))
    tags = [{"start": event.content.get("tags"), "resume": event.content}.get(event.kind) for event in events]
    return {logged[run_tags.PROCESS] for logged in tags if logged and run_tags.PROCESS in logged}


def count_checkpoints(folder: Path) -> int:
    """Number of checkpoints that were logged."""
    events = (event for event in journal.read(folder) if isinstance(event, Event))
    return sum(event.kind == "checkpoint" for event in events)


def count_resumes(folder: Path) -> int:
    """Number of times that the run was resumed."""
    return sum(isinstance(event, Event) and event.kind == "resume" for event in journal.read(folder))


def last_started(folder: Path) -> int:
    """When the run was started or last resumed, in milliseconds since 1970; 0 if it was never started."""
    events = (event for event in journal.read(folder) if isinstance(event, Event))
    return max((event.time for event in events if event.kind in ("start", "resume")), default=0)


def rewritten_artifacts(folder: Path) -> dict[str, str]:
    """Find artifacts that have changed since they were last logged, and the log file if it was never logged.

    A process that is stopped may have written such files again without logging them.

    Returns:
        Path in the artifact folder -> SHA-256 of the current file.
    """
    events = (event for event in journal.read(folder) if isinstance(event, Event))
    logged = {event.content["path"]: event.content["sha256"] for event in events if event.kind == "artifact"}
    root = folder / ARTIFACTS
    now = {path: sha256_of(root / path) for path in {*logged, _LOG} if (root / path).is_file()}
    return {path: sha256 for path, sha256 in sorted(now.items()) if logged.get(path) != sha256}


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def metrics(folder: Path) -> dict[str, dict[int, float]]:
    """Read all logged metrics: metric name -> step -> value."""
    found: dict[str, dict[int, float]] = {}
    for event in journal.read(folder):
        if isinstance(event, Event) and event.kind == "metrics":
            for name, value in event.content["values"].items():
                found.setdefault(name, {})[event.content["step"]] = value
    return found


def runs(root: Path) -> Iterator[LocalRun]:
    """Read all runs that were started in subfolders of `root`."""
    for path in root.glob(f"*/{journal.FILE}"):
        if run := LocalRun.read(path.parent):
            yield run
