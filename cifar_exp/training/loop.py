"""Many training steps in one call of TensorFlow."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from cifar_exp.training import runtime


def loop_over_batches(model: keras.Model, batch_size: int) -> keras.Model:
    """Wrap a model in a `Loop` on a CPU with TensorFlow; elsewhere, return the model itself.

    Elsewhere a compiler needs batches of a fixed size, which a loop over slices does not have.

    Args:
        model: to be compiled and trained.
        batch_size: images per training step.
    """
    return Loop(model, batch_size) if runtime.is_tensorflow_on_cpu() else model


class Loop(keras.Model):  # type: ignore[misc]
    """Model whose `fit` gets the images of many batches at once and makes one training step per batch.

    Keras's `steps_per_execution` does the same, but requests each batch from the input pipeline. Each request switches
    threads twice, and small steps wait for it.

    Args:
        model: that computes the outputs; the weights are shared.
        batch_size: images per training step; the last batch of a call may be smaller.
    """

    def __init__(self, model: keras.Model, batch_size: int) -> None:
        inputs = keras.Input(model.input_shape[1:])
        super().__init__(inputs, model(inputs))
        self.batch_size = batch_size

    def train_step(self, data: Any) -> Any:
        """Make one training step for each batch.

        Args:
            data: images (N, H, W, C) and labels (N,) of any number of batches.

        Returns:
            The metrics after the last step.
        """
        images, labels = data
        count, step = ops.shape(images)[0], super().train_step

        def next_batch(start: Any) -> tuple[Any]:
            end = start + self.batch_size
            step((images[start:end], labels[start:end]))
            return (end,)

        ops.while_loop(lambda start: start < count, next_batch, (0,))
        return self.get_metrics_result()
