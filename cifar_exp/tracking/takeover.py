"""A run that was begun elsewhere, taken over: its folder becomes what it would be had the run been begun in it."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from cifar_exp.tracking import deleted, local_run
from cifar_exp.tracking.delivery import ARTIFACTS, CHECKPOINTS, KEY_TAG
from cifar_exp.tracking.heartbeat import PROCESS, is_gone
from cifar_exp.tracking.journal import FILE, Journal
from cifar_exp.tracking.progress import Progress
from cifar_exp.tracking.store import Store
from cifar_exp.training.checkpoint import Checkpoints

if TYPE_CHECKING:
    from mlflow.entities import Run

log = logging.getLogger(__name__)

_LOG = "logs/run.log"
_SWEEP, _OUTCOME = "cifar_exp.sweep", "cifar_exp.outcome"


def job(store: Store, fingerprint: str, sweep: str | None) -> Run | None:
    """The last run of this fingerprint that ended and that is not to be trained again.

    In a sweep it is one of the sweep's own, by whomever it was run, finished or interrupted; otherwise an interrupted
    one of this user.
    """
    condition = f"tags.`cifar_exp.fingerprint` = '{fingerprint}'"
    if sweep:
        condition += f" AND tags.`{_SWEEP}` = '{sweep}'"
    for run in _search(store, condition):
        interrupted = _is_interrupted(run)
        if sweep and (interrupted or run.info.status == "FINISHED"):
            return run
        if not sweep and interrupted and _SWEEP not in run.data.tags and _is_own(store, run):
            return run
    return None


def sweep_of(store: Store, command: str) -> Run | None:
    """The parent run of the last sweep that this user started with this command; a deleted one, if it left jobs."""
    found = _search(store, "tags.`cifar_exp.kind` = 'sweep'", also_deleted=True)
    for run in found:
        if run.data.tags.get("cifar_exp.overrides") != command or not _is_own(store, run):
            continue
        if run.info.lifecycle_stage != deleted.STAGE or _search(store, f"tags.`{_SWEEP}` = '{run.data.tags[_SWEEP]}'"):
            return run
    return None


def is_anothers(store: Store, folder: Path) -> bool:
    """Whether another process went on with the run of this folder."""
    run_id = Progress.read(folder).run_id
    own = store.client.get_run(run_id).data.tags.get(PROCESS) if run_id else None
    return own is not None and own not in local_run.processes(folder)


def is_deleted(store: Store, folder: Path) -> bool:
    """Whether the run of this folder was deleted in its store.

    Raises:
        UserError: if its experiment was.
    """
    sent = Progress.read(folder)
    if sent.run_id is None or sent.uri not in (None, store.absolute_uri):  # it was sent elsewhere
        return False
    return store.is_deleted(sent.run_id)


def nest(store: Store, sweep: str, parent_id: str) -> int:
    """Nest every run of a sweep under this parent run; how many were nested elsewhere, or nowhere."""
    from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

    moved = 0
    for run in _search(store, f"tags.`{_SWEEP}` = '{sweep}'"):
        is_job = run.data.tags.get("cifar_exp.kind") != "sweep"
        if is_job and run.data.tags.get(MLFLOW_PARENT_RUN_ID) != parent_id:
            store.client.set_tag(run.info.run_id, MLFLOW_PARENT_RUN_ID, parent_id)
            moved += 1
    return moved


def adopt(store: Store, run: Run, folder: Path) -> None:
    """Write the journal that this run would have here, with its metrics and times; fetch what it goes on from."""
    tags, info = dict(run.data.tags), run.info
    being_made = folder / ".adopted"
    shutil.rmtree(being_made, ignore_errors=True)
    is_finished = info.status == "FINISHED"
    checkpoint = None if is_finished else _fetch(store, run, folder)
    with Journal(being_made) as journal:
        own = {key: value for key, value in tags.items() if not key.startswith("mlflow.")}
        content = {
            **{"key": tags[KEY_TAG], "uri": store.absolute_uri, "experiment": store.experiment},
            **{"name": info.run_name, "tags": own, "params": dict(run.data.params)},
            "sweep": tags.get(_SWEEP) if tags.get("cifar_exp.kind") != "sweep" else None,
        }
        journal.append("start", content, when=info.start_time)
        lines = 1
        for (time, step), values in _metrics(store, run).items():
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
        log.info("Run %s (%s) is taken over from %s", info.run_name, info.run_id, tags.get("cifar_exp.process", "?"))


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
    return [run for run in found if KEY_TAG in run.data.tags]


def _is_own(store: Store, run: Run) -> bool:
    return bool(run.info.user_id == store.user or run.data.tags.get("mlflow.user") == store.user)


def _is_interrupted(run: Run) -> bool:
    """By something that would not happen again; and no process goes on with it."""
    if run.info.status == "RUNNING":
        return is_gone(run)
    return run.info.status in ("KILLED", "FAILED") and run.data.tags.get(_OUTCOME) != "diverged"


def _metrics(store: Store, run: Run) -> dict[tuple[int, int], dict[str, float]]:
    """(time, step) -> what was logged then, in the order of time."""
    found: dict[tuple[int, int], dict[str, float]] = defaultdict(dict)
    for name in run.data.metrics:
        for point in store.client.get_metric_history(run.info.run_id, name):
            found[point.timestamp, point.step][name] = point.value
    return dict(sorted(found.items()))


def _fetch(store: Store, run: Run, folder: Path) -> Path | None:
    """The log so far, and the newest checkpoint, whose file it gives back."""
    artifacts = store.artifacts(run)
    if any(item.path == _LOG for item in artifacts.list_artifacts("logs")):
        (folder / ARTIFACTS).mkdir(parents=True, exist_ok=True)
        artifacts.download_artifacts(_LOG, str(folder / ARTIFACTS))
    saved = Checkpoints(folder / CHECKPOINTS)
    for item in artifacts.list_artifacts(CHECKPOINTS):
        with tempfile.TemporaryDirectory(dir=folder) as fetched:
            saved.add(Path(artifacts.download_artifacts(item.path, fetched)))
    return saved.latest()
