"""A batch in shards that are computed side by side, with one set of weights."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import keras
from keras import ops

from cifar_exp.training import runtime


def sharded(model: keras.Model, shards: int) -> keras.Model:
    """The same function of a batch, weights shared, as so many independent parts of one graph.

    Where a layer looks at a whole batch, BatchNormalization above all, it looks at a shard: a ghost batch (Hoffer et
    al., 2017, Train longer, generalize better). Every batch must have an image for each shard.
    """
    if shards == 1:
        return model
    inputs = keras.Input(model.input_shape[1:])
    return keras.Model(inputs, _Sharded(model, shards)(inputs))


def side_by_side(images: int, batch_size: int) -> int:
    """How many shards of such batches this process computes at the same time, for what looks at one image alone."""
    shards, rest = runtime.shards(), images % batch_size
    return 1 if 0 < rest < shards else shards  # TensorFlow crashes on a shard without images


class _Sharded(keras.layers.Layer):  # type: ignore[misc]
    def __init__(self, model: keras.Model, shards: int) -> None:
        super().__init__(autocast=False)
        self.model = model
        self.shards = shards

    def call(self, images: Any, training: bool = False) -> Any:
        count = ops.shape(images)[0]
        bounds = [count * n // self.shards for n in range(self.shards + 1)]
        outputs = [self.model(images[start:end], training=training) for start, end in pairwise(bounds)]
        return keras.tree.map_structure(lambda *parts: ops.concatenate(parts), *outputs)

    def compute_output_spec(self, images: Any, training: bool = False) -> Any:
        return self.model.compute_output_spec(images, training=training)
