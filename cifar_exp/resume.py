"""What an earlier command left, here or in the store, that this one goes on with or need not do again."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from cifar_exp import data, fingerprint
from cifar_exp.config import Config
from cifar_exp.errors import reason
from cifar_exp.tracking import adopt, origin, past
from cifar_exp.tracking.past import Past
from cifar_exp.tracking.store import Store, import_mlflow

log = logging.getLogger(__name__)


def begun(config: Config, wanted: str, folder: Path) -> Path | None:
    """The folder of the interrupted run of this fingerprint; None if there is none, and `folder` is free for it."""
    if config.resume == "auto":
        store, tags = Store.of(config.tracking), {fingerprint.TAG: wanted}
        found = Past.read(folder)
        if found is None and config.sweep.name is None:
            found = past.interrupted(folder.parent, store, **tags)
        found = _newest(store, config.sweep.name, wanted, found, folder)
        if found and found.is_of(store, **tags) and found.can_go_on():
            if found.folder != folder:
                shutil.rmtree(folder, ignore_errors=True)  # made by Hydra, for nothing
            return found.folder
    if Past.read(folder):
        past.set_aside(folder)
    return None


def is_finished(config: Config, folder: Path) -> bool:
    """Whether the run of this folder, or that of its sweep in the store, is of this config, and finished."""
    store, wanted = Store.of(config.tracking), config.training.start_from
    start = origin.find(store, wanted) if wanted else None
    own = fingerprint.fingerprint(config, data.load(config.data), start)
    left = _newest(store, config.sweep.name, own, Past.read(folder), folder)
    if left is None or left.status != past.FINISHED or left.can_go_on():
        return False
    return left.is_of(store, **{fingerprint.TAG: own})


def _newest(store: Store, sweep: str | None, wanted: str, left: Past | None, folder: Path) -> Past | None:
    """What was left here, unless another machine has gone on with it, or with what was never here: that is fetched."""
    if not store.is_server or store.check(may_be_away=True):
        return left
    import_mlflow()
    from mlflow.exceptions import MlflowException

    try:
        if left and not (left.is_of(store) and adopt.is_anothers(store, left.folder)):
            return left
        if left and left.folder == folder:
            past.set_aside(folder)
        if run := adopt.job(store, wanted, sweep):
            adopt.adopt(store, run, folder)
        return Past.read(folder)
    except (MlflowException, OSError) as error:  # it went away just now
        log.warning("%s could not be asked for earlier runs: %s", store.uri, reason(error))
        return left
