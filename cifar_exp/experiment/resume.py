"""Find runs of earlier commands, here or in the store, that can be resumed or have finished."""

from __future__ import annotations

import logging
from pathlib import Path

from cifar_exp.config.schema import Config
from cifar_exp.data import datasets
from cifar_exp.errors import UserError
from cifar_exp.tracking import fingerprint, initial_weights, local_run, run_tags, takeover
from cifar_exp.tracking.local_run import LocalRun
from cifar_exp.tracking.store import Store

log = logging.getLogger(__name__)


def find_interrupted(config: Config, wanted: str, folder: Path) -> Path | None:
    """Find an interrupted run that can be resumed.

    Args:
        config: settings of the run that is to be started.
        wanted: its fingerprint.
        folder: folder for the run.

    Returns:
        The folder of the interrupted run. None if there is none; then another run in `folder` has been set aside.
    """
    if config.resume == "auto":
        store, tags = Store.of(config.tracking), {run_tags.FINGERPRINT: wanted}
        found = LocalRun.read(folder)
        if found is None and config.sweep.name is None:
            found = local_run.interrupted(folder.parent, store, **tags)
        found = _newest(store, config.sweep.name, wanted, found, folder)
        if found and found.belongs_to(store, **tags) and found.can_resume():
            if found.folder != folder:
                local_run.remove_unused(folder)
            return found.folder
    if earlier := LocalRun.read(folder):
        log.info("%s: the earlier run %s is kept in %s", folder, earlier.name, local_run.set_aside(folder))
    return None


def is_finished(config: Config, folder: Path) -> bool:
    """Whether a run with this config has finished, in this folder or as part of the same sweep in the store."""
    store, own = Store.of(config.tracking), fingerprint_of(config)
    newest = _newest(store, config.sweep.name, own, LocalRun.read(folder), folder)
    if newest is None or newest.status != local_run.FINISHED or newest.can_resume():
        return False
    return newest.belongs_to(store, **{run_tags.FINGERPRINT: own})


def fingerprint_of(config: Config) -> str:
    """Fingerprint that a run with this config has on this machine.

    Raises:
        UserError: if its images or initial weights cannot be found.
    """
    wanted = config.training.start_from
    start = initial_weights.find(Store.of(config.tracking), wanted) if wanted else None
    return fingerprint.fingerprint(config, datasets.load(config.data), start)


def _newest(store: Store, sweep: str | None, wanted: str, local: LocalRun | None, folder: Path) -> LocalRun | None:
    """Return the local run, or the run from the store if another machine has continued it or there is no local one."""
    if not (store.is_server or local) or not store.exists() or store.away():
        return local
    try:
        with store.translate_errors():
            if local and local.belongs_to(store) and takeover.is_deleted(store, local.folder):
                log.warning("Run %s (%s) was deleted from %s: it is trained again", local.name, local.folder, store.uri)
                if local.folder == folder:
                    local_run.set_aside(folder)
                else:
                    local_run.set_journal_aside(local.folder)
                local = None
            if not store.is_server:
                return local
            if local and not (local.belongs_to(store) and takeover.is_continued_elsewhere(store, local.folder)):
                return local
            if local and local.folder == folder:
                local_run.set_aside(folder)
            if run := takeover.find_job(store, wanted, sweep):
                takeover.take_over(store, run, folder)
            return LocalRun.read(folder)
    except UserError as error:  # the store has just gone away
        log.warning("earlier runs could not be looked for: %s", error)
        return local
