"""Derivatives of a model's outputs with respect to its inputs: Keras has no call for them that all backends share."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def of_outputs(model: keras.Model, inputs: Floats, classes: npt.NDArray[np.intp]) -> Floats:
    """Differentiate one output of each input with respect to that input.

    Args:
        model: takes (N, ...) and returns (N, C); run as for prediction.
        inputs: (N, ...) float32.
        classes: (N,), which of the C outputs to differentiate.

    Returns:
        Derivatives, of the shape of the inputs.
    """
    chosen = keras.ops.one_hot(classes, model.output.shape[-1])
    compute = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[keras.backend.backend()]
    derivatives: Floats = compute(model, inputs, chosen)
    return derivatives


def _tensorflow(model: keras.Model, inputs: Floats, chosen: Any) -> Floats:
    import tensorflow as tf

    variable = tf.constant(inputs)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        total = tf.reduce_sum(model(variable, training=False) * chosen)
    return np.asarray(tape.gradient(total, variable))


def _jax(model: keras.Model, inputs: Floats, chosen: Any) -> Floats:
    import jax

    trainable = [variable.value for variable in model.trainable_variables]
    others = [variable.value for variable in model.non_trainable_variables]

    def total(variable: Any) -> Any:
        outputs, _ = model.stateless_call(trainable, others, variable, training=False)
        return (outputs * chosen).sum()

    return np.asarray(jax.grad(total)(inputs))


def _torch(model: keras.Model, inputs: Floats, chosen: Any) -> Floats:
    import torch

    variable = keras.ops.convert_to_tensor(inputs).requires_grad_()
    total = (model(variable, training=False) * chosen).sum()
    (derivatives,) = torch.autograd.grad(total, variable)
    return np.asarray(derivatives.cpu().numpy())
