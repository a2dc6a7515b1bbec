"""Images -> class probabilities, by a network that is built anew and given saved weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cifar_exp.config.schema import Config
from cifar_exp.data.datasets import Images
from cifar_exp.training import runtime


def probabilities(config: Config, weights: Path, where: str, images: Images) -> npt.NDArray[np.float32]:
    """Class probabilities (N, C) float32.

    Args:
        config: of the run that trained the model; it says how to build the network.
        weights: the .keras file that the run logged. Nothing but its weights is read.
        where: it comes from, for a refusal.
        images: (N, 32, 32, 3) uint8.

    Raises:
        UserError: if the weights are not those of the network that the config describes.
    """
    # For a few images a GPU would take longer to start than to compute.
    runtime.prepare(replace(config.training, device="cpu"), config.seed)
    from cifar_exp.training import models

    model, _ = models.build(config.model)
    models.load_weights(model, weights, where)
    classifier = models.classifier(model, config.prediction.flip)
    predicted: npt.NDArray[np.float32] = classifier.predict(images, verbose=0)
    return predicted
