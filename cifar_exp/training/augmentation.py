"""Random flips, zooms, shifts and crops as matrix products, so that XLA compiles them into the step.

Keras's own RandomZoom, RandomTranslation and RandomCrop take XLA away from the whole step. Each change here is
one along the rows and one along the columns, and resampling one axis is a product with a square matrix of
interpolation weights: out = R @ image @ C^T.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from cifar_exp.config.schema import AugmentationConfig


class Augment(keras.layers.Layer):  # type: ignore[misc]
    """(N, H, W, C) in, the same shape and range out; the identity outside training.

    An output pixel at p samples the input at s = zoom * (p - c) + c + shift, c the centre of the axis (15.5 of 32),
    mirrored first where the image is flipped, with linear interpolation. Under fill: nearest, the default, that is
    the image that Keras's ImageDataGenerator makes of the same parameters, and they are drawn as it draws them
    (keras/src/legacy/preprocessing/image.py of Keras 3): zoom_range, height_shift_range and width_shift_range for
    each axis on its own, horizontal_flip for every other image.

    Two things differ. Keras-Preprocessing up to 1.1.2 took c = 16.5, so that its zoomed images lie (zoom - 1) pixels
    further to one side: a mean of 2 in 255 on CIFAR-10 at zoom: 0.2, which itself changes them by 15. And the fills
    constant and reflect are those of a padded image, as crops take them (numpy.pad): black interpolated into the
    border and no edge pixel repeated, where the generator cuts off and repeats it.
    """

    def __init__(self, config: AugmentationConfig, seed: int, **kwargs: Any) -> None:
        super().__init__(dtype="float32", **kwargs)  # positions in half precision would blur the image
        self.settings = config
        self.random = keras.random.SeedGenerator(seed)

    def call(self, images: Any, training: bool = False) -> Any:
        """Change every image its own way."""
        if not training:
            return images
        images = ops.cast(images, "float32")
        _, height, width, channels = images.shape
        count = ops.shape(images)[0]
        rows = self._weights(count, height, flip=False)
        columns = self._weights(count, width, flip=self.settings.horizontal_flip)
        images = ops.matmul(rows, ops.reshape(images, (-1, height, width * channels)))
        images = ops.reshape(images, (-1, height, width, channels))
        return ops.einsum("nij,nhjc->nhic", columns, images)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The input's."""
        return input_shape

    def _weights(self, count: Any, size: int, flip: bool) -> Any:
        """(count, size, size): the weight of each input position in each output position of one axis."""
        positions = ops.arange(size, dtype="float32")
        centre = (size - 1) / 2
        source = ops.broadcast_to(positions[None, :] - centre, (count, size))
        if flip:
            source = ops.where(self._uniform(count, 1.0) < 0, -source, source)
        if self.settings.zoom:
            source = source * (1 + self._uniform(count, self.settings.zoom))
        if self.settings.shift:
            source = source + self._uniform(count, self.settings.shift * size)
        if crop := self.settings.crop:
            source = source + ops.floor(self._uniform(count, crop + 0.5) + 0.5)
        source = source + centre
        if self.settings.fill == "nearest":
            source = ops.clip(source, 0, size - 1)
        elif self.settings.fill == "reflect":  # ... 2 1 0 1 2 ... n-2 n-1 n-2 ...
            source = (size - 1) - ops.abs((size - 1) - ops.mod(source, 2 * (size - 1)))
        # Linear interpolation: a hat around each position. Outside the image every hat is zero: black.
        return ops.relu(1 - ops.abs(source[:, :, None] - positions[None, None, :]))

    def _uniform(self, count: Any, limit: float) -> Any:
        return keras.random.uniform((count, 1), -limit, limit, seed=self.random)
