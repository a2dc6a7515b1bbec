"""Whether the process of a run lives, as the store can tell: it says so every half minute."""

from __future__ import annotations

import logging
import os
import platform
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING
from uuid import uuid4

from cifar_exp.tracking import deleted
from cifar_exp.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

log = logging.getLogger(__name__)

HEARTBEAT, PROCESS, REASON = "cifar_exp.heartbeat", "cifar_exp.process", "cifar_exp.reason"
CHECKPOINTS = "checkpoints"  # the artifact folder
GONE_AFTER = timedelta(minutes=5)  # clocks of machines differ, and a network may be away for a while
_RUNNING, _KILLED = "RUNNING", "KILLED"


def beat() -> dict[str, str]:
    """The tag that says that a process lives now."""
    return {HEARTBEAT: f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}


def signature() -> dict[str, str]:
    """The tags by which a run is this process's."""
    return {PROCESS: _process(os.getpid()), **beat()}


def is_gone(run: Run) -> bool:
    """Whether nothing was heard for long of what should run. Of a run that never said anything it is not known."""
    heard = run.data.tags.get(HEARTBEAT)
    return run.info.status == _RUNNING and heard is not None and datetime.now(UTC) - _time(heard) > GONE_AFTER


def end_the_gone(store: Store) -> list[str]:
    """Tell the store of every run of the experiment whose process is gone that it was killed.

    Returns:
        What was told of each, a sentence.

    Raises:
        MlflowException: if the store does not take it.
    """
    client = store.client
    from mlflow.entities import RunTag

    told: list[str] = []
    experiment = client.get_experiment_by_name(store.experiment)
    if experiment is None or experiment.lifecycle_stage == deleted.STAGE:
        return told
    running = f"attributes.status = '{_RUNNING}'"
    for run in client.search_runs([experiment.experiment_id], running, max_results=1000):
        if not is_gone(run):
            continue
        heard = run.data.tags[HEARTBEAT]
        saved = any(item.file_size for item in store.artifacts(run).list_artifacts(CHECKPOINTS))
        resumable = "the same command goes on from its checkpoint" if saved else "the same command begins it again"
        why = f"its process has not been heard of since {heard}; {resumable}"
        tags = {"cifar_exp.outcome": "interrupted", REASON: why}
        client.log_batch(run.info.run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        client.set_terminated(run.info.run_id, _KILLED, int(_time(heard).timestamp() * 1000))
        told.append(f"run {run.info.run_name} ({run.info.run_id}) is KILLED: {why}")
    return told


def _time(heard: str) -> datetime:
    try:
        return datetime.fromisoformat(heard)
    except ValueError:  # a tag may be edited
        return datetime.now(UTC)


@cache
def _process(pid: int) -> str:
    """One name for each process, also of those that share a number or were forked."""
    return f"{platform.node()}-{pid}-{uuid4().hex[:8]}"
