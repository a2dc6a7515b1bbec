"""Prediction with a network that is rebuilt from its config and loaded with saved weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cifar_exp.config.schema import Config
from cifar_exp.data.datasets import Images
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
    predicted: npt.NDArray[np.float32] = classifier(config, weights, where).predict(images, verbose=0)
    return predicted


def classifier(config: Config, weights: Path, where: str) -> keras.Model:
    """Build a classifier on the CPU and load its weights. The arguments and errors are those of `probabilities`.

    Returns:
        A model from images (N, H, W, C) uint8 to class probabilities (N, C) float32.
    """
    # For a few images, starting a GPU takes longer than computing on the CPU.
    runtime.prepare(replace(config.training, device="cpu"), config.seed)
    from cifar_exp.training import models

    model, _ = models.build(config.model, config.data.image_shape)
    models.load_weights(model, weights, where)
    return models.classifier(model, config.prediction.flip)
