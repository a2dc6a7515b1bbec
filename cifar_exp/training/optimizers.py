"""Keras optimizers from their config."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import keras
from keras import ops

from cifar_exp.config.optimizer_schema import OptimizerConfig
from cifar_exp.training import runtime, schedules

_CLASSES = {
    "sgd": keras.optimizers.SGD,
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "nadam": keras.optimizers.Nadam,
    "rmsprop": keras.optimizers.RMSprop,
    "adagrad": keras.optimizers.Adagrad,
    "adadelta": keras.optimizers.Adadelta,
    "adamax": keras.optimizers.Adamax,
    "adafactor": keras.optimizers.Adafactor,
    "ftrl": keras.optimizers.Ftrl,
    "lamb": keras.optimizers.Lamb,
    "lion": keras.optimizers.Lion,
    "muon": keras.optimizers.Muon,
}


def _adam_step(self: Any, gradient: Any, variable: Any, learning_rate: Any) -> None:
    """`update_step` of Adam as one TensorFlow operation instead of Keras's dozen."""
    import tensorflow as tf  # Keras has no API for this

    index = self._get_variable_index(variable)
    step = ops.cast(self.iterations + 1, "float32")
    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=self._momentums[index].value.handle,
        v=self._velocities[index].value.handle,
        beta1_power=ops.power(self.beta_1, step),
        beta2_power=ops.power(self.beta_2, step),
        lr=ops.cast(learning_rate, "float32"),
        beta1=self.beta_1,
        beta2=self.beta_2,
        epsilon=self.epsilon,
        grad=gradient,
    )


class _Adam(keras.optimizers.Adam):  # type: ignore[misc]
    update_step = _adam_step


class _AdamW(keras.optimizers.AdamW):  # type: ignore[misc]
    update_step = _adam_step


FUSED = {"adam": _Adam, "adamw": _AdamW}
"""Faster optimizers for TensorFlow on a CPU, by name; they give the same results."""


def build(config: OptimizerConfig, steps: int) -> keras.Optimizer:
    """Build an optimizer with its learning rate schedule.

    Args:
        config: name and arguments of the optimizer and of the schedule.
        steps: number of batches of the whole training.
    """
    arguments = {name: value for name, value in asdict(config).items() if value is not None}
    for ours in ("name", "schedule", "no_weight_decay"):
        arguments.pop(ours, None)
    arguments["learning_rate"] = schedules.build(config, steps)
    can_fuse = runtime.is_tensorflow_on_cpu() and not config.amsgrad
    optimizer_class = (FUSED if can_fuse else {}).get(config.name, _CLASSES[config.name])
    optimizer: keras.Optimizer = optimizer_class(name=config.name, **arguments)
    if config.no_weight_decay:
        optimizer.exclude_from_weight_decay(var_names=list(config.no_weight_decay))
    return optimizer
