"""Heartbeats: each running process updates a tag of its run every half minute, so that dead runs are recognized."""

from __future__ import annotations

import logging
import os
import platform
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING
from uuid import uuid4

from cifar_exp.tracking import deleted, run_tags
from cifar_exp.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

log = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"  # name of the artifact folder
DEAD_AFTER = timedelta(minutes=5)  # clocks of machines differ, and a network may be away for a while
_RUNNING, _KILLED = "RUNNING", "KILLED"


def heartbeat_tag() -> dict[str, str]:
    """Tag with the current time, which shows that the process of a run is alive."""
    return {run_tags.HEARTBEAT: f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}


def process_tags() -> dict[str, str]:
    """Tags that name this process as the writer of a run, with its first heartbeat."""
    return {run_tags.PROCESS: _process(os.getpid()), **heartbeat_tag()}


def is_dead(run: Run) -> bool:
    """Whether a run has the status RUNNING but its last heartbeat is older than `DEAD_AFTER`.

    False for a run that never had a heartbeat, because the state of its process is unknown.
    """
    last = run.data.tags.get(run_tags.HEARTBEAT)
    return run.info.status == _RUNNING and last is not None and datetime.now(UTC) - _time(last) > DEAD_AFTER


def end_dead_runs(store: Store) -> list[str]:
    """Set all dead runs of the experiment to KILLED.

    Returns:
        One sentence for each run that was set to KILLED.

    Raises:
        MlflowException: if the store refuses or cannot be reached.
    """
    client = store.client
    from mlflow.entities import RunTag

    messages: list[str] = []
    experiment = client.get_experiment_by_name(store.experiment)
    if experiment is None or experiment.lifecycle_stage == deleted.STAGE:
        return messages
    running = f"attributes.status = '{_RUNNING}'"
    for run in client.search_runs([experiment.experiment_id], running, max_results=1000):
        if not is_dead(run):
            continue
        last = run.data.tags[run_tags.HEARTBEAT]
        saved = any(item.file_size for item in store.artifacts(run).list_artifacts(CHECKPOINTS))
        resumable = "the same command goes on from its checkpoint" if saved else "the same command begins it again"
        cause = f"its process has not been heard of since {last}; {resumable}"
        tags = {run_tags.OUTCOME: run_tags.INTERRUPTED, run_tags.REASON: cause}
        client.log_batch(run.info.run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        client.set_terminated(run.info.run_id, _KILLED, int(_time(last).timestamp() * 1000))
        messages.append(f"run {run.info.run_name} ({run.info.run_id}) is KILLED: {cause}")
    return messages


def _time(heartbeat: str) -> datetime:
    try:
        last = datetime.fromisoformat(heartbeat)
        return last if last.tzinfo else last.replace(tzinfo=UTC)
    except ValueError:  # users can edit tags
        return datetime.now(UTC)


@cache
def _process(pid: int) -> str:
    """Unique name of a process, also among processes with the same number and after a fork."""
    return f"{platform.node()}-{pid}-{uuid4().hex[:8]}"
