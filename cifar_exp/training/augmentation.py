"""Random flips, zooms, shifts and crops as matrix products, which XLA can compile; colours and covered squares.

With Keras's own RandomZoom, RandomTranslation and RandomCrop, XLA is switched off for the whole training step. All
these changes can be made along the rows and along the columns separately. Resampling along one axis is a product with a
square matrix of interpolation weights: out = R @ image @ C^T.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import keras
from keras import ops

from cifar_exp.config.training_schema import AugmentationConfig

_NOT_CHANGES = ("name", "fill", "mixup", "cutmix")  # the last two are changes that `mixing` makes


def is_on(config: AugmentationConfig) -> bool:
    """Whether `Augment` changes images."""
    return any(value for name, value in asdict(config).items() if name not in _NOT_CHANGES)


class Augment(keras.layers.Layer):  # type: ignore[misc]
    """Layer that changes each training image at random. Outside training it returns its input.

    Along each axis, the output pixel at p is sampled from the input at s = zoom * (p - c) + c + shift with linear
    interpolation; c is the centre of the axis (15.5 for 32 pixels). A flipped image is mirrored first.

    With `fill: nearest`, the default, the result equals that of Keras's ImageDataGenerator for the same parameters, and
    they are drawn from the same distributions (keras/src/legacy/preprocessing/image.py in Keras 3): zoom_range,
    height_shift_range and width_shift_range for each axis separately, horizontal_flip for half of the images.

    There are two differences. Keras-Preprocessing up to 1.1.2 uses c = 16.5, which moves zoomed images by (zoom - 1)
    pixels. On CIFAR-10 with `zoom: 0.2` pixels differ by 2 of 255 on average; the zoom itself changes them by 15. The
    fills `constant` and `reflect` are those of `numpy.pad`, as for crops: values between the edge and the black border
    are interpolated, and a reflection does not repeat the edge pixel. ImageDataGenerator does not interpolate there,
    and repeats it.

    Args:
        config: which changes to make, and their ranges.
        seed: of the random changes.
    """

    def __init__(self, config: AugmentationConfig, seed: int, **kwargs: Any) -> None:
        super().__init__(dtype="float32", **kwargs)  # half precision is too coarse for positions and blurs the image
        self.settings = config
        self.random = keras.random.SeedGenerator(seed)

    def call(self, images: Any, training: bool = False) -> Any:
        """Augment a batch; each image gets its own random parameters.

        Args:
            images: (N, H, W, C), any numeric dtype.
            training: whether to change the images.

        Returns:
            (N, H, W, C) float32 in the range of the input; the input itself outside training.
        """
        if not training:
            return images
        images = ops.cast(images, "float32")
        _, height, width, channels = images.shape
        count = ops.shape(images)[0]
        rows = self._weights(count, height, flip=False)
        columns = self._weights(count, width, flip=self.settings.horizontal_flip)
        images = ops.matmul(rows, ops.reshape(images, (-1, height, width * channels)))
        images = ops.reshape(images, (-1, height, width, channels))
        images = ops.einsum("nij,nhjc->nhic", columns, images)
        return self._erased(self._recoloured(images, count), count)

    def _recoloured(self, images: Any, count: Any) -> Any:
        """Change brightness and contrast; pixels stay in 0..255."""
        if not (self.settings.brightness or self.settings.contrast):
            return images
        if limit := self.settings.brightness:
            images = images * (1 + self._uniform(count, limit)[:, :, None, None])
        if limit := self.settings.contrast:
            mean = ops.mean(images, axis=(1, 2, 3), keepdims=True)
            images = mean + (images - mean) * (1 + self._uniform(count, limit)[:, :, None, None])
        return ops.clip(images, 0.0, 255.0)

    def _erased(self, images: Any, count: Any) -> Any:
        """Cover a square of each image with its mean colour (DeVries and Taylor, 2017, Cutout)."""
        side = self.settings.erase
        if not side:
            return images
        covered = []
        for size in images.shape[1:3]:  # the centre is any pixel, so that a part of the square may be outside
            first = ops.floor((self._uniform(count, 0.5) + 0.5) * size) - side // 2
            positions = ops.arange(size, dtype="float32")[None, :]
            covered.append(ops.logical_and(positions >= first, positions < first + side))
        square = ops.logical_and(covered[0][:, :, None, None], covered[1][:, None, :, None])
        return ops.where(square, ops.mean(images, axis=(1, 2), keepdims=True), images)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the input shape."""
        return input_shape

    def _weights(self, count: Any, size: int, flip: bool) -> Any:
        """Draw the interpolation weights of one axis.

        Args:
            count: number of images.
            size: of the axis in pixels.
            flip: whether to mirror half of the images along this axis.

        Returns:
            (count, size, size) float32: for each image and output position, the weight of each input position.
        """
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
        # Linear interpolation: a triangular kernel around each position. Outside the image all weights are 0: black.
        return ops.relu(1 - ops.abs(source[:, :, None] - positions[None, None, :]))

    def _uniform(self, count: Any, limit: float) -> Any:
        """Draw one value in [-limit, limit) for each image, (count, 1) float32."""
        return keras.random.uniform((count, 1), -limit, limit, seed=self.random)
