"""What runs have left behind that the store does not know yet, or no more: sent, and their end told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cifar_exp.errors import UserError
from cifar_exp.tracking import journal, local_run
from cifar_exp.tracking.delivery import CHECKPOINTS, Away
from cifar_exp.tracking.heartbeat import REASON
from cifar_exp.tracking.journal import Event, Journal
from cifar_exp.tracking.local_run import LocalRun
from cifar_exp.tracking.replay import Replayer
from cifar_exp.tracking.store import Store


@dataclass(frozen=True)
class State:
    """Of the journal in a folder."""

    folder: Path
    name: str = "?"
    waiting: int = 0
    sent: int = 0
    """Just now."""
    run_id: str | None = None
    live: bool = False
    """A process is writing it, which sends it itself."""
    away: str | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether the store has all of it, or will have."""
        return self.live or not (self.waiting or self.problems)


def find(folders: Iterable[Path]) -> list[Path]:
    """Every folder with a journal, in the order in which their runs began: a sweep before its jobs.

    Raises:
        UserError: for a folder that is not there.
    """
    found = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder")
        for path in folder.rglob(journal.FILE):
            began = (event.time for event in journal.read(path.parent) if isinstance(event, Event))
            found[path.parent] = next(began, 0)
    return sorted(found, key=lambda folder: (found[folder], folder))


def look(folder: Path) -> State:
    """At a journal, without sending any of it."""
    replayer = Replayer(folder)
    return _state(replayer, live=journal.is_live(folder))


def send(folder: Path, uri: str | None = None, experiment: str | None = None) -> State:
    """Send what waits in a journal, and tell the end of a run whose process is gone.

    Args:
        folder: of the journal.
        uri: of another store than the journal names.
        experiment: another one in it.
    """
    try:
        held = Journal(folder)
    except UserError:
        return look(folder)
    with held:
        settle(held)
        replayer = Replayer(folder)
        before = replayer.progress.lines
        try:
            if uri or experiment:
                named = replayer.store
                replayer = Replayer(folder, Store(uri or named.uri, experiment or named.experiment))
                before = replayer.progress.lines
            replayer.send(again=True)
        except Away as away:
            return _state(replayer, sent=replayer.progress.lines - before, away=str(away))
        return _state(replayer, sent=replayer.progress.lines - before)


def settle(held: Journal) -> bool:
    """Tell that a run was killed, if its journal has no end: its process is gone, or this could not hold it."""
    left = LocalRun.read(held.folder)
    if left is None or left.status is not None:
        return False
    saved = sorted(path.name for path in (held.folder / CHECKPOINTS).glob("epoch-*"))
    resumable = f"the same command goes on from {saved[-1]}" if saved else "the same command begins it again"
    for path, sha256 in local_run.rewritten(held.folder).items():
        held.append("artifact", {"path": path, "sha256": sha256})
    held.append("tags", {"cifar_exp.outcome": "interrupted", REASON: f"its process is gone; {resumable}"})
    held.append("finish", {"status": "KILLED"}, safe=True)
    return True


def lose(store: Store, sweep: str, job: int) -> None:
    """Tell that a job of a sweep was killed, where its journal is lost with the machine that it ran on."""
    named = {"cifar_exp.sweep": sweep, "cifar_exp.job": str(job)}
    wanted = [f"tags.`{tag}` = '{value}'" for tag, value in named.items()] + ["attributes.status = 'RUNNING'"]
    for run in store.client.search_runs([store.experiment_id], " and ".join(wanted)):
        for tag, value in {"cifar_exp.outcome": "interrupted", REASON: "its machine is gone"}.items():
            store.client.set_tag(run.info.run_id, tag, value)
        store.client.set_terminated(run.info.run_id, "KILLED")


def _state(replayer: Replayer, sent: int = 0, away: str | None = None, live: bool = False) -> State:
    events = [event for event in journal.read(replayer.folder) if isinstance(event, Event)]
    starts = [event for event in events if event.kind == "start"]
    problems = [f"line {line}: {why}" for line, why in replayer.problems().items()]
    return State(
        replayer.folder,
        name=starts[0].content["name"] if starts else "?",
        waiting=replayer.waiting(),
        sent=sent,
        run_id=replayer.run_id,
        live=live,
        away=away,
        problems=problems,
    )
