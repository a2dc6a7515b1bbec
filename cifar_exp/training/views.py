"""Views of an image whose probabilities are averaged, as `prediction.flip` and `prediction.shift` ask."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from cifar_exp.config.schema import PredictionConfig


def weighted_views(images: Any, prediction: PredictionConfig) -> list[tuple[float, Any]]:
    """Make the views of images.

    With `shift`, half of the weight is of the image where it is, a quarter of it moved up and left, and a quarter of it
    moved down and right. (Keller Jordan, 94% on CIFAR-10 in 3.29 Seconds on a Single GPU,
    https://arxiv.org/abs/2404.00498)

    Args:
        images: (N, H, W, C), a tensor or the input of a model.
        prediction: which views.

    Returns:
        Weight and images of each view, the images as they are first. The weights add up to 1.
    """
    views = [(1.0, images)]
    if distance := prediction.shift:
        views = [(0.5, images), (0.25, _moved(images, -distance)), (0.25, _moved(images, distance))]
    if prediction.flip:
        views = [(weight / 2, each) for weight, view in views for each in (view, ops.flip(view, axis=2))]
    return views


def _moved(images: Any, distance: int) -> Any:
    """Images moved down and right by `distance` pixels; the edges are filled with the mirror image."""
    before, after = max(distance, 0), max(-distance, 0)
    padded = ops.pad(images, [(0, 0), (before, after), (before, after), (0, 0)], mode="reflect")
    return keras.layers.Cropping2D(((after, before), (after, before)), data_format="channels_last")(padded)
