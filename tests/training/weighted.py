"""Objectives with weights, smoothing and penalties on the backend of this process; run as a program, it prints JSON.

The other backends need a process of their own.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from scipy.special import log_softmax

from cifar_exp.config.composition import plan
from cifar_exp.config.layers import parse
from cifar_exp.config.schema import ModelConfig
from cifar_exp.data.splits import Split, Splits, label_type
from cifar_exp.evaluation.evaluation import evaluate
from cifar_exp.training import fit, models, objective, runtime

OVERRIDES = (
    "data=digits", "optimizer=sgd", "optimizer.learning_rate=1e-30", "training.epochs=1", "training.device=cpu",
    "training.batch_size=40", "augmentation=flip_crop", "augmentation.fill=nearest",
)  # fmt: skip
WEIGHTED = {"c299": 5.0}
# Class weights, label smoothing and the exponent of the focal loss.
SETTINGS: dict[str, tuple[Any, float, float]] = {
    "none": ("none", 0.0, 0.0),
    "weighted": (WEIGHTED, 0.0, 0.0),
    "smoothed": ("none", 0.1, 0.0),
    "weighted and smoothed": (WEIGHTED, 0.1, 0.0),
    "weighted, smoothed and focal": (WEIGHTED, 0.1, 2.0),
}


def random_splits() -> Splits:
    """Images of 12 x 20 x 1 in 300 classes, all splits the same; more than half of them are in the last class."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 300, 200).astype(label_type(300))
    labels[:120] = 299
    images = np.repeat(np.repeat(generator.integers(0, 256, (200, 1, 1, 1)), 12, 1), 20, 2).astype(np.uint8)
    split = Split(images, labels)
    return Splits(split, split, split, tuple(f"c{i}" for i in range(300)), "random")


def answer(setting: str) -> dict[str, Any]:
    """Expected and logged figures of one epoch with a learning rate near 0.

    The losses are then means over the images at the initial weights, which NumPy computes as well.
    """
    weights, smoothing, gamma = SETTINGS[setting]
    config = plan(OVERRIDES, multirun=False).jobs[0]
    layers = parse(["Flatten", {"Dense": {"units": 300, "kernel_regularizer": {"L2": {"l2": 0.01}}}}], "m")
    config = replace(
        config,
        model=ModelConfig("m", layers, {}),
        data=replace(config.data, image_shape=(12, 20, 1), class_weights=weights),
        training=replace(config.training, label_smoothing=smoothing, focal_gamma=gamma),
    )
    splits = random_splits()
    images, labels = splits.test.images, splits.test.labels
    runtime.prepare(config.training, 0)
    model, _ = models.build(config.model, config.data.image_shape)
    history = fit.fit(model, splits, config, lambda epoch, metrics: None)
    result = evaluate(model, models.classifier(model), splits).test

    log_p = log_softmax(model.predict(images, verbose=0).astype(np.float64), axis=1)
    wanted = np.full((200, 300), smoothing / 300)
    wanted[np.arange(200), labels] += 1 - smoothing
    of_class = np.where((labels == 299) & (weights != "none"), 5.0, 1.0)
    penalty = 0.01 * float(np.square(model.layers[-2].get_weights()[0], dtype=np.float64).sum())
    minimized = float((-(wanted * (1 - np.exp(log_p)) ** gamma * log_p).sum(axis=1) * of_class).mean()) + penalty
    test = objective.value(model, objective.loss(config, splits), labels, result.log_probabilities)
    return {
        "objectives": [minimized, history["train/objective"][0], history["val/objective"][0], test],
        "losses": [
            float(-log_p[np.arange(200), labels].mean()),
            *(history["train/loss"][0], history["val/loss"][0], result.loss),
        ],
        "accuracies": [float((log_p.argmax(axis=1) == labels).mean()), history["train/accuracy"][0]],
        "balanced": result.metrics()["test/balanced_accuracy"],
        "type": str(result.predicted.dtype),
    }


if __name__ == "__main__":
    answers = {setting: answer(setting) for setting in ("none", "weighted, smoothed and focal")}
    assert keras.backend.backend() == "tensorflow" or "tensorflow" not in sys.modules  # which would take seconds
    print(json.dumps({"backend": keras.backend.backend(), **answers}))
