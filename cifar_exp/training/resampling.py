"""Linear interpolation of images at positions of their own, in operations that XLA compiles on every backend.

Keras's `affine_transform` is not such an operation on TensorFlow: with its layers that call it, XLA is switched off for
the whole training step.
"""

from __future__ import annotations

from typing import Any

from keras import ops


def folded(positions: Any, size: int, fill: str) -> Any:
    """Bring positions outside an axis of `size` pixels into it, as `fill` says; `constant` leaves them outside.

    Args:
        positions: float32 of any shape, in pixels.
        size: of the axis.
        fill: `nearest`, `constant` or `reflect`, as `augmentation.fill`.
    """
    if fill == "nearest":
        return ops.clip(positions, 0, size - 1)
    if fill == "reflect":  # ... 2 1 0 1 2 ... n-2 n-1 n-2 ...
        return (size - 1) - ops.abs((size - 1) - ops.mod(positions, 2 * (size - 1)))
    return positions


def along_axes(images: Any, rows: Any, columns: Any) -> Any:
    """Resample along rows and columns separately, as two products with matrices of interpolation weights.

    Args:
        images: (N, H, W, C) float32.
        rows: (N, H) positions along the rows, in pixels; outside the image lies black.
        columns: (N, W) positions along the columns.

    Returns:
        (N, H, W, C) float32.
    """
    _, height, width, channels = images.shape
    images = ops.matmul(_weights(rows, height), ops.reshape(images, (-1, height, width * channels)))
    images = ops.reshape(images, (-1, height, width, channels))
    return ops.einsum("nij,nhjc->nhic", _weights(columns, width), images)


def at_points(images: Any, rows: Any, columns: Any) -> Any:
    """Resample at points, each the mean of its four neighbours, weighted.

    Args:
        images: (N, H, W, C) float32.
        rows: (N, H * W) position of each pixel along the rows, in pixels; outside the image lies black.
        columns: (N, H * W) position of each pixel along the columns.

    Returns:
        (N, H, W, C) float32.
    """
    _, height, width, channels = images.shape
    pixels = ops.reshape(images, (-1, channels))
    first = ops.expand_dims(ops.arange(ops.shape(images)[0], dtype="int32") * (height * width), 1)
    top, left = ops.floor(rows), ops.floor(columns)
    sampled: Any = 0.0
    for row in (top, top + 1):
        for column in (left, left + 1):
            weight = (1 - ops.abs(rows - row)) * (1 - ops.abs(columns - column))
            inside = ops.logical_and(_is_inside(row, height), _is_inside(column, width))
            # The index of a point outside is any that exists: its weight is 0.
            near = ops.clip(row, 0, height - 1) * width + ops.clip(column, 0, width - 1)
            values = ops.take(pixels, first + ops.cast(near, "int32"), axis=0)
            sampled += ops.where(inside, weight, 0.0)[:, :, None] * values
    return ops.reshape(sampled, (-1, height, width, channels))


def _weights(positions: Any, size: int) -> Any:
    """Return the weight of each pixel of an axis at each position, (N, positions, size): 0 outside the image."""
    pixels = ops.arange(size, dtype="float32")
    return ops.relu(1 - ops.abs(positions[:, :, None] - pixels[None, None, :]))  # a triangle around each position


def _is_inside(positions: Any, size: int) -> Any:
    return ops.logical_and(positions >= 0, positions < size)
