"""Fingerprint of a run: a short hash of everything that decides its result."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

import cifar_exp
from cifar_exp.config.schema import Config
from cifar_exp.data.datasets import Splits
from cifar_exp.tracking.initial_weights import InitialWeights
from cifar_exp.training import runtime

TAG = "cifar_exp.fingerprint"
_DECIDES_NOTHING = ("resume", "name", "note", "reference", "review", "sweep", "tracking")


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
    del settings["data"]["dir"], settings["data"]["verify"], settings["training"]["checkpoint"]
    settings["training"]["start_from"] = start.digest if start else None  # not the name that selects them
    decisive = json.dumps([settings, splits.sha256, runtime.backend_name(), cifar_exp.__version__], sort_keys=True)
    return hashlib.sha256(decisive.encode()).hexdigest()[:16]
