"""What an earlier command left, here or in the store, that this one goes on with or need not do again."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from cifar_exp.config.schema import Config
from cifar_exp.data import datasets
from cifar_exp.errors import UserError
from cifar_exp.tracking import fingerprint, initial_weights, local_run, takeover
from cifar_exp.tracking.local_run import LocalRun
from cifar_exp.tracking.store import Store

log = logging.getLogger(__name__)


def begun(config: Config, wanted: str, folder: Path) -> Path | None:
    """The folder of the interrupted run of this fingerprint; None if there is none, and `folder` is free for it."""
    if config.resume == "auto":
        store, tags = Store.of(config.tracking), {fingerprint.TAG: wanted}
        found = LocalRun.read(folder)
        if found is None and config.sweep.name is None:
            found = local_run.interrupted(folder.parent, store, **tags)
        found = _newest(store, config.sweep.name, wanted, found, folder)
        if found and found.is_of(store, **tags) and found.can_go_on():
            if found.folder != folder:
                shutil.rmtree(folder, ignore_errors=True)  # made by Hydra, for nothing
            return found.folder
    if LocalRun.read(folder):
        local_run.set_aside(folder)
    return None


def is_finished(config: Config, folder: Path) -> bool:
    """Whether the run of this folder, or that of its sweep in the store, is of this config, and finished."""
    store, wanted = Store.of(config.tracking), config.training.start_from
    start = initial_weights.find(store, wanted) if wanted else None
    own = fingerprint.fingerprint(config, datasets.load(config.data), start)
    left = _newest(store, config.sweep.name, own, LocalRun.read(folder), folder)
    if left is None or left.status != local_run.FINISHED or left.can_go_on():
        return False
    return left.is_of(store, **{fingerprint.TAG: own})


def _newest(store: Store, sweep: str | None, wanted: str, left: LocalRun | None, folder: Path) -> LocalRun | None:
    """What was left here, unless another machine has gone on with it, or with what was never here: that is fetched."""
    if not (store.is_server or left) or not store.exists() or store.away():
        return left
    try:
        with store.refusing():
            if left and left.is_of(store) and takeover.is_deleted(store, left.folder):
                log.warning("Run %s (%s) was deleted from %s: it is trained again", left.name, left.folder, store.uri)
                if left.folder == folder:
                    local_run.set_aside(folder)
                else:
                    local_run.set_journal_aside(left.folder)
                left = None
            if not store.is_server:
                return left
            if left and not (left.is_of(store) and takeover.is_anothers(store, left.folder)):
                return left
            if left and left.folder == folder:
                local_run.set_aside(folder)
            if run := takeover.job(store, wanted, sweep):
                takeover.adopt(store, run, folder)
            return LocalRun.read(folder)
    except UserError as error:  # it went away just now
        log.warning("earlier runs could not be looked for: %s", error)
        return left
