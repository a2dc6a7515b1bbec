"""Take over runs from other machines: rebuild their local folders from what the store has."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from cifar_exp.config.checks import is_sweep_name
from cifar_exp.errors import UserError
from cifar_exp.tracking import deleted, local_run, run_tags
from cifar_exp.tracking.delivery import ARTIFACTS, CHECKPOINTS
from cifar_exp.tracking.heartbeat import is_dead
from cifar_exp.tracking.journal import FILE, Journal
from cifar_exp.tracking.progress import Progress
from cifar_exp.tracking.store import Store
from cifar_exp.training.checkpoint import Checkpoints

if TYPE_CHECKING:
    from mlflow.entities import Run

log = logging.getLogger(__name__)

_LOG = "logs/run.log"


def find_job(store: Store, fingerprint: str, sweep: str | None) -> Run | None:
    """Find the latest run with this fingerprint that can be taken over.

    Args:
        store: searched for the run.
        fingerprint: of the wanted run.
        sweep: name of the sweep. With it, finished or interrupted runs of the sweep by any user are considered;
            without it, interrupted runs of this user that are not part of a sweep.
    """
    condition = f"tags.`{run_tags.FINGERPRINT}` = '{fingerprint}'"
    if sweep:
        condition += f" AND tags.`{run_tags.SWEEP}` = '{sweep}'"
    for run in _search(store, condition):
        interrupted = _is_interrupted(run)
        if sweep and (interrupted or run.info.status == "FINISHED"):
            return run
        if not sweep and interrupted and run_tags.SWEEP not in run.data.tags and _is_own(store, run):
            return run
    return None


def find_jobs(store: Store, sweep: str) -> list[Run]:
    """Find all runs of the jobs of a sweep, the latest first."""
    found = _search(store, f"tags.`{run_tags.SWEEP}` = '{sweep}'")
    return [run for run in found if run.data.tags.get(run_tags.KIND) != run_tags.SWEEP_KIND]


def find_sweep_of_command(store: Store, command: str) -> Run | None:
    """Find the parent run of the last sweep that this user started with this command; a deleted one if it has jobs.

    Its name becomes an override and a folder. Anyone can log any name, so one that no sweep can have is left out.
    """
    found = _search(store, f"tags.`{run_tags.KIND}` = '{run_tags.SWEEP_KIND}'", also_deleted=True)
    for run in found:
        name = run.data.tags.get(run_tags.SWEEP, "")
        if run.data.tags.get(run_tags.OVERRIDES) != command or not is_sweep_name(name) or not _is_own(store, run):
            continue
        if run.info.lifecycle_stage != deleted.STAGE or _search(store, f"tags.`{run_tags.SWEEP}` = '{name}'"):
            return run
    return None


def look_up(store: Store, find: Callable[[], Run | None]) -> Run | None:
    """Find a sweep in the store; None if the store has just gone away.

    Raises:
        UserError: if the store refuses the user.
    """
    try:
        with store.translate_errors():
            return find()
    except UserError as error:
        status = getattr(error.__cause__, "get_http_status_code", lambda: HTTPStatus.BAD_REQUEST)()
        if status < HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.TOO_MANY_REQUESTS:
            raise
        log.warning("earlier sweeps could not be looked for: %s", error)
        return None


def is_continued_elsewhere(store: Store, folder: Path) -> bool:
    """Whether a process in another folder or on another machine has continued the run of this folder."""
    run_id = Progress.read(folder).run_id
    own = store.client.get_run(run_id).data.tags.get(run_tags.PROCESS) if run_id else None
    return own is not None and own not in local_run.process_names(folder)


def is_deleted(store: Store, folder: Path) -> bool:
    """Whether the run of this folder was deleted from the store.

    Raises:
        UserError: if its whole experiment was deleted.
    """
    sent = Progress.read(folder)
    if sent.run_id is None or sent.uri not in (None, store.absolute_uri):  # not sent, or sent to another store
        return False
    return store.is_deleted(sent.run_id)


def nest(store: Store, sweep: str, parent_id: str) -> int:
    """Nest all runs of a sweep under a parent run.

    Args:
        store: has the runs.
        sweep: name of the sweep.
        parent_id: id of the parent run.

    Returns:
        Number of runs that had no parent or another one.
    """
    from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

    moved = 0
    for run in _search(store, f"tags.`{run_tags.SWEEP}` = '{sweep}'"):
        is_job = run.data.tags.get(run_tags.KIND) != run_tags.SWEEP_KIND
        if is_job and run.data.tags.get(MLFLOW_PARENT_RUN_ID) != parent_id:
            store.client.set_tag(run.info.run_id, MLFLOW_PARENT_RUN_ID, parent_id)
            moved += 1
    return moved


def take_over(store: Store, run: Run, folder: Path) -> None:
    """Make a folder look as if a run had been started in it, so that the run can be resumed there.

    Its journal is written from the store, with metrics and times. Of an unfinished run the log and the newest
    checkpoint are downloaded.

    Args:
        store: has the run.
        run: the run.
        folder: local folder for it.
    """
    tags, info = dict(run.data.tags), run.info
    being_made = folder / local_run.ADOPTED  # it stays if this is stopped, and marks what is there as ours
    shutil.rmtree(being_made, ignore_errors=True)
    being_made.mkdir(parents=True)
    is_finished = info.status == "FINISHED" and tags.get(run_tags.OUTCOME) != run_tags.PRUNED
    checkpoint = None if is_finished else _fetch(store, run, folder)
    metrics = _metrics(store, run)  # before the journal is begun: the store may go away
    with Journal(being_made) as journal:
        own = {key: value for key, value in tags.items() if not key.startswith("mlflow.")}
        content = {
            **{"key": tags[run_tags.JOURNAL], "uri": store.absolute_uri, "experiment": store.experiment},
            **{"name": info.run_name, "tags": own, "params": dict(run.data.params)},
            "sweep": tags.get(run_tags.SWEEP) if tags.get(run_tags.KIND) != run_tags.SWEEP_KIND else None,
        }
        journal.append("start", content, when=info.start_time)
        lines = 1
        for (time, step), values in metrics.items():
            journal.append("metrics", {"step": step, "values": values}, when=time)
            lines += 1
        if checkpoint:
            journal.append("checkpoint", {"file": checkpoint.name, "place": 0})
            lines += 1
        if info.status != "RUNNING":
            journal.append("finish", {"status": info.status}, safe=True, when=info.end_time)
            lines += 1
    Progress(lines, info.run_id, store.experiment_id, store.absolute_uri).write(folder)
    (being_made / FILE).rename(folder / FILE)
    shutil.rmtree(being_made)
    if not is_finished:
        log.info("Run %s (%s) is taken over from %s", info.run_name, info.run_id, tags.get(run_tags.PROCESS, "?"))


def _search(store: Store, condition: str, also_deleted: bool = False) -> list[Run]:
    from mlflow.entities import ViewType

    found: list[Run] = []
    token: str | None = ""
    while token is not None:
        page = store.client.search_runs(
            [store.experiment_id],
            condition,
            ViewType.ALL if also_deleted else ViewType.ACTIVE_ONLY,
            order_by=["attributes.start_time DESC"],
            max_results=1000,
            page_token=token or None,
        )
        found += page
        token = page.token or None
    return [run for run in found if run_tags.JOURNAL in run.data.tags]


def _is_own(store: Store, run: Run) -> bool:
    return bool(run.info.user_id == store.user or run.data.tags.get("mlflow.user") == store.user)


def _is_interrupted(run: Run) -> bool:
    """Whether a run was interrupted, did not diverge, and is not being continued by a process."""
    if run.info.status == "RUNNING":
        return is_dead(run)
    return run.info.status in ("KILLED", "FAILED") and run.data.tags.get(run_tags.OUTCOME) != run_tags.DIVERGED


def _metrics(store: Store, run: Run) -> dict[tuple[int, int], dict[str, float]]:
    """Read all metrics of a run: (time, step) -> metric name -> value, sorted by time."""
    found: dict[tuple[int, int], dict[str, float]] = defaultdict(dict)
    for name in run.data.metrics:
        for point in store.client.get_metric_history(run.info.run_id, name):
            found[point.timestamp, point.step][name] = point.value
    return dict(sorted(found.items()))


def _fetch(store: Store, run: Run, folder: Path) -> Path | None:
    """Download the log and the checkpoints of a run; return the newest checkpoint file, if any."""
    artifacts = store.artifacts(run)
    if any(item.path == _LOG for item in artifacts.list_artifacts("logs")):
        (folder / ARTIFACTS).mkdir(parents=True, exist_ok=True)
        artifacts.download_artifacts(_LOG, str(folder / ARTIFACTS))
    saved = Checkpoints(folder / CHECKPOINTS)
    for item in artifacts.list_artifacts(CHECKPOINTS):
        with tempfile.TemporaryDirectory(dir=folder) as fetched:
            saved.add(Path(artifacts.download_artifacts(item.path, fetched)))
    return saved.latest()
