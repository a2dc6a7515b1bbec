"""Images as augmentation changes them for training."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from cifar_exp.config.training_schema import AugmentationConfig
from cifar_exp.training.augmentation import Augment

Array = npt.NDArray[Any]
SIZE = 32


def settings(**changed: Any) -> AugmentationConfig:
    return AugmentationConfig("test", **changed)


def changed(images: Array, seed: int = 0, **how: Any) -> Array:
    """The images as training sees them."""
    return np.asarray(keras.ops.convert_to_numpy(Augment(settings(**how), seed)(images, training=True)))
