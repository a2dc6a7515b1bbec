"""Examples of training images after their random changes."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from cifar_exp.config.training_schema import AugmentationConfig
from cifar_exp.training import augmentation, mixing


def changed(images: npt.NDArray[np.uint8], config: AugmentationConfig, seed: int) -> npt.NDArray[np.uint8] | None:
    """Change images as training does, augmented and then mixed with one another.

    The random numbers are not those of any epoch. No variable of a model is touched.

    Args:
        images: (N, H, W, C).
        config: which changes to make.
        seed: of the changes.

    Returns:
        (N, H, W, C), rounded; None if nothing changes images.
    """
    seen: Any = images
    if augmentation.is_on(config):
        seen = augmentation.Augment(config, seed)(seen, training=True)
    if mixing.is_on(config):
        seen, _share = mixing.Mix(config, seed)(seen, training=True)
    return None if seen is images else np.rint(keras.ops.convert_to_numpy(seen)).astype(np.uint8)
