"""Keras optimizers and learning rate schedules from their config."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import keras
from keras import ops

from cifar_exp.config.schema import OptimizerConfig
from cifar_exp.training import runtime

_CLASSES = {
    "sgd": keras.optimizers.SGD,
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "nadam": keras.optimizers.Nadam,
    "rmsprop": keras.optimizers.RMSprop,
    "adagrad": keras.optimizers.Adagrad,
    "adadelta": keras.optimizers.Adadelta,
    "adamax": keras.optimizers.Adamax,
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
        steps: number of steps (batches) of the whole training.
    """
    arguments = {name: value for name, value in asdict(config).items() if value is not None}
    del arguments["name"], arguments["schedule"]
    arguments["learning_rate"] = _schedule(config, steps)
    can_fuse = runtime.is_tensorflow_on_cpu() and not config.amsgrad
    optimizer_class = (FUSED if can_fuse else {}).get(config.name, _CLASSES[config.name])
    return optimizer_class(name=config.name, **arguments)


def _schedule(config: OptimizerConfig, steps: int) -> Any:
    """Return the schedule as Keras takes it: a `LearningRateSchedule`, or a constant rate."""
    schedule, rate = config.schedule, config.learning_rate
    if schedule.name == "inverse_time":
        return keras.optimizers.schedules.InverseTimeDecay(rate, decay_steps=1, decay_rate=schedule.decay)
    if schedule.name == "cosine":
        warmup = round((schedule.warmup or 0) * steps)
        return keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0 if warmup else rate,
            decay_steps=max(1, steps - warmup),
            alpha=schedule.final,
            warmup_target=rate if warmup else None,
            warmup_steps=warmup,
        )
    if schedule.name == "one_cycle":
        return OneCycle(rate, steps, schedule.warmup or 0, schedule.final or 0)
    return rate


class OneCycle(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """Schedule that rises linearly from 0 to `peak` and then falls linearly to `final * peak`.

    Args:
        peak: highest learning rate.
        steps: number of steps of the training.
        warmup: share of the steps in which the rate rises, in 0..1.
        final: last learning rate as a share of `peak`.
    """

    def __init__(self, peak: float, steps: int, warmup: float, final: float) -> None:
        self.peak, self.steps, self.warmup, self.final = peak, steps, warmup, final

    def __call__(self, step: Any) -> Any:
        """Return the learning rate of a step, counted from 0, as a float32 scalar."""
        progress = ops.minimum(ops.cast(step, "float32") / max(1, self.steps - 1), 1.0)
        rising = progress / max(self.warmup, 1e-9)
        falling = 1 - (1 - self.final) * (progress - self.warmup) / (1 - self.warmup)
        return self.peak * ops.clip(ops.minimum(rising, falling) if self.warmup else falling, 0.0, 1.0)
