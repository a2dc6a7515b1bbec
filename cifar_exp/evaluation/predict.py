"""Prediction with a network that is rebuilt from its config and loaded with saved weights."""

from __future__ import annotations

import math
import zipfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cifar_exp.config import architecture, memory
from cifar_exp.config.schema import Config, PredictionConfig
from cifar_exp.data.splits import Images
from cifar_exp.errors import UserError
from cifar_exp.training import runtime

if TYPE_CHECKING:
    import keras


_FLOAT = 4  # bytes


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
        UserError: if the weights do not fit the network that the config describes, the network does not fit in memory,
            or the device is not available.
    """
    _check_size(config, weights, where)
    runtime.prepare(config.training, config.seed)
    from cifar_exp.training import models

    model, _ = models.build(config.model, config.data.image_shape)
    models.load_weights(model, weights, where)
    return model, models.classifier(model, prediction or config.prediction)


def _check_size(config: Config, weights: Path, where: str) -> None:
    """Refuse a network that its weights or the memory cannot hold before it is built. Its config may be anyone's.

    Layers of unknown shape are not counted, so nothing is refused that could run.
    """
    image = config.data.image_shape
    sizes, _ = architecture.sizes(config.model.layers, f"model {config.model.name!r}", image)
    needed = _FLOAT * sum(size.parameters for size in sizes)
    with suppress(zipfile.BadZipFile, OSError), zipfile.ZipFile(weights) as saved:  # refused where it is read
        if needed > (held := sum(item.file_size for item in saved.infolist())):
            raise UserError(f"{where} does not fit: the model needs {needed:,} bytes of weights, and it holds {held:,}")
    value = _FLOAT if config.training.precision == "float32" else _FLOAT // 2
    largest = value * max(math.prod(image), *(size.values for size in sizes))
    if largest > (available := memory.total()):
        raise UserError(
            f"{where}: a layer needs {largest:,} bytes for one image, expected at most the {available:,} here"
        )
