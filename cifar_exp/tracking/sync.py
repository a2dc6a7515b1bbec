"""Send what runs have left in their folders to the store, and record the end of runs whose process is gone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cifar_exp.errors import UserError
from cifar_exp.tracking import journal, local_run, run_tags
from cifar_exp.tracking.delivery import CHECKPOINTS, StoreAway
from cifar_exp.tracking.journal import Event, Journal
from cifar_exp.tracking.local_run import LocalRun
from cifar_exp.tracking.replay import Replayer
from cifar_exp.tracking.store import Store


@dataclass(frozen=True)
class State:
    """State of the journal in a folder."""

    folder: Path
    name: str = "?"
    waiting: int = 0
    """Number of events that are not sent yet."""
    sent: int = 0
    """Number of events that `send` has just sent."""
    run_id: str | None = None
    live: bool = False
    """Whether a process is writing the journal; it also sends it."""
    away: str | None = None
    """Why the store does not accept events now."""
    problems: list[str] = field(default_factory=list)
    """Lines that could not be sent, with the reason."""

    @property
    def is_whole(self) -> bool:
        """Whether the store has all events, or a running process is sending them."""
        return self.live or not (self.waiting or self.problems)


def find(folders: Iterable[Path]) -> list[Path]:
    """Find all folders with a journal, in the order in which their runs started: a sweep before its jobs.

    Args:
        folders: searched with all their subfolders.

    Raises:
        UserError: if a folder does not exist.
    """
    found = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder")
        for path in folder.rglob(journal.FILE):
            if path.parent.name == local_run.ADOPTED:
                continue
            began = (event.time for event in journal.read(path.parent) if isinstance(event, Event))
            found[path.parent] = next(began, 0)
    return sorted(found, key=lambda folder: (found[folder], folder))


def state_of(folder: Path) -> State:
    """Read the state of a journal without sending anything."""
    replayer = Replayer(folder)
    return _state(replayer, live=journal.is_live(folder))


def send(folder: Path, uri: str | None = None, experiment: str | None = None) -> State:
    """Send the waiting events of a journal, and record the end of a run whose process is gone.

    A journal that another process is writing is left alone.

    Args:
        folder: folder of the journal.
        uri: tracking URI of the store; default: the store that the journal names.
        experiment: name of the experiment; default: the one that the journal names.
    """
    try:
        locked = Journal(folder)
    except UserError:
        return state_of(folder)
    with locked:
        record_kill(locked)
        replayer = Replayer(folder)
        before = replayer.progress.lines
        away: str | None = None
        try:
            if uri or experiment:
                named = replayer.store
                replayer = Replayer(folder, Store(uri or named.uri, experiment or named.experiment))
                before = replayer.progress.lines
            replayer.send(again=True)
        except StoreAway as refusal:
            away = str(refusal)
        sent = max(0, replayer.progress.lines - max(before, replayer.known))
        return _state(replayer, sent=sent, away=away)


def record_kill(locked: Journal) -> bool:
    """Record that a run was killed if its journal has no end.

    Args:
        locked: the journal. Since this process could lock it, the process of the run is gone.

    Returns:
        Whether the run was without an end.
    """
    run = LocalRun.read(locked.folder)
    if run is None or run.status is not None:
        return False
    saved = sorted(path.name for path in (locked.folder / CHECKPOINTS).glob("epoch-*"))
    resumable = f"the same command goes on from {saved[-1]}" if saved else "the same command begins it again"
    for path, sha256 in local_run.rewritten_artifacts(locked.folder).items():
        locked.append("artifact", {"path": path, "sha256": sha256})
    reason = f"its process is gone; {resumable}"
    locked.append("tags", {run_tags.OUTCOME: run_tags.INTERRUPTED, run_tags.REASON: reason})
    locked.append("finish", {"status": "KILLED"}, safe=True)
    return True


def record_lost_job(store: Store, sweep: str, job: int) -> None:
    """Set the run of a job to KILLED in the store if its journal was lost with the machine that it ran on.

    Args:
        store: has the run.
        sweep: name of the sweep.
        job: number of the job, from 1.
    """
    named = {run_tags.SWEEP: sweep, run_tags.JOB: str(job)}
    wanted = [f"tags.`{tag}` = '{value}'" for tag, value in named.items()] + ["attributes.status = 'RUNNING'"]
    for run in store.client.search_runs([store.experiment_id], " and ".join(wanted)):
        for tag, value in {run_tags.OUTCOME: run_tags.INTERRUPTED, run_tags.REASON: "its machine is gone"}.items():
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
