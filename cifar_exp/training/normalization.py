"""Batch normalization as one operation of TensorFlow, where Keras computes it in a dozen."""

from __future__ import annotations

from typing import Any

import keras

from cifar_exp.training import runtime


def fused(model: keras.Model) -> keras.Model:
    """The same layers and weights, in a training step that a CPU takes less time for.

    Elsewhere the model itself: a GPU's compiler fuses what Keras says.
    """
    if not runtime.is_tensorflow_on_cpu() or not any(map(_can_fuse, model.layers)):
        return model
    return keras.models.clone_model(model, clone_function=lambda layer: _Fused(layer) if _can_fuse(layer) else layer)


def _can_fuse(layer: keras.layers.Layer) -> bool:
    """TensorFlow has it for (N, H, W, C), with scale, centre and its own mean of the whole batch."""
    return (
        type(layer) is keras.layers.BatchNormalization
        and layer.input_spec.ndim == 4
        and layer.axis in (-1, 3)
        and layer.scale
        and layer.center
        and not layer.renorm
    )


class _Fused(keras.layers.Layer):  # type: ignore[misc]
    """A BatchNormalization's own weights, used as it uses them."""

    def __init__(self, layer: keras.layers.BatchNormalization) -> None:
        super().__init__(dtype=layer.dtype_policy)
        self.layer = layer

    def call(self, images: Any, training: bool = False, mask: Any = None) -> Any:
        layer = self.layer
        if not (training and layer.trainable):
            return layer(images)
        import tensorflow as tf  # Keras has no call for it

        scale, offset = tf.convert_to_tensor(layer.gamma), tf.convert_to_tensor(layer.beta)
        unused = tf.zeros([0])
        normalized, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=images, scale=scale, offset=offset, mean=unused, variance=unused, epsilon=layer.epsilon
        )
        count = tf.cast(tf.size(images) / tf.shape(images)[3], variance.dtype)
        variance *= (count - 1) / count  # it gives the unbiased estimate, Keras takes the mean square
        for moving, value in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
            moving.assign(moving * layer.momentum + value * (1 - layer.momentum))
        return normalized

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape
