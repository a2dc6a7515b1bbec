"""Random changes of training images that XLA can compile: flips, zooms, shifts, crops, rotations, colours, squares.

With Keras's own RandomZoom, RandomTranslation, RandomRotation and RandomCrop, XLA is switched off for the whole
training step. All of these but the rotation can be made along the rows and along the columns separately. Resampling
along one axis is a product with a square matrix of interpolation weights: out = R @ image @ C^T.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import keras
from keras import ops

from cifar_exp.config.training_schema import AugmentationConfig
from cifar_exp.training import policies, resampling

_NOT_CHANGES = ("name", "fill", "magnitude", "mixup", "cutmix")  # the last two are changes that `mixing` makes


def is_on(config: AugmentationConfig) -> bool:
    """Whether `Augment` changes images."""
    return any(value for name, value in asdict(config).items() if name not in _NOT_CHANGES)


class Augment(keras.layers.Layer):  # type: ignore[misc]
    """Layer that changes each training image at random. Outside training it returns its input.

    Along each axis, the output pixel at p is sampled from the input at s = zoom * (p - c) + c + shift with linear
    interpolation; c is the centre of the axis (15.5 for 32 pixels). A flipped image is mirrored first. With `rotation`,
    p - c is turned by the angle before that: the image is turned last, around its centre. RandAugment and AugMix
    follow, then brightness, contrast and the covered square.

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
        images = self._resampled(ops.cast(images, "float32"))
        settings, count = self.settings, ops.shape(images)[0]
        if settings.rand_augment:
            images = policies.rand_augment(
                images, settings.rand_augment, settings.magnitude, settings.fill, self._share
            )
        if settings.aug_mix:
            images = policies.aug_mix(images, settings.aug_mix, settings.magnitude, settings.fill, self._share)
        return self._erased(self._recoloured(images, count), count)

    def _resampled(self, images: Any) -> Any:
        """Flip, zoom, shift, crop and rotate with one interpolation."""
        count, (_, height, width, _) = ops.shape(images)[0], images.shape
        flip, rotation = self.settings.horizontal_flip, self.settings.rotation
        if not rotation:
            rows = self._positions(ops.broadcast_to(_from_centre(height), (count, height)), height, flip=False)
            columns = self._positions(ops.broadcast_to(_from_centre(width), (count, width)), width, flip=flip)
            return resampling.along_axes(images, rows, columns)
        angles = self._uniform(count, math.radians(rotation))
        sine, cosine = ops.sin(angles), ops.cos(angles)
        grid = ops.meshgrid(_from_centre(height), _from_centre(width), indexing="ij")
        down, right = (ops.reshape(positions, (1, -1)) for positions in grid)
        rows = self._positions(cosine * down + sine * right, height, flip=False)
        columns = self._positions(cosine * right - sine * down, width, flip=flip)
        return resampling.at_points(images, rows, columns)

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

    def _positions(self, source: Any, size: int, flip: bool) -> Any:
        """Draw the positions along one axis at which the image is sampled.

        Args:
            source: (count, P) float32, positions in the output, from the centre of the axis.
            size: of the axis in pixels.
            flip: whether to mirror half of the images along this axis.

        Returns:
            (count, P) float32 in pixels. With `fill: constant` they may be outside the image.
        """
        count = ops.shape(source)[0]
        if flip:
            source = ops.where(self._uniform(count, 1.0) < 0, -source, source)
        if self.settings.zoom:
            source = source * (1 + self._uniform(count, self.settings.zoom))
        if self.settings.shift:
            source = source + self._uniform(count, self.settings.shift * size)
        if crop := self.settings.crop:
            source = source + ops.floor(self._uniform(count, crop + 0.5) + 0.5)
        return resampling.folded(source + (size - 1) / 2, size, self.settings.fill)

    def _share(self, count: Any) -> Any:
        """Draw one value in [0, 1) for each image, (count, 1) float32."""
        return self._uniform(count, 0.5) + 0.5

    def _uniform(self, count: Any, limit: float) -> Any:
        """Draw one value in [-limit, limit) for each image, (count, 1) float32."""
        return keras.random.uniform((count, 1), -limit, limit, seed=self.random)


def _from_centre(size: int) -> Any:
    """Return the positions of the pixels of an axis, from its centre, (size,) float32."""
    return ops.arange(size, dtype="float32") - (size - 1) / 2
