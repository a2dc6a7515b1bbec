"""What the receivers of messages are told about runs and sweeps."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cifar_exp import notify
from cifar_exp.config.schema import Config
from cifar_exp.errors import UserError
from cifar_exp.sweep.result import JobResult
from cifar_exp.tracking import addresses
from cifar_exp.tracking.store import Store

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)


def about_run(config: Config, result: JobResult, folder: Path) -> None:
    """Send a message that a run failed or collapsed. Of a sweep, only the first such job is reported.

    Args:
        config: of the run.
        result: of the run.
        folder: of the run; that of its sweep is the parent folder.
    """
    failed = result.status == "FAILED"
    is_told = (failed and config.notify.failed) or (result.collapsed and config.notify.collapsed)
    if not is_told or not notify.has_receivers():
        return
    what = "failed" if failed else "collapsed"
    where = f" of sweep {config.sweep.name}" if config.sweep.name else ""
    said = result.error if failed else "Its accuracy is no better than chance."
    body = "\n".join(filter(None, [said, _address(config, result)]))
    title = f"Run {result.name}{where} {what}"
    if config.sweep.name:
        notify.send_once(folder.parent, what, title, body)
    else:
        notify.send(title, body)


def about_sweep(
    config: Config, name: str, status: str, frame: pd.DataFrame, remarks: Sequence[str], address: str
) -> None:
    """Tell that a sweep or a search has ended.

    Args:
        config: of one of its jobs.
        name: of the sweep.
        status: FINISHED, FAILED or KILLED.
        frame: results of its jobs, see `parent.table`.
        remarks: of a search.
        address: where it can be looked at.
    """
    if not config.notify.sweep_finished:
        return
    finished = int((frame["status"] == "FINISHED").sum())
    ended = {"FINISHED": "has finished", "KILLED": "was stopped"}.get(status, "has failed")
    lines = [f"{finished} of {len(frame)} finished.", *remarks]
    scored = frame.dropna(subset=["test/accuracy"]).sort_values("test/accuracy", ascending=False)
    best = scored.head(1).to_dict("records")
    lines += [f"Best test accuracy: {one['test/accuracy']:.4f} ({one['name']})." for one in best]
    notify.send(f"Sweep {name} {ended}", "\n".join([*lines, address]))


def _address(config: Config, result: JobResult) -> str:
    """Web address of a run; empty if it has none, or the server is away: a message stops no sweep."""
    store = Store.of(config.tracking)
    try:
        return addresses.run_page(store, result.run_id) if result.run_id and store.is_server else ""
    except UserError as error:
        log.debug("run %s has no address to tell: %s", result.run_id, error)
        return ""
