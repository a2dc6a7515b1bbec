"""What an earlier process has left in a run's folder, read off its journal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cifar_exp.tracking import journal
from cifar_exp.tracking.journal import Event

FINISHED = "FINISHED"
_DIVERGED = "diverged"  # it would again


@dataclass(frozen=True)
class Past:
    """A run that was begun in this folder."""

    folder: Path
    began: int
    """Milliseconds since 1970."""
    tags: dict[str, str]
    """As they were set last."""
    status: str | None
    """As it ended; None where its process was killed before it could tell, or goes on."""

    @classmethod
    def read(cls, folder: Path) -> Past | None:
        """None for a folder without the beginning of a run."""
        if not (folder / journal.FILE).exists():
            return None
        began, tags, status = None, {}, None
        for event in journal.read(folder):
            if not isinstance(event, Event):
                continue
            if event.kind == "start":
                began, tags = event.time, dict(event.content["tags"])
            elif event.kind in ("tags", "resume"):
                tags |= event.content
                status = None if event.kind == "resume" else status
            elif event.kind == "finish":
                status = event.content["status"]
        return None if began is None else cls(folder, began, tags, status)

    def can_go_on(self) -> bool:
        """Whether it was interrupted, by whatever would not happen again, and nobody else goes on with it."""
        stopped = self.status != FINISHED and self.tags.get("cifar_exp.outcome") != _DIVERGED
        return stopped and not journal.is_live(self.folder)


def interrupted(root: Path, tag: str, value: str) -> Past | None:
    """The last run in a folder of this one that has this tag and can go on."""
    found = (run for run in runs(root) if run.tags.get(tag) == value and run.can_go_on())
    return max(found, key=lambda run: run.began, default=None)


def set_aside(folder: Path) -> None:
    """Rename a folder, so that another run may have its name and nothing of this one is lost."""
    number = 1
    while (aside := folder.with_name(f"{folder.name}.{number}")).exists():
        number += 1
    folder.rename(aside)
    folder.mkdir()


def resumed(folder: Path) -> int:
    """How often its run was gone on with."""
    return sum(isinstance(event, Event) and event.kind == "resume" for event in journal.read(folder))


def known_metrics(folder: Path) -> set[tuple[str, int]]:
    """The name and step of every metric that was logged."""
    events = (event for event in journal.read(folder) if isinstance(event, Event) and event.kind == "metrics")
    return {(name, event.content["step"]) for event in events for name in event.content["values"]}


def runs(root: Path) -> Iterator[Past]:
    """Those that were begun in a folder of this one."""
    for path in root.glob(f"*/{journal.FILE}"):
        if run := Past.read(path.parent):
            yield run
