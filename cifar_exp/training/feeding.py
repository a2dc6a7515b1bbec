"""Arrays -> the batches that `fit`, `evaluate` and `predict` of a Keras model take."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from cifar_exp.data.datasets import Images, Labels


def batches(size: int, images: Images, labels: Labels | None = None) -> dict[str, Any]:
    """The arguments that feed these images, and labels if any, in their order.

    TensorFlow tunes an input pipeline in a thread of its own, which sleeps for as long as it has run before. Where that
    thread misses that the pipeline is done, its end waits for it, and an epoch takes up to twice its time. Keras makes
    such a pipeline of arrays; there is nothing to tune in it.

    Args:
        size: images a batch; the last batch may have fewer.
        images: (N, H, W, C) uint8.
        labels: (N,) uint8 or uint16.
    """
    if labels is not None and labels.dtype == np.uint16:  # PyTorch can hardly compute with it
        labels = labels.astype(np.int64)
    if keras.backend.backend() != "tensorflow":
        return {"x": images, "batch_size": size} | ({} if labels is None else {"y": labels})
    import tensorflow as tf  # Keras has no call for it

    untuned = tf.data.Options()
    untuned.autotune.enabled = False
    with tf.device("CPU"):  # where pipelines run
        arrays = [tf.constant(array) for array in (images, labels) if array is not None]
    starts = tf.data.Dataset.range(0, len(images), size)
    sliced = starts.map(lambda start: tuple(array[start : start + size] for array in arrays))
    return {"x": sliced.prefetch(1).with_options(untuned)}
