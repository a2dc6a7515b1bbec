"""Many steps of a training in one call of TensorFlow."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from cifar_exp.training import runtime


def looped(model: keras.Model, batch_size: int) -> keras.Model:
    """The same model, as a Loop where one can be: a compiler could not cut batches of unknown size."""
    return Loop(model, batch_size) if runtime.is_tensorflow_on_cpu() else model


class Loop(keras.Model):  # type: ignore[misc]
    """The same model; `fit` is fed many batches at once, and takes a step for each.

    Keras has `steps_per_execution` for that, which asks the input pipeline for each batch: two changes of thread, for
    which a small step waits.
    """

    def __init__(self, model: keras.Model, batch_size: int) -> None:
        """Batches of so many images, the last of what is fed may have fewer."""
        inputs = keras.Input(model.input_shape[1:])
        super().__init__(inputs, model(inputs))
        self.batch_size = batch_size

    def train_step(self, data: Any) -> Any:
        """As many steps as there are batches in these images and labels; the metrics after the last."""
        images, labels = data
        count, step = ops.shape(images)[0], super().train_step

        def next_batch(start: Any) -> tuple[Any]:
            end = start + self.batch_size
            step((images[start:end], labels[start:end]))
            return (end,)

        ops.while_loop(lambda start: start < count, next_batch, (0,))
        return self.get_metrics_result()
