"""Batches of images and labels for `fit`, `evaluate` and `predict` of a Keras model."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from cifar_exp.data.mapped import MappedImages, StoredImages
from cifar_exp.data.splits import Labels


def batches(size: int, images: StoredImages, labels: Labels | None = None) -> dict[str, Any]:
    """Build the keyword arguments of `fit`, `evaluate` or `predict` for these images, in their order.

    On TensorFlow they contain a `tf.data.Dataset` without autotuning. The pipeline that Keras builds for arrays is
    tuned by a background thread, which sleeps for as long as it has run before. If that thread misses the end of the
    pipeline, the pipeline waits for it, and an epoch takes up to twice as long. There is nothing to tune here, and
    nothing to optimize, which would take longer than an epoch of few images.

    Images in a file are read one batch ahead, while the device computes.

    Args:
        size: images per batch; the last batch may be smaller.
        images: (N, H, W, C) uint8, in memory or mapped from a file.
        labels: (N,) uint8 or uint16; None for `predict`.

    Returns:
        Keyword arguments: `x`, and `y` and `batch_size` if `x` is an array.
    """
    if labels is not None and labels.dtype == np.uint16:  # PyTorch supports hardly any operation on uint16
        labels = labels.astype(np.int64)
    if keras.backend.backend() != "tensorflow":
        if isinstance(images, MappedImages):
            return {"x": _Batches(size, images, labels)}
        return {"x": images, "batch_size": size} | ({} if labels is None else {"y": labels})
    import tensorflow as tf  # Keras has no API for this

    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    starts = tf.data.Dataset.range(0, len(images), size)
    if isinstance(images, MappedImages):

        def read(start: int) -> Any:
            return images[start : start + size]

        def read_batch(start: Any) -> tuple[Any, ...]:
            batch = tf.ensure_shape(tf.numpy_function(read, [start], tf.uint8), (None, *images.shape[1:]))
            return (batch,) if labels is None else (batch, tf.constant(labels)[start : start + size])

        return {"x": starts.map(read_batch).prefetch(1).with_options(options)}
    with tf.device("CPU"):  # input pipelines run on the CPU
        arrays = [tf.constant(array) for array in (images, labels) if array is not None]
    dataset = starts.map(lambda start: tuple(array[start : start + size] for array in arrays))
    return {"x": dataset.prefetch(1).with_options(options)}


class _Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """Batches of images in a file, for Keras on JAX and PyTorch."""

    def __init__(self, size: int, images: MappedImages, labels: Labels | None) -> None:
        super().__init__()
        self._size, self._images, self._labels = size, images, labels

    def __len__(self) -> int:
        return -(-len(self._images) // self._size)

    def __getitem__(self, batch: int) -> Any:
        indices = slice(batch * self._size, (batch + 1) * self._size)
        return (self._images[indices],) if self._labels is None else (self._images[indices], self._labels[indices])
