"""Prediction with a network that is rebuilt from its config and loaded with saved weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cifar_exp.config.schema import Config, PredictionConfig
from cifar_exp.data.splits import Images
from cifar_exp.training import runtime

if TYPE_CHECKING:
    import keras


def probabilities(config: Config, weights: Path, where: str, images: Images) -> npt.NDArray[np.float32]:
    """Predict class probabilities.

    Args:
        config: of the run that trained the model; describes the network.
        weights: the .keras file that the run logged. Only its weights are read.
        where: where the weights come from, for error messages.
        images: (N, H, W, C) uint8, of the shape in the config.

    Returns:
        Class probabilities (N, C) float32.

    Raises:
        UserError: if the weights do not fit the network that the config describes.
    """
    # For a few images, starting a GPU takes longer than computing on the CPU.
    built = classifier(replace(config, training=replace(config.training, device="cpu")), weights, where)
    predicted: npt.NDArray[np.float32] = built.predict(images, verbose=0)
    return predicted


def classifier(config: Config, weights: Path, where: str) -> keras.Model:
    """Build the network of a config and load saved weights into it; the arguments are those of `load`.

    Returns:
        Model from images (N, H, W, C) uint8 to class probabilities (N, C) float32.
    """
    return load(config, weights, where)[1]


def load(
    config: Config, weights: Path, where: str, prediction: PredictionConfig | None = None
) -> tuple[keras.Model, keras.Model]:
    """Build the network of a config and load saved weights into it.

    Args:
        config: of the run that trained the model; describes the network, its precision and the device.
        weights: the .keras file that the run logged. Only its weights are read.
        where: where the weights come from, for error messages.
        prediction: the views of each image whose probabilities are averaged; None: as the config says.

    Returns:
        The model, which returns logits (N, C), and its classifier, which returns probabilities (N, C).

    Raises:
        UserError: if the weights do not fit the network that the config describes, or the device is not available.
    """
    runtime.prepare(config.training, config.seed)
    from cifar_exp.training import models

    model, _ = models.build(config.model, config.data.image_shape)
    models.load_weights(model, weights, where)
    return model, models.classifier(model, prediction or config.prediction)
