"""Learning rate schedules: the rate as a function of the step, and of the validation for `plateau`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from cifar_exp.config.optimizer_schema import OptimizerConfig

PLATEAU = "plateau"
_MIN_DELTA = 1e-4  # improvement that counts; the default of keras.callbacks.ReduceLROnPlateau


def build(config: OptimizerConfig, steps: int) -> Any:
    """Return the schedule as Keras takes it: a `LearningRateSchedule`, or a constant rate.

    Args:
        config: its learning rate and schedule are used.
        steps: number of batches of the whole training.
    """
    settings, rate = config.schedule, config.learning_rate
    warmup = round((settings.warmup or 0) * steps)
    if settings.name == "one_cycle":
        return OneCycle(rate, steps, settings.warmup or 0, settings.final or 0)
    if settings.name == "cosine":
        return keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0 if warmup else rate,
            decay_steps=max(1, steps - warmup),
            alpha=settings.final,
            warmup_target=rate if warmup else None,
            warmup_steps=warmup,
        )
    schedule = _after_warmup(config, max(1, steps - warmup))
    # After its last step, a schedule with restarts would begin again, and its first rate would be logged.
    return WarmUp(schedule, rate, warmup, steps) if warmup or settings.name == "cosine_restarts" else schedule


def _after_warmup(config: OptimizerConfig, steps: int) -> Any:
    """Return the schedule of the steps that follow the warm-up, if there is any."""
    settings: Any = config.schedule  # its arguments have been checked: those of this schedule have values
    rate, schedules = config.learning_rate, keras.optimizers.schedules
    if settings.name == "inverse_time":
        return schedules.InverseTimeDecay(rate, decay_steps=1, decay_rate=settings.decay)
    if settings.name == "exponential":
        return schedules.ExponentialDecay(rate, decay_steps=steps, decay_rate=settings.final)
    if settings.name == "polynomial":
        return schedules.PolynomialDecay(rate, steps, end_learning_rate=rate * settings.final, power=settings.power)
    if settings.name == "cosine_restarts":
        return schedules.CosineDecayRestarts(
            rate, first_decay_steps=max(1, -(-steps // settings.cycles)), t_mul=1.0, alpha=settings.final
        )
    if settings.name == "step":
        # Keras's boundaries are the last steps of their interval.
        boundaries = [round(milestone * steps) - 1 for milestone in settings.milestones]
        rates = [rate * settings.factor**number for number in range(len(boundaries) + 1)]
        return schedules.PiecewiseConstantDecay(boundaries, rates)
    return rate


class WarmUp(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """Schedule that rises linearly from 0 to `rate`, and then follows another schedule from its beginning.

    Args:
        schedule: to follow; a constant rate or a `LearningRateSchedule`.
        rate: highest learning rate of the warm-up.
        warmup: number of steps of the warm-up.
        steps: number of all steps; after the last one the rate stays.
    """

    def __init__(self, schedule: Any, rate: float, warmup: int, steps: int) -> None:
        self.schedule, self.rate, self.warmup, self.steps = schedule, rate, warmup, steps

    def __call__(self, step: Any) -> Any:
        """Return the learning rate of a step, counted from 0, as a float32 scalar."""
        step = ops.minimum(ops.cast(step, "float32"), self.steps - 1.0)
        rest = ops.maximum(step - self.warmup, 0.0)
        after = self.schedule(rest) if callable(self.schedule) else self.schedule
        return ops.where(step < self.warmup, self.rate * step / max(1, self.warmup), after)


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


def on_plateau(config: OptimizerConfig, losses: Sequence[float]) -> float:
    """Return the learning rate of the next epoch with the schedule `plateau`.

    It is that of `keras.callbacks.ReduceLROnPlateau`, but computed from the history, so that it has no state to save.

    Args:
        config: its learning rate, and factor and patience of its schedule are used.
        losses: validation loss of each epoch so far.
    """
    settings: Any = config.schedule
    best, waited, rate = float("inf"), 0, config.learning_rate
    for loss in losses:
        waited += 1
        if loss < best - _MIN_DELTA:
            best, waited = loss, 0
        elif waited >= settings.patience:
            rate, waited = rate * settings.factor, 0
    return rate
