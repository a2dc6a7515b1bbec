"""Batch normalization as one TensorFlow operation instead of Keras's dozen."""

from __future__ import annotations

from typing import Any

import keras

from cifar_exp.training import runtime


def fuse_batch_normalization(model: keras.Model) -> keras.Model:
    """Replace the BatchNormalization layers of a model by fused ones, which train faster on a CPU with TensorFlow.

    Args:
        model: to be trained; its weights are shared with the result.

    Returns:
        A model that computes the same. It is the given model itself if nothing is replaced, as on a GPU, whose compiler
        fuses Keras's operations.
    """
    if not runtime.is_tensorflow_on_cpu() or not any(map(_can_fuse, model.layers)):
        return model

    def replace(layer: keras.layers.Layer) -> keras.layers.Layer:
        return _FusedBatchNormalization(layer) if _can_fuse(layer) else layer

    return keras.models.clone_model(model, clone_function=replace)


def _can_fuse(layer: keras.layers.Layer) -> bool:
    """Whether TensorFlow has a fused operation for a layer: for input (N, H, W, C), with scale and centre."""
    return (
        type(layer) is keras.layers.BatchNormalization
        and layer.input_spec.ndim == 4
        and layer.axis in (-1, 3)
        and layer.scale
        and layer.center
        and not layer.renorm
    )


class _FusedBatchNormalization(keras.layers.Layer):  # type: ignore[misc]
    """Layer that uses the weights of a BatchNormalization and gives the same outputs."""

    def __init__(self, layer: keras.layers.BatchNormalization) -> None:
        super().__init__(dtype=layer.dtype_policy)
        self.layer = layer

    def call(self, images: Any, training: bool = False, mask: Any = None) -> Any:
        layer = self.layer
        if not (training and layer.trainable):
            return layer(images)
        import tensorflow as tf  # Keras has no API for this

        scale, offset = tf.convert_to_tensor(layer.gamma), tf.convert_to_tensor(layer.beta)
        unused = tf.zeros([0])
        normalized, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=images, scale=scale, offset=offset, mean=unused, variance=unused, epsilon=layer.epsilon
        )
        count = tf.cast(tf.size(images) / tf.shape(images)[3], variance.dtype)
        variance *= (count - 1) / count  # TensorFlow returns the unbiased estimate, Keras uses the biased one
        for moving, value in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
            moving.assign(moving * layer.momentum + value * (1 - layer.momentum))
        return normalized

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape
