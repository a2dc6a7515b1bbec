"""What training minimizes: the cross-entropy of smoothed labels weighted by class, and the penalties of the layers.

It is logged as `train/objective`, `val/objective` and `test/objective`. The logged losses are the cross-entropy of the
labels alone, so that they can be compared between parts of the data and between runs.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from cifar_exp.config.schema import Config
from cifar_exp.data.datasets import Labels, Splits
from cifar_exp.data.weights import class_weights


def loss(config: Config, splits: Splits) -> Any:
    """Return the loss function of labels (N,) and logits (N, classes), without the penalties of the layers.

    Keras has label smoothing for one-hot labels only. Its `class_weight` adds a third array to each batch; here the
    weights are constants of the loss, which works on all backends and in a `Loop`.

    Args:
        config: its label smoothing and class weights are used.
        splits: the training labels determine balanced weights.

    Raises:
        UserError: if the class weights do not fit the classes.
    """
    smoothing = config.training.label_smoothing
    weights = class_weights(config.data.class_weights, splits.training.labels, splits.classes)
    if not smoothing and weights is None:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def smoothed_and_weighted(labels: Any, logits: Any) -> Any:
        labels = keras.ops.cast(keras.ops.reshape(labels, (-1,)), "int32")
        if smoothing:
            one_hot = keras.ops.one_hot(labels, logits.shape[-1])
            losses = keras.losses.categorical_crossentropy(one_hot, logits, from_logits=True, label_smoothing=smoothing)
        else:
            losses = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        return losses if weights is None else losses * keras.ops.take(keras.ops.convert_to_tensor(weights), labels)

    return smoothed_and_weighted


def metrics() -> list[keras.metrics.Metric]:
    """Return new metrics `accuracy` and `cross_entropy`, in nats, of labels (N,) and logits (N, classes)."""
    return [
        keras.metrics.SparseCategoricalAccuracy(name="accuracy"),
        keras.metrics.SparseCategoricalCrossentropy(name="cross_entropy", from_logits=True),
    ]


def value(model: keras.Model, loss: Any, labels: Labels, log_probabilities: npt.NDArray[np.float32]) -> float:
    """Compute the objective of predictions, as Keras's `evaluate` does.

    Args:
        model: the penalties of its weights are added. Those of activations are not: they need the images.
        loss: from this module.
        labels: (N,) uint8 or uint16.
        log_probabilities: (N, classes); the softmax does not distinguish them from logits.
    """
    losses = keras.ops.convert_to_numpy(loss(labels.astype(np.int32), keras.ops.convert_to_tensor(log_probabilities)))
    return float(losses.mean()) + sum(float(keras.ops.convert_to_numpy(penalty)) for penalty in model.losses)
