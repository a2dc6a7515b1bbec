"""What training minimizes: the cross-entropy of smoothed labels, or the focal loss, and the penalties of the layers.

It is logged as `train/objective`, `val/objective` and `test/objective`. The logged losses are the cross-entropy of the
labels alone, so that they can be compared between parts of the data and between runs.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from cifar_exp.config.schema import Config
from cifar_exp.data.splits import Labels, Splits
from cifar_exp.data.weights import class_weights


def loss(config: Config, splits: Splits) -> Any:
    """Return the loss of labels (N,) and logits (N, classes) for each image, without the penalties of the layers.

    With a `focal_gamma` it is the focal loss (Lin et al., 2017), the sum over the classes of
    -label * (1 - p)^gamma * ln(p). The labels are one-hot, or smoothed. Weights of the classes stand for its alpha.

    Keras has label smoothing for one-hot labels only. Its `class_weight` adds a third array to each batch; here the
    weights are constants of the loss, which works on all backends and in a `Loop`.

    Args:
        config: its label smoothing, focal gamma and class weights are used.
        splits: the training labels determine balanced weights.

    Raises:
        UserError: if the class weights do not fit the classes.
    """
    smoothing, gamma = config.training.label_smoothing, config.training.focal_gamma
    weights = class_weights(config.data.class_weights, splits.training.labels, splits.classes)

    def of_image(labels: Any, logits: Any) -> Any:
        labels = keras.ops.cast(keras.ops.reshape(labels, (-1,)), "int32")
        one_hot = keras.ops.one_hot(labels, classes := logits.shape[-1])
        if gamma:
            losses = _focal((1 - smoothing) * one_hot + smoothing / classes, logits, gamma)
        elif smoothing:
            losses = keras.losses.categorical_crossentropy(one_hot, logits, from_logits=True, label_smoothing=smoothing)
        else:
            losses = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        return losses if weights is None else losses * keras.ops.take(keras.ops.convert_to_tensor(weights), labels)

    return of_image


def _focal(labels: Any, logits: Any, gamma: float) -> Any:
    """Return the focal loss of each image.

    Keras's own is of probabilities that are at least 1e-7. So an image has no gradient where that of its label is less.

    Args:
        labels: (N, classes) probabilities.
        logits: (N, classes).
        gamma: exponent.
    """
    log_p = keras.ops.log_softmax(logits, axis=-1)
    rest = keras.ops.maximum(1 - keras.ops.exp(log_p), keras.config.epsilon())  # at 0, a root has no finite gradient
    return -keras.ops.sum(labels * keras.ops.power(rest, gamma) * log_p, axis=-1)


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
    # not `model.losses`: those of activations are tensors of the last training step
    penalties = (weight.regularizer(weight) for weight in model.trainable_weights if weight.regularizer is not None)
    return float(losses.mean()) + sum(float(keras.ops.convert_to_numpy(penalty)) for penalty in penalties)
