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


def classifier(config: Config, weights: Path, where: str, precision: str | None = None) -> keras.Model:
    """Rebuild the network that a run logged.

    Args:
        config: of the run that trained the model; describes the network.
        weights: the .keras file that the run logged. Only its weights are read.
        where: where the weights come from, for error messages.
        precision: to compute with, if not that of the run. The weights are float32 in any case.

    Returns:
        A model from images (N, H, W, C) uint8, of the shape in the config, to probabilities (N, classes) float32.

    Raises:
        UserError: if the weights do not fit the network that the config describes.
    """
    # For a few images, starting a GPU takes longer than computing on the CPU.
    training = replace(config.training, device="cpu", precision=precision or config.training.precision)
    runtime.prepare(training, config.seed)
    from cifar_exp.training import models

    model, _ = models.build(config.model, config.data.image_shape)
    models.load_weights(model, weights, where)
    return models.classifier(model, config.prediction.flip)


def probabilities(config: Config, weights: Path, where: str, images: Images) -> npt.NDArray[np.float32]:
    """Predict class probabilities.

    Args:
        config: as for `classifier`.
        weights: likewise.
        where: likewise.
        images: (N, H, W, C) uint8, of the shape in the config.

    Returns:
        Class probabilities (N, C) float32.

    Raises:
        UserError: if the weights do not fit the network that the config describes.
    """
    predicted: npt.NDArray[np.float32] = classifier(config, weights, where).predict(images, verbose=0)
    return predicted
