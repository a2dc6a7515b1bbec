"""What decides a run's result, as one short name: two runs of the same fingerprint need not both be trained."""

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
    """The hash of what decides a run's result: settings, images, first weights, backend, this package's version.

    The backend counts by its name: each draws its own random numbers and keeps its own state in a checkpoint.
    """
    settings = asdict(config)
    for key in _DECIDES_NOTHING:
        del settings[key]
    del settings["data"]["dir"], settings["data"]["verify"], settings["training"]["checkpoint"]
    settings["training"]["start_from"] = start.digest if start else None  # by what it is, not by what it was called
    decisive = json.dumps([settings, splits.sha256, runtime.backend_name(), cifar_exp.__version__], sort_keys=True)
    return hashlib.sha256(decisive.encode()).hexdigest()[:16]
