"""What a run needs, checked before anything trains."""

from __future__ import annotations

import logging
from collections.abc import Collection
from functools import cache

from cifar_exp import console, notify
from cifar_exp.config import memory
from cifar_exp.config.schema import Config
from cifar_exp.data import analysis, datasets, summary
from cifar_exp.data.catalog import OFFICIAL
from cifar_exp.data.schema import DataConfig
from cifar_exp.errors import UserError
from cifar_exp.tracking import initial_weights
from cifar_exp.tracking.store import Store
from cifar_exp.training import runtime

log = logging.getLogger(__name__)


def check(config: Config, earlier: Collection[str] = (), elsewhere: bool = False) -> None:
    """Check what a run needs: backend, memory, images, GPU, tracking store, initial weights.

    Receivers of messages with a mistake and a store that is away are named in a line; nothing is refused for them.

    Args:
        config: settings of the run.
        earlier: names of runs that will have ended when this one starts.
        elsewhere: whether the run uses other machines, whose memory and GPUs cannot be checked from here.

    Raises:
        UserError: for the first item that is missing.
    """
    check_settings(config, earlier, elsewhere)
    splits = datasets.load(config.data)
    if config.data.name not in OFFICIAL and config.data.name != "digits":
        _warn_of_near_duplicates(config.data, splits.sha256)
    if config.training.device == "gpu" and not elsewhere:
        runtime.require_gpu()
    if mistake := notify.mistake():
        console.say_once(mistake)
    store = Store.of(config.tracking)
    if away := store.check(may_be_away=True):
        console.say_once(f"{store.uri} is away ({away}); what is logged waits in the run's folder until it is back")


def check_settings(config: Config, earlier: Collection[str] = (), elsewhere: bool = False) -> None:
    """Check what a run needs, but for images, GPU and store. Nothing is printed. Arguments are those of `check`.

    Raises:
        UserError: for the first item that is missing.
    """
    if not config.tracking.experiment.strip():
        raise UserError("tracking.experiment: got no name, expected that of an MLflow experiment")
    runtime.check_backend()
    if not elsewhere:
        memory.check(config, runtime.may_use_gpu(config.training.device), runtime.backend_name())
    if config.training.start_from and config.training.start_from not in earlier:
        initial_weights.find(Store.of(config.tracking), config.training.start_from)


@cache
def _warn_of_near_duplicates(config: DataConfig, sha256: str) -> None:
    """Log which images of a user's own look the same in several splits, once for the same images."""
    splits = datasets.load(config)
    found = analysis.analyse(config.name, analysis.parts_of(splits), splits.classes, splits.source, splits.files)
    if line := summary.near_duplicates(found):
        log.warning("%s: %s; cifar-exp data shows them", splits.source, line)
