"""Derivatives of a model's outputs with respect to its inputs: Keras has no call for them that all backends share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Value = Callable[[Any, Any], Any]  # outputs of the model (N, ...) and targets (N, ...), as tensors -> values (N,)
Derivatives = Callable[[Floats, Floats], Floats]  # inputs (N, ...), targets (N, ...) -> derivatives (N, ...)


def of_outputs(model: keras.Model, inputs: Floats, classes: npt.NDArray[np.intp]) -> Floats:
    """Differentiate one output of each input with respect to that input.

    Args:
        model: takes (N, ...) and returns (N, C); run as for prediction.
        inputs: (N, ...) float32.
        classes: (N,), which of the C outputs to differentiate.

    Returns:
        Derivatives, of the shape of the inputs.
    """
    chosen = np.eye(model.output.shape[-1], dtype=np.float32)[classes]
    return of_values(model, lambda outputs, targets: keras.ops.sum(outputs * targets, axis=1))(inputs, chosen)


def of_values(model: keras.Model, value: Value) -> Derivatives:
    """Make a function that differentiates a value of each input's outputs with respect to that input.

    Args:
        model: takes (N, ...); run as for prediction.
        value: computes one value for each input from the model's outputs and from targets, with `keras.ops`.

    Returns:
        A function of inputs and targets, compiled where the backend does that: call it often with arrays of one shape.
    """
    return {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[keras.backend.backend()](model, value)


def _tensorflow(model: keras.Model, value: Value) -> Derivatives:
    import tensorflow as tf

    @tf.function(autograph=False, reduce_retracing=True)  # type: ignore[untyped-decorator]
    def compiled(inputs: Any, targets: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            total = tf.reduce_sum(value(model(inputs, training=False), targets))
        return tape.gradient(total, inputs)

    return lambda inputs, targets: np.asarray(compiled(tf.constant(inputs), tf.constant(targets)))


def _jax(model: keras.Model, value: Value) -> Derivatives:
    import jax

    def total(inputs: Any, targets: Any, trainable: Any, others: Any) -> Any:
        outputs, _ = model.stateless_call(trainable, others, inputs, training=False)
        return value(outputs, targets).sum()

    compiled = jax.jit(jax.grad(total))

    def derivatives(inputs: Floats, targets: Floats) -> Floats:
        # Read at each call: `predict` in between gives the variables new buffers and frees the old ones.
        trainable = [variable.value for variable in model.trainable_variables]
        others = [variable.value for variable in model.non_trainable_variables]
        return np.asarray(compiled(inputs, targets, trainable, others))

    return derivatives


def _torch(model: keras.Model, value: Value) -> Derivatives:
    import torch

    def derivatives(inputs: Floats, targets: Floats) -> Floats:
        variable = keras.ops.convert_to_tensor(inputs).requires_grad_()
        total = value(model(variable, training=False), keras.ops.convert_to_tensor(targets)).sum()
        (found,) = torch.autograd.grad(total, variable)
        return np.asarray(found.cpu().numpy())

    return derivatives
