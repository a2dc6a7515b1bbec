"""Shards of a batch, computed in parallel with the same weights."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import keras
from keras import ops

from cifar_exp.training import threads


def split_into_shards(model: keras.Model, shards: int) -> keras.Model:
    """Wrap a model so that it computes the shards of a batch as independent parts of one graph.

    Layers that depend on the whole batch, such as BatchNormalization, see one shard: a ghost batch (Hoffer et al.,
    2017, Train longer, generalize better).

    Args:
        model: its weights are shared with the result.
        shards: number of shards. Every batch must have at least as many images.

    Returns:
        The wrapped model; the given model itself for one shard.
    """
    if shards == 1:
        return model
    inputs = keras.Input(model.input_shape[1:])
    return keras.Model(inputs, _Sharded(model, shards)(inputs))


def shard_count(images: int, batch_size: int) -> int:
    """Return the number of shards that this process should split batches into, if no layer depends on a whole batch.

    Args:
        images: number of images in all batches.
        batch_size: images per batch; the last batch may be smaller.
    """
    shards, last_batch = threads.shards(), images % batch_size
    return 1 if 0 < last_batch < shards else shards  # TensorFlow crashes on a shard without images


class _Sharded(keras.layers.Layer):  # type: ignore[misc]
    """Layer that applies a model to each shard of its input and concatenates the outputs."""

    def __init__(self, model: keras.Model, shards: int) -> None:
        super().__init__(autocast=False)
        self.model = model
        self.shards = shards

    def call(self, images: Any, training: bool = False) -> Any:
        count = ops.shape(images)[0]
        bounds = [count * n // self.shards for n in range(self.shards + 1)]
        outputs = [self.model(images[start:end], training=training) for start, end in pairwise(bounds)]
        return keras.tree.map_structure(lambda *shards: ops.concatenate(shards), *outputs)

    def compute_output_spec(self, images: Any, training: bool = False) -> Any:
        return self.model.compute_output_spec(images, training=training)
