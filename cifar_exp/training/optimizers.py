"""Optimizer config -> keras optimizer with its schedule."""

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
    """What Keras computes in a dozen operations, and TensorFlow in one."""
    import tensorflow as tf  # Keras has no call for it

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


def build(config: OptimizerConfig, steps: int) -> keras.Optimizer:
    """The optimizer for a training of this many steps (batches) in all."""
    arguments = {name: value for name, value in asdict(config).items() if value is not None}
    del arguments["name"], arguments["schedule"]
    arguments["learning_rate"] = _schedule(config, steps)
    can_fuse = runtime.is_tensorflow_on_cpu() and not config.amsgrad
    made = (FUSED if can_fuse else {}).get(config.name, _CLASSES[config.name])
    return made(name=config.name, **arguments)


def _schedule(config: OptimizerConfig, steps: int) -> Any:
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
    """Straight up to `peak` over the first `warmup` of `steps`, straight down to `final * peak` over the rest."""

    def __init__(self, peak: float, steps: int, warmup: float, final: float) -> None:
        self.peak, self.steps, self.warmup, self.final = peak, steps, warmup, final

    def __call__(self, step: Any) -> Any:
        """The learning rate, a float32 scalar, of this step, counted from 0."""
        done = ops.minimum(ops.cast(step, "float32") / max(1, self.steps - 1), 1.0)
        up = done / max(self.warmup, 1e-9)
        down = 1 - (1 - self.final) * (done - self.warmup) / (1 - self.warmup)
        return self.peak * ops.clip(ops.minimum(up, down) if self.warmup else down, 0.0, 1.0)
