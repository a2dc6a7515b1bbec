"""Epochs as one program of JAX: between the first batch and the last, nothing returns to Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import keras
import numpy as np
import numpy.typing as npt

from cifar_exp import exits
from cifar_exp.data.mapped import MappedImages
from cifar_exp.data.splits import Split

_SHARE = 0.25  # of a GPU's memory that the images of a split may take; the rest is for weights and activations

Step = Callable[[Any, Any], tuple[Any, Any]]  # state, images and labels of a batch -> logs, new state


def in_one_program(model: keras.Model, split: Split, batch_size: int, steps: int) -> Epoch | None:
    """Return the epoch of a model as one program, or `None` where Keras's own loop is to be used.

    That is so for images that are mapped from a file or too large for the device, for layers that JAX cannot compile,
    and for convolutions on a CPU. XLA brings the convolution of a weight's gradient into the form that its fast library
    takes, but not inside a loop. So a step of the baseline took 383 ms in a loop and 120 ms in Keras's `fit` (two busy
    cores, JAX 0.10.2). Four steps unrolled in each round took 363 ms, and a loop without rounds compiles every step.

    Args:
        model: compiled, with a built optimizer if it is trained.
        split: images and labels.
        batch_size: images per step; the last batch may be smaller.
        steps: steps per call on a CPU. Ctrl-C takes effect between two calls. On a GPU an epoch is one call.
    """
    images, device = split.images, jax.devices()[0]
    if isinstance(images, MappedImages) or not model.jit_compile or not _has_room(device, images.nbytes):
        return None
    if device.platform != "cpu":
        return Epoch(model, split, batch_size, len(split))
    return None if _convolves(model) else Epoch(model, split, batch_size, steps)


def _has_room(device: jax.Device, size: int) -> bool:
    """Whether images of `size` bytes may stay on a device. A CPU has no limit: they are in its memory anyway."""
    limit = (device.memory_stats() or {}).get("bytes_limit")
    return limit is None or size <= _SHARE * limit


def _convolves(model: keras.Model) -> bool:
    """Whether a model computes a convolution, in whatever layer."""
    images = jax.ShapeDtypeStruct((1, *model.input_shape[1:]), "float32")
    weights = _values(model.trainable_variables), _values(model.non_trainable_variables)
    return "conv_general_dilated" in str(jax.make_jaxpr(model.stateless_call)(*weights, images))


class Epoch:
    """A compiled model and the images that it goes through, which stay on the device.

    One call makes one step for each batch: it selects the images, which are uint8 until then, and calls `train_step` or
    `test_step` of the model, as Keras's `fit` and `evaluate` do. The results are theirs up to rounding.

    Args:
        model: compiled, with a built optimizer if it is trained.
        split: its images, in memory, and labels.
        batch_size: images per step; the last batch may be smaller.
        steps: steps per call.
    """

    def __init__(self, model: keras.Model, split: Split, batch_size: int, steps: int) -> None:
        self._model, self._batch_size, self._steps = model, batch_size, steps
        self._data = jax.device_put((split.images, split.labels.astype(np.int32)))
        with keras.StatelessScope():  # builds the metrics without computing anything
            (output,) = model.outputs
            labels, outputs = ((1,), "int32"), ((1, *output.shape[1:]), output.dtype)
            jax.eval_shape(model.compute_metrics, None, *(jax.ShapeDtypeStruct(*spec) for spec in (labels, outputs)))

        # Closures of the model alone: an object of this class is freed, with its images, when it is no longer used.
        def train_epoch(state: Any, data: Any, batches: Any) -> Any:
            return _scan(model.train_step, state, data, batches)

        def test_epoch(metrics: Any, weights: Any, data: Any, batches: Any) -> Any:
            def step(metrics: Any, batch: Any) -> tuple[Any, Any]:
                logs, (_, _, metrics) = model.test_step((*weights, metrics), batch)
                return logs, metrics

            return _scan(step, metrics, data, batches)

        self._train_epoch = jax.jit(train_epoch, donate_argnums=0)
        self._test_epoch = jax.jit(test_epoch, donate_argnums=0)

    def train(self, order: npt.NDArray[np.intp]) -> dict[str, float]:
        """Train for an epoch, like Keras's `fit`.

        Variables of the model have no values during the call, nor after an exception.

        Args:
            order: (N,) indices of the images.

        Returns:
            The metrics of the epoch by name, as Keras names them.
        """
        model = self._model
        model.reset_metrics()
        variables = [
            *(model.trainable_variables, model.non_trainable_variables),
            *(model.optimizer.variables, model.metrics_variables),
        ]
        state = tuple(map(_values, variables))
        logs: Any = {}
        for batches in self._calls(order):
            logs, state = self._train_epoch(state, self._data, batches)
            jax.block_until_ready(logs)
            if exits.stop_pending():
                break
        for group, values in zip(variables, state, strict=True):
            for variable, value in zip(group, values, strict=True):
                variable.assign(value)
        model.optimizer.finalize_variable_values(model.trainable_variables)
        return _floats(logs)

    def evaluate(self) -> dict[str, float]:
        """Score all images in their order, like Keras's `evaluate`; the model does not change.

        Returns:
            The metrics by name, as Keras names them.
        """
        model = self._model
        model.reset_metrics()
        weights = _values(model.trainable_variables), _values(model.non_trainable_variables)
        metrics = _values(model.metrics_variables)
        logs: Any = {}
        for batches in self._calls(np.arange(len(self._data[1]))):
            logs, metrics = self._test_epoch(metrics, weights, self._data, batches)
            jax.block_until_ready(logs)
            if exits.stop_pending():
                break
        for variable, value in zip(model.metrics_variables, metrics, strict=True):
            variable.assign(value)
        return _floats(logs)

    def _calls(self, order: npt.NDArray[np.intp]) -> list[tuple[npt.NDArray[Any], ...]]:
        """Split an order into calls, each of one or two (steps, images) arrays: only the last batch may be smaller."""
        whole, rest = np.split(order.astype(np.int32), [len(order) - len(order) % self._batch_size])
        batches = whole.reshape(-1, self._batch_size)
        calls: list[tuple[npt.NDArray[Any], ...]] = [
            (batches[start : start + self._steps],) for start in range(0, len(batches), self._steps)
        ]
        if len(rest):
            last = calls.pop() if calls else ()
            calls.append((*last, rest[None]))
        return calls


def _scan(step: Step, state: Any, data: Any, calls: Any) -> Any:
    """Make a step for each batch.

    Args:
        step: of the model.
        state: before the first step.
        data: images (N, H, W, C) and labels (N,).
        calls: (steps, images) indices, for each size of a batch.

    Returns:
        The logs of the last step, and the state after it.
    """

    def next_batch(state: Any, indices: Any) -> tuple[Any, Any]:
        logs, state = step(state, jax.tree.map(lambda array: array[indices], data))
        return state, logs

    logs: Any = {}
    for batches in calls:
        state, logs = jax.lax.scan(next_batch, state, batches)
    return jax.tree.map(lambda values: values[-1], logs), state


def _values(variables: list[keras.Variable]) -> list[Any]:
    return [variable.value for variable in variables]


def _floats(logs: Any) -> dict[str, float]:
    return {name: float(value) for name, value in jax.device_get(logs).items()}
