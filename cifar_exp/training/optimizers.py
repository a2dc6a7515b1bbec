"""Keras optimizers from their config."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import keras
from keras import ops

from cifar_exp.config.optimizer_schema import OptimizerConfig
from cifar_exp.training import averaging, runtime, schedules
from cifar_exp.training.muon import ConvolutionalMuon


class _ScheduleFreeAdamW(keras.optimizers.ScheduleFreeAdamW):  # type: ignore[misc]
    """Keras 3.15 takes the new z for the old one, except on JAX: it keeps a reference to what it then changes."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Make the step of Defazio et al. (2024): x is the mean of all z, and the gradient is taken at y."""
        index = self._get_variable_index(variable)
        z, velocity = self._momentums[index], self._velocities[index]
        step = ops.cast(self.iterations + 1, "float32")
        x = (variable - (1 - self.beta_1) * z) / self.beta_1
        self.assign_add(velocity, (1 - self.beta_2) * (ops.square(gradient) - velocity))
        size = ops.sqrt(velocity / (1 - ops.power(self.beta_2, step))) + self.epsilon
        self.assign_sub(z, ops.cast(learning_rate, "float32") * gradient / size)
        x = x + (z - x) / step
        self.assign(variable, self.beta_1 * x + (1 - self.beta_1) * z)


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
    "muon_conv": ConvolutionalMuon,
    "schedule_free_adamw": _ScheduleFreeAdamW,
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
    for ours in ("name", "schedule", "no_weight_decay", "ema"):
        arguments.pop(ours, None)
    if config.ema:
        arguments |= {"use_ema": True, "ema_momentum": config.ema}
    arguments["learning_rate"] = schedules.build(config, steps)
    can_fuse = runtime.is_tensorflow_on_cpu() and not config.amsgrad
    optimizer_class = (FUSED if can_fuse else {}).get(config.name, _CLASSES[config.name])
    optimizer: keras.Optimizer = optimizer_class(name=config.name, **arguments)
    if config.no_weight_decay:
        optimizer.exclude_from_weight_decay(var_names=list(config.no_weight_decay))
    averaging.show_averages_after_fit(optimizer)
    return optimizer
