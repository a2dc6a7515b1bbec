"""Averaged weights: those of Keras, shown between epochs without changing the weights that training moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest

from cifar_exp.config.schema import Config
from cifar_exp.training import averaging, optimizers, state
from cifar_exp.training.checkpoint import Checkpoint

Compose = Callable[..., Config]
EPOCHS = 3
GENERATOR = np.random.default_rng(0)
INPUTS, LABELS = GENERATOR.normal(size=(12, 4)).astype("float32"), GENERATOR.integers(0, 3, 12)
START = GENERATOR.normal(size=(4, 3)).astype("float32")
SCHEDULE_FREE = ("optimizer=schedule_free_adamw", "optimizer.learning_rate=0.1")
AVERAGING = {
    "momentum": ("optimizer=sgd", "optimizer.momentum=0.9", "optimizer.ema=0.8"),
    "accumulated": ("optimizer=adam", "optimizer.gradient_accumulation_steps=2", "optimizer.ema=0.5"),
    "schedule-free": SCHEDULE_FREE,
}


def compiled(optimizer: keras.Optimizer) -> keras.Model:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, use_bias=False)])
    model.set_weights([START])
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    return model


def train(model: keras.Model, epochs: int = 1, batch_size: int = 5) -> None:
    model.fit(INPUTS, LABELS, batch_size=batch_size, epochs=epochs, shuffle=False, verbose=0)


def weights(model: keras.Model) -> npt.NDArray[Any]:
    return np.array(model.get_weights()[0])


@pytest.mark.parametrize("overrides", AVERAGING.values(), ids=AVERAGING)
def test_epochs_of_their_own_come_to_what_keras_averages_in_one_fit(
    compose: Compose, overrides: tuple[str, ...]
) -> None:
    config = compose(*overrides).optimizer
    made = [optimizers.build(config, steps=9) for _ in range(2)]
    del made[1].finalize_variable_values  # Keras's own again
    half = "optimizer=sgd" in overrides
    ours, of_keras = (compiled(keras.optimizers.LossScaleOptimizer(one) if half else one) for one in made)
    for epoch in range(EPOCHS):
        if epoch:
            averaging.show_moving_weights(ours.optimizer)
        train(ours)
    train(of_keras, EPOCHS)
    if config.ema is None:  # of a schedule-free one, Keras shows what training moves
        averages = weights(ours)
        averaging.show_moving_weights(ours.optimizer)
        assert not np.allclose(weights(ours), averages, atol=1e-4)
    np.testing.assert_allclose(weights(ours), weights(of_keras), rtol=1e-4, atol=1e-6)
    assert not np.allclose(weights(ours), START, atol=1e-4)


def test_a_schedule_free_model_has_the_mean_of_the_steps_between_epochs(compose: Compose) -> None:
    model = compiled(optimizers.build(compose(*SCHEDULE_FREE).optimizer, steps=EPOCHS))
    steps = []
    for epoch in range(EPOCHS):
        if epoch:
            averaging.show_moving_weights(model.optimizer)
        train(model, batch_size=12)  # one step
        steps.append(np.array(keras.ops.convert_to_numpy(model.optimizer._momentums[0])))
        np.testing.assert_allclose(weights(model), np.mean(steps, axis=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("overrides", AVERAGING.values(), ids=AVERAGING)
def test_a_checkpoint_has_averages_and_what_training_goes_on_with(compose: Compose, overrides: tuple[str, ...]) -> None:
    config = compose(*overrides).optimizer
    model, resumed = (compiled(optimizers.build(config, steps=9)) for _ in range(2))
    train(model)
    saved = Checkpoint({"val/accuracy": [0.0]}, {name: np.copy(a) for name, a in state.capture(model, None).items()})
    state.restore(resumed, saved, with_best=False)
    assert np.array_equal(weights(resumed), weights(model))
    for one in (model, resumed):
        averaging.show_moving_weights(one.optimizer)
        train(one)
    assert np.array_equal(weights(resumed), weights(model))


def test_an_optimizer_without_averages_is_left_alone(compose: Compose) -> None:
    model = compiled(optimizers.build(compose("optimizer=sgd").optimizer, steps=9))
    train(model)
    before = weights(model)
    averaging.show_moving_weights(model.optimizer)
    assert np.array_equal(weights(model), before)
