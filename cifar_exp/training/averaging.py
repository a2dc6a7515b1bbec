"""Averaged weights: a training moves one set of weights, and an average of them is validated, kept and logged.

Keras overwrites the weights by their moving average at the end of each `fit`, and the schedule-free AdamW never shows
its average. Here each epoch is a `fit` of its own, so weights and averages are exchanged at its end, and back before
the next one. Between two epochs the model has the averages, and the variables of the optimizer have what training goes
on with: a checkpoint of all variables is the whole state.

Only trainable weights are averaged. The statistics of batch normalization are those of the weights that training moves,
which are averages over batches themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops


def show_averages_after_fit(optimizer: keras.Optimizer) -> None:
    """Make an optimizer that averages weights leave the averages in the model at the end of each `fit`.

    Keras calls `finalize_variable_values` there, and so does `epoch.Epoch`. It is replaced for this object alone: with
    a class of our own, Keras would not choose PyTorch's optimizer.

    Args:
        optimizer: not built yet; any.
    """
    exchange = _exchange(optimizer)
    if exchange:
        optimizer.finalize_variable_values = lambda _: exchange(optimizer, True)


def show_moving_weights(optimizer: keras.Optimizer) -> None:
    """Put the weights that training moves back into the model, if the epoch before has left averages there.

    Args:
        optimizer: of a compiled model, after at least one epoch.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of the loss scale of half precision
    exchange = _exchange(optimizer)
    if exchange:
        exchange(optimizer, False)


def _exchange(optimizer: keras.Optimizer) -> Callable[[Any, bool], None] | None:
    """Return what exchanges weights and averages; None if an optimizer has no averages."""
    if optimizer.use_ema:
        return _swap
    return _interpolate if isinstance(optimizer, keras.optimizers.ScheduleFreeAdamW) else None


def _swap(optimizer: Any, to_averages: bool) -> None:
    """Swap weights and moving averages; this is its own reverse."""
    pairs = zip(optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True)
    for weight, average in pairs:
        value = ops.copy(weight)
        weight.assign(average)
        average.assign(value)


def _interpolate(optimizer: Any, to_averages: bool) -> None:
    """Solve y = beta_1 * x + (1 - beta_1) * z for the average x, or the other way round.

    The optimizer keeps z, its `momentum`, and its steps leave y in the model (Defazio et al., 2024).
    """
    beta = optimizer.beta_1
    for weight, z in zip(optimizer._trainable_variables, optimizer._momentums, strict=True):
        weight.assign((weight - (1 - beta) * z) / beta if to_averages else beta * weight + (1 - beta) * z)
