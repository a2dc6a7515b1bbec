"""Arrays -> the batches that `fit`, `evaluate` and `predict` of a Keras model take."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from cifar_exp.data.datasets import Labels
from cifar_exp.data.mapped import MappedImages, StoredImages


def batches(size: int, images: StoredImages, labels: Labels | None = None) -> dict[str, Any]:
    """The arguments that feed these images, and labels if any, in their order.

    TensorFlow tunes an input pipeline in a thread of its own, which sleeps for as long as it has run before. Where that
    thread misses that the pipeline is done, its end waits for it, and an epoch takes up to twice its time. Keras makes
    such a pipeline of arrays; there is nothing to tune in it.

    Images that stay in a file are read while the device computes, a batch ahead.

    Args:
        size: images a batch; the last batch may have fewer.
        images: (N, H, W, C) uint8, in memory or in a file.
        labels: (N,) uint8 or uint16.
    """
    if labels is not None and labels.dtype == np.uint16:  # PyTorch can hardly compute with it
        labels = labels.astype(np.int64)
    if keras.backend.backend() != "tensorflow":
        if isinstance(images, MappedImages):
            return {"x": _Batches(size, images, labels)}
        return {"x": images, "batch_size": size} | ({} if labels is None else {"y": labels})
    import tensorflow as tf  # Keras has no call for it

    untuned = tf.data.Options()
    untuned.autotune.enabled = False
    starts = tf.data.Dataset.range(0, len(images), size)
    if isinstance(images, MappedImages):

        def read(start: int) -> Any:
            return images[start : start + size]

        def mapped(start: Any) -> tuple[Any, ...]:
            read_images = tf.ensure_shape(tf.numpy_function(read, [start], tf.uint8), (None, *images.shape[1:]))
            return (read_images,) if labels is None else (read_images, tf.constant(labels)[start : start + size])

        return {"x": starts.map(mapped).prefetch(1).with_options(untuned)}
    with tf.device("CPU"):  # where pipelines run
        arrays = [tf.constant(array) for array in (images, labels) if array is not None]
    sliced = starts.map(lambda start: tuple(array[start : start + size] for array in arrays))
    return {"x": sliced.prefetch(1).with_options(untuned)}


class _Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """Batches of images that stay in a file, as Keras takes them on JAX and PyTorch."""

    def __init__(self, size: int, images: MappedImages, labels: Labels | None) -> None:
        super().__init__()
        self._size, self._images, self._labels = size, images, labels

    def __len__(self) -> int:
        return -(-len(self._images) // self._size)

    def __getitem__(self, batch: int) -> Any:
        part = slice(batch * self._size, (batch + 1) * self._size)
        return (self._images[part],) if self._labels is None else (self._images[part], self._labels[part])
