"""RandAugment and AugMix: random operations on each image, of a table that is the same for both.

Keras's own layers are not used. Its RandAugment draws one operation for the whole batch and switches XLA off. Its
AugMix draws operations in Python, so that a compiled step makes the same ones for ever. Its Equalization counts the
values of the whole batch.

The operations and their strengths are those of torchvision's RandAugment, which follows the paper on PIL's operations.
Images are float32 here and interpolated linearly, so that values differ from PIL's by its rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from keras import ops

from cifar_exp.training import resampling

# Those that AugMix uses, after the identity: without what the corruptions of CIFAR-10-C are made of.
AUGMIX = (
    *("shear_x", "shear_y", "translate_x", "translate_y", "rotate"),
    *("posterize", "solarize", "autocontrast", "equalize"),
)
OPERATIONS = ("identity", *AUGMIX, "brightness", "color", "contrast", "sharpness")
STRONGEST = 30  # the magnitude at which operations are strongest

_SHEAR = 0.3  # pixels for each pixel
_TRANSLATE = 150 / 331  # of a side
_ROTATE = math.radians(30)
_POSTERIZE = 4  # bits that are dropped of 8
_BLEND = 0.9  # what is added to or taken from a factor of 1
_DEPTH = 3  # most operations of a chain of AugMix

Draw = Callable[[Any], Any]  # number of images -> a value in [0, 1) for each, (N, 1) float32


def rand_augment(images: Any, operations: int, magnitude: float, fill: str, draw: Draw) -> Any:
    """Change each image by random operations of one magnitude (Cubuk et al., 2020, RandAugment).

    Args:
        images: (N, H, W, C) float32 in 0..255.
        operations: number of operations for each image; each is any of `OPERATIONS`, of either sign.
        magnitude: 0..30.
        fill: what lies outside the image, as `augmentation.fill`.
        draw: random numbers.

    Returns:
        (N, H, W, C) float32 in 0..255.
    """
    count = ops.shape(images)[0]
    for _ in range(operations):
        kinds = ops.floor(draw(count) * len(OPERATIONS))
        images = apply(images, kinds, _sign(draw(count)) * (magnitude / STRONGEST), fill)
    return images


def aug_mix(images: Any, chains: int, magnitude: float, fill: str, draw: Draw) -> Any:
    """Mix each image with the mean of chains of random operations on it (Hendrycks et al., 2020, AugMix).

    The shares of the chains are drawn from Dirichlet(1, ..., 1) and the share of the image itself from Beta(1, 1). The
    loss of the paper, which compares several such images, is not part of it.

    Args:
        images: (N, H, W, C) float32 in 0..255.
        chains: number of chains for each image, each of one to three of `AUGMIX`.
        magnitude: 0..30, the largest; that of each operation is drawn uniformly.
        fill: what lies outside the image, as `augmentation.fill`.
        draw: random numbers.

    Returns:
        (N, H, W, C) float32 in 0..255.
    """
    count = ops.shape(images)[0]
    changed = ops.tile(images, (chains, 1, 1, 1))
    lengths = ops.floor(draw(count * chains) * _DEPTH) + 1
    for done in range(_DEPTH):
        kinds = ops.floor(draw(count * chains) * len(AUGMIX)) + 1
        levels = draw(count * chains) * _sign(draw(count * chains)) * (magnitude / STRONGEST)
        changed = apply(changed, ops.where(done < lengths, kinds, 0.0), levels, fill)
    shares = ops.reshape(-ops.log(1 - draw(count * chains)), (chains, -1, 1, 1, 1))  # normalized: Dirichlet(1, ..., 1)
    shares = shares / ops.maximum(ops.sum(shares, axis=0, keepdims=True), 1e-12)
    mixed = ops.sum(shares * ops.reshape(changed, (chains, -1, *images.shape[1:])), axis=0)
    own = draw(count)[:, :, None, None]
    return own * images + (1 - own) * mixed


def apply(images: Any, kinds: Any, levels: Any, fill: str) -> Any:
    """Apply one operation to each image.

    All operations are computed for all images, and selected: a compiled step cannot branch for each image.

    Args:
        images: (N, H, W, C) float32 in 0..255.
        kinds: (N, 1) float32, indices of `OPERATIONS`.
        levels: (N, 1) float32 in -1..1, strengths as a share of the strongest. `posterize` and `solarize` ignore the
            sign, `identity`, `autocontrast` and `equalize` the level.
        fill: what lies outside the image, as `augmentation.fill`.

    Returns:
        (N, H, W, C) float32 in 0..255.
    """

    def is_kind(*names: str) -> Any:
        """(N, 1) bool."""
        return ops.any(ops.stack([ops.equal(kinds, OPERATIONS.index(name)) for name in names]), axis=0)

    def selected(names: tuple[str, ...], changed: Any) -> Any:
        return ops.where(is_kind(*names)[:, :, None, None], changed, images)

    def strength(name: str, strongest: float) -> Any:
        """(N, 1) float32: 0 for images of another operation."""
        return ops.where(is_kind(name), levels * strongest, 0.0)

    levels_of_images, sizes = levels[:, :, None, None], ops.abs(levels)[:, :, None, None]
    images = _moved(images, strength, fill)
    images = selected(
        ("brightness", "color", "contrast", "sharpness"),
        _blended(images, lambda name: is_kind(name)[:, :, None, None], 1 + _BLEND * levels_of_images),
    )
    step = ops.power(2.0, ops.round(_POSTERIZE * sizes))
    images = selected(("posterize",), ops.floor(images / step) * step)
    images = selected(("solarize",), ops.where(images >= 255 * (1 - sizes), 255 - images, images))
    images = selected(("autocontrast",), _autocontrast(images))
    return selected(("equalize",), _equalized(images))


def _sign(drawn: Any) -> Any:
    return ops.where(drawn < 0.5, -1.0, 1.0)


def _moved(images: Any, strength: Callable[[str, float], Any], fill: str) -> Any:
    """Shear from the upper left corner, shift by whole pixels, or rotate around the centre."""
    _, height, width, _ = images.shape
    grid = ops.meshgrid(ops.arange(height, dtype="float32"), ops.arange(width, dtype="float32"), indexing="ij")
    rows, columns = (ops.reshape(positions, (1, -1)) for positions in grid)
    down, right = rows - (height - 1) / 2, columns - (width - 1) / 2
    angle = strength("rotate", _ROTATE)
    sheared = {"y": strength("shear_y", _SHEAR) * (columns + 0.5), "x": strength("shear_x", _SHEAR) * (rows + 0.5)}
    shifts = {"y": strength("translate_y", _TRANSLATE * height), "x": strength("translate_x", _TRANSLATE * width)}
    whole = {axis: ops.sign(shift) * ops.floor(ops.abs(shift)) for axis, shift in shifts.items()}
    # Of the changes, one at most is not 0; without any, positions are whole and pixels stay as they are.
    rows = ops.cos(angle) * down + ops.sin(angle) * right + (height - 1) / 2 + sheared["y"] + whole["y"]
    columns = ops.cos(angle) * right - ops.sin(angle) * down + (width - 1) / 2 + sheared["x"] + whole["x"]
    return resampling.at_points(images, resampling.folded(rows, height, fill), resampling.folded(columns, width, fill))


def _blended(images: Any, is_kind: Callable[[str], Any], factors: Any) -> Any:
    """Return degenerate + factor * (image - degenerate), where the degenerate image is that of the operation.

    These are the enhancements of PIL's ImageEnhance: black, grey, evenly grey, or smoothed.
    """
    grey = ops.image.rgb_to_grayscale(images) if images.shape[-1] == 3 else ops.mean(images, axis=-1, keepdims=True)
    degenerate = ops.where(is_kind("color"), grey, 0.0)
    degenerate = ops.where(is_kind("contrast"), ops.mean(grey, axis=(1, 2), keepdims=True), degenerate)
    degenerate = ops.where(is_kind("sharpness"), _smoothed(images), degenerate)
    return ops.clip(degenerate + factors * (images - degenerate), 0.0, 255.0)


def _smoothed(images: Any) -> Any:
    """Weight each pixel by 5 and its eight neighbours by 1, as PIL's SMOOTH filter; pixels of the border stay.

    Sums along rows and columns, because `epoch` must not see a convolution here.
    """
    if min(images.shape[1:3]) < 3:
        return images
    columns = images[:, :, :-2] + images[:, :, 1:-1] + images[:, :, 2:]
    sums = columns[:, :-2] + columns[:, 1:-1] + columns[:, 2:]
    inner = (sums + 4 * images[:, 1:-1, 1:-1]) / 13
    rows = ops.concatenate([images[:, 1:-1, :1], inner, images[:, 1:-1, -1:]], axis=2)
    return ops.concatenate([images[:, :1], rows, images[:, -1:]], axis=1)


def _autocontrast(images: Any) -> Any:
    """Stretch each channel of an image to 0..255; a channel of one value stays."""
    low, high = (extreme(images, axis=(1, 2), keepdims=True) for extreme in (ops.min, ops.max))
    scale = 255 / ops.maximum(high - low, 1e-6)
    return ops.where(high > low, ops.clip((images - low) * scale, 0.0, 255.0), images)


def _equalized(images: Any) -> Any:
    """Make the values of each channel of an image about equally frequent, as PIL's ImageOps.equalize does."""
    _, height, width, channels = images.shape
    values = ops.reshape(ops.transpose(images, (0, 3, 1, 2)), (-1, height * width))
    levels = ops.cast(ops.round(ops.clip(values, 0.0, 255.0)), "int32")
    count = ops.shape(levels)[0]  # of channels of all images
    entries = ops.expand_dims(ops.arange(count, dtype="int32") * 256, 1) + levels
    ones = ops.ones_like(ops.reshape(entries, (-1,)))
    histogram = ops.reshape(ops.segment_sum(ones, ops.reshape(entries, (-1,)), num_segments=count * 256), (-1, 256))
    up_to = ops.cumsum(histogram, axis=1)
    highest = ops.expand_dims(ops.max(levels, axis=1), 1)
    step = (height * width - ops.take_along_axis(histogram, highest, axis=1)) // 255
    table = ops.clip((up_to - histogram + step // 2) // ops.maximum(step, 1), 0, 255)
    equal = ops.cast(ops.take(ops.reshape(table, (-1,)), entries), "float32")
    equal = ops.where(step > 0, equal, values)  # too few pixels, or one value
    return ops.transpose(ops.reshape(equal, (-1, channels, height, width)), (0, 2, 3, 1))
