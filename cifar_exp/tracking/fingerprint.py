"""Fingerprint of a run: a short hash of everything that decides its result."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, fields
from typing import Any

import cifar_exp
from cifar_exp import plugins
from cifar_exp.config import layers
from cifar_exp.config.schema import Config
from cifar_exp.data.splits import Splits
from cifar_exp.tracking.initial_weights import InitialWeights
from cifar_exp.training import runtime

_DECIDES_NOTHING = ("resume", "name", "note", "notify", "reference", "review", "search", "sweep", "tracking")
# Of the data: their effect shows in the images of the splits, which are hashed.
_DATA_DECIDES_NOTHING = ("dir", "file", "exclude", "relabel", "verify", "image_shape", "classes")
# Settings that there were from the first. One that was added later counts only where it is not the default, so that
# earlier runs keep their fingerprint.
_FIRST = {
    "data": ("name", "validation", "validation_share", "split_seed", "train_images"),
    "augmentation": ("name", "horizontal_flip", "zoom", "shift", "crop", "fill"),
    "optimizer": (
        *("name", "learning_rate", "schedule", "weight_decay", "clipnorm", "momentum", "nesterov", "beta_1", "beta_2"),
        *("rho", "epsilon", "amsgrad", "centered", "initial_accumulator_value"),
    ),
    "schedule": ("name", "decay", "warmup", "final"),
    "prediction": ("flip",),
    "training": (
        *("epochs", "start_from", "batch_size", "early_stopping", "checkpoint", "whiten", "label_smoothing"),
        *("precision", "ghost_batches", "steps_per_execution", "deterministic", "device"),
    ),
}


def fingerprint(config: Config, splits: Splits, start: InitialWeights | None = None) -> str:
    """Hash everything that decides the result of a run. Only one of several runs with the same hash has to be trained.

    The hash covers settings, images, initial weights, the version of this package and the name of the backend, because
    each backend draws other random numbers and stores another state in a checkpoint.

    Args:
        config: settings of the run; those that do not affect the result are left out.
        splits: the images.
        start: the trained weights that the run starts from, if any.

    Returns:
        16 hexadecimal digits.
    """
    settings = asdict(config)
    for key in _DECIDES_NOTHING:
        del settings[key]
    data = _decisive(config.data, "data")
    settings["data"] = {name: value for name, value in data.items() if name not in _DATA_DECIDES_NOTHING}
    settings["augmentation"] = _decisive(config.augmentation, "augmentation")
    settings["optimizer"] = _decisive(config.optimizer, "optimizer")
    settings["optimizer"]["schedule"] = _decisive(config.optimizer.schedule, "schedule")
    settings["training"] = _decisive(config.training, "training")
    settings["prediction"] = _decisive(config.prediction, "prediction")
    del settings["training"]["checkpoint"]
    settings["training"]["start_from"] = start.digest if start else None  # not the name that selects them
    deciding: list[Any] = [settings, splits.sha256, runtime.backend_name(), cifar_exp.__version__]
    if used := plugins.used(config.data.name, layers.kinds(config.model.layers)):
        deciding.append(used)
    decisive = json.dumps(deciding, sort_keys=True)
    return hashlib.sha256(decisive.encode()).hexdigest()[:16]


def _decisive(group: Any, name: str) -> dict[str, Any]:
    """The settings of a group, without those that were added later and have their default.

    Args:
        group: a dataclass of the config.
        name: key of `_FIRST`.
    """
    defaults = {f.name: f.default for f in fields(group)}
    return {key: value for key, value in asdict(group).items() if key in _FIRST[name] or value != defaults[key]}
