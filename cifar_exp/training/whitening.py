"""Whitening filters for the first convolution of a model, computed from the training images."""

from __future__ import annotations

import keras
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from cifar_exp.data.mapped import StoredImages
from cifar_exp.errors import UserError

_IMAGES = 2000  # more images change the filters little
_VALUES = 20_000_000  # of all patches, which are in memory together
_EPSILON = 5e-4  # added to each variance: components with almost no variance are noise, not to be amplified


def whiten(model: keras.Model, images: StoredImages) -> None:
    """Set the filters of the first convolution so that they whiten its input, and freeze them.

    The filters are the principal components of the input patches in descending order of variance, scaled to unit
    variance, and their negatives, so that a ReLU after them loses nothing. (Keller Jordan, 94% on CIFAR-10 in 3.29
    Seconds on a Single GPU, https://arxiv.org/abs/2404.00498)

    Args:
        model: from `models.build`. Its first layer with weights must be a Conv2D with an even number of filters, at
            most twice the number of values in a patch.
        images: training images, (N, H, W, C) uint8.

    Raises:
        UserError: if they have fewer than two patches of the size of a filter.
    """
    first = next(layer for layer in model.layers if layer.weights)
    height, width, channels, filters = first.kernel.shape
    values = height * width * channels
    _, rows, columns, _ = first.input.shape
    patches_per_image = max(0, rows - height + 2) // 2 * (max(0, columns - width + 2) // 2)
    count = min(_IMAGES, len(images), max(1, _VALUES // max(1, patches_per_image * values)))
    if count * patches_per_image < 2:
        raise UserError(
            f"training.whiten: got {count * patches_per_image} patches of {height} x {width} in the training images, "
            "expected at least 2"
        )
    inputs = keras.Model(model.input, first.input).predict(images[:count], verbose=0).astype(np.float32)
    windows = sliding_window_view(inputs, (height, width), axis=(1, 2))  # (N, rows, columns, channels, height, width)
    patches = windows[:, ::2, ::2].transpose(0, 1, 2, 4, 5, 3).reshape(-1, values)  # neighbours are similar
    variances, components = np.linalg.eigh(np.atleast_2d(np.cov(patches, rowvar=False)))  # ascending
    scaled = (components / np.sqrt(variances + _EPSILON))[:, ::-1][:, : filters // 2]
    first.kernel.assign(np.concatenate([scaled, -scaled], axis=1).reshape(first.kernel.shape))
    first.trainable = False
