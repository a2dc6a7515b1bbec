"""Trainings of a few steps, for the tests of training."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import keras
import numpy as np

from cifar_exp.config.composition import plan
from cifar_exp.data import datasets
from cifar_exp.data.splits import Splits
from cifar_exp.training import fit as fitting
from cifar_exp.training import models, runtime
from cifar_exp.training.checkpoint import Checkpoints
from cifar_exp.training.fit import History

MEASURED = [  # what does not depend on the machine
    "train/loss", "train/objective", "train/accuracy", "train/learning_rate",
    "val/loss", "val/objective", "val/accuracy",
]  # fmt: skip
NAMES = {*MEASURED, "train/epoch_seconds", "train/images_per_second"}
# 200 images in 7 batches of at most 32; a model of one dense layer behind dropout.
SMALL = (
    "data=digits",
    "data.train_images=200",
    "model=dense",
    "model.layers=[Flatten,{Dropout:{rate:0.3}},{Dense:{units:10}}]",
    "optimizer=sgd",
    "training.epochs=3",
)
STEPS = 7
EXACT = "training.deterministic=true"


@dataclass(frozen=True)
class Trained:
    model: keras.Model
    history: History
    told: list[tuple[int, dict[str, float]]]
    splits: Splits


@cache
def fit(*overrides: str) -> Trained:
    """Train as a run does."""
    return go_on(overrides)


def go_on(overrides: tuple[str, ...], folder: Path | None = None, stop_after: int | None = None) -> Trained:
    """Train as a run does, from the checkpoints of this folder, if there are any; stopped after an epoch."""
    config = plan([*SMALL, *overrides], multirun=False).jobs[0]
    splits = datasets.load(config.data)
    runtime.prepare(config.training, config.seed)
    told: list[tuple[int, dict[str, float]]] = []

    def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
        told.append((epoch, metrics))
        if epoch == stop_after:
            raise KeyboardInterrupt

    try:
        model, _ = models.build(config.model, config.data.image_shape)
        history = fitting.fit(model, splits, config, on_epoch, Checkpoints(folder) if folder else None)
        return Trained(model, history, told, splits)
    finally:
        keras.config.set_dtype_policy("float32")


def measured(history: History) -> dict[str, list[float]]:
    return {name: history[name] for name in MEASURED}


def accuracy(trained: Trained) -> float:
    logits = trained.model.predict(trained.splits.validation.images, verbose=0)
    return float(np.mean(logits.argmax(axis=1) == trained.splits.validation.labels))


def assert_equal(one: Trained, other: Trained) -> None:
    """Two trainings have the same result, to the last bit."""
    assert measured(one.history) == measured(other.history)
    for first, second in zip(one.model.get_weights(), other.model.get_weights(), strict=True):
        assert np.array_equal(first, second)
