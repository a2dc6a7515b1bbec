"""Learning rates, step by step, beside their formulas and Keras's callback."""

from __future__ import annotations

import math
from collections.abc import Callable

import keras
import numpy as np
import pytest
from trained import go_on

from cifar_exp.config.schema import Config
from cifar_exp.training import optimizers, schedules

Compose = Callable[..., Config]


def rates(compose: Compose, steps: int, *overrides: str) -> list[float]:
    """The learning rate of every step of a training."""
    optimizer = optimizers.build(compose("optimizer=sgd", *overrides).optimizer, steps)
    found = []
    for step in range(steps):
        optimizer.iterations.assign(step)
        found.append(float(keras.ops.convert_to_numpy(optimizer.learning_rate)))
    return found


def test_a_constant_rate_stays(compose: Compose) -> None:
    assert rates(compose, 5, "optimizer.learning_rate=0.2") == pytest.approx([0.2] * 5)


@pytest.mark.parametrize("decay", [1e-4, 0.01, 0.5, 0.0])
def test_inverse_time_is_the_rate_over_one_plus_decay_times_step(compose: Compose, decay: float) -> None:
    overrides = ["optimizer/schedule=inverse_time", f"optimizer.schedule.decay={decay}", "optimizer.learning_rate=0.3"]
    found = rates(compose, 200, *overrides)
    for step in (0, 1, 7, 50, 199):
        assert found[step] == pytest.approx(0.3 / (1 + decay * step), rel=1e-5)


@pytest.mark.parametrize("preset", ["s2_final", "s3_simple", "s3_bn"])
def test_four_hundred_steps_of_a_preset_are_those_of_sgd_with_the_legacy_decay(compose: Compose, preset: str) -> None:
    config = compose(f"experiment={preset}").optimizer
    assert config.name == "sgd" and config.schedule.decay and config.momentum
    optimizer = optimizers.build(config, steps=400)
    weight = keras.Variable(np.zeros(3, "float32"))
    optimizer.build([weight])
    expected, velocity = np.zeros(3), np.zeros(3)
    # Of one sign, so that what a wrong rate does adds up.
    for step, gradient in enumerate(np.random.default_rng(0).uniform(0.5, 1.5, (400, 3))):
        # As keras.optimizers.SGD(decay=...) before Keras 2.11: `iterations` counts the steps that are done.
        rate = config.learning_rate * (1.0 / (1.0 + config.schedule.decay * step))
        velocity = config.momentum * velocity - rate * gradient
        expected = expected + (config.momentum * velocity - rate * gradient if config.nesterov else velocity)
        optimizer.apply([keras.ops.convert_to_tensor(gradient.astype("float32"))], [weight])
        np.testing.assert_allclose(weight.numpy(), expected, rtol=1e-5)
    assert int(keras.ops.convert_to_numpy(optimizer.iterations)) == 400


def test_cosine_falls_from_the_rate_to_its_final_share(compose: Compose) -> None:
    overrides = ["optimizer/schedule=cosine", "optimizer.schedule.final=0.1", "optimizer.learning_rate=0.4"]
    found = rates(compose, 100, *overrides)
    for step in (0, 25, 50, 99):
        share = 0.5 * (1 + math.cos(math.pi * step / 100))
        assert found[step] == pytest.approx(0.4 * (0.9 * share + 0.1), rel=1e-5)


def test_cosine_warms_up_in_a_straight_line_first(compose: Compose) -> None:
    overrides = ["optimizer/schedule=cosine", "optimizer.schedule.warmup=0.2", "optimizer.learning_rate=0.4"]
    found = rates(compose, 100, *overrides)
    assert found[:20] == pytest.approx([0.4 * step / 20 for step in range(20)], abs=1e-6)
    for step in (20, 40, 60, 99):
        assert found[step] == pytest.approx(0.2 * (1 + math.cos(math.pi * (step - 20) / 80)), abs=1e-6)
    assert max(found) == pytest.approx(0.4)


def test_one_cycle_rises_to_the_rate_and_falls_to_its_final_share(compose: Compose) -> None:
    overrides = ["optimizer/schedule=one_cycle", "optimizer.learning_rate=0.4", "optimizer.schedule.final=0.05"]
    found = rates(compose, 101, *overrides)
    assert found[0] == 0
    assert found[15] == pytest.approx(0.2)
    assert found[30] == pytest.approx(0.4)
    assert found[65] == pytest.approx((0.4 + 0.02) / 2)
    assert found[100] == pytest.approx(0.02)
    assert max(found) == pytest.approx(0.4)


def test_one_cycle_without_warmup_starts_at_the_rate(compose: Compose) -> None:
    overrides = ["optimizer/schedule=one_cycle", "optimizer.learning_rate=0.4", "optimizer.schedule.warmup=0"]
    found = rates(compose, 11, *overrides)
    assert found == pytest.approx([0.4 * (10 - step) / 10 for step in range(11)], abs=1e-6)


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle"])
@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("warmup", [0.0, 0.5, 0.99])
def test_a_very_short_training_has_a_usable_rate(compose: Compose, schedule: str, steps: int, warmup: float) -> None:
    found = rates(compose, steps, f"optimizer/schedule={schedule}", f"optimizer.schedule.warmup={warmup}")
    assert all(math.isfinite(rate) and 0 <= rate <= 0.01 + 1e-9 for rate in found)


def test_one_cycle_does_not_fall_below_its_final_share_after_the_last_step(compose: Compose) -> None:
    config = compose("optimizer=sgd", "optimizer/schedule=one_cycle", "optimizer.schedule.final=0.5").optimizer
    optimizer = optimizers.build(config, steps=10)
    optimizer.iterations.assign(10)  # as after the last batch, when the epoch's learning rate is logged
    assert float(keras.ops.convert_to_numpy(optimizer.learning_rate)) == pytest.approx(0.005)


def test_step_is_multiplied_after_each_milestone(compose: Compose) -> None:
    found = rates(compose, 100, "optimizer/schedule=step", "optimizer.learning_rate=0.4")
    assert found == pytest.approx([0.4] * 50 + [0.04] * 25 + [0.004] * 25)


def test_exponential_falls_by_the_same_share_in_every_step(compose: Compose) -> None:
    overrides = ["optimizer/schedule=exponential", "optimizer.schedule.final=0.25", "optimizer.learning_rate=0.4"]
    assert rates(compose, 50, *overrides) == pytest.approx([0.4 * 0.25 ** (step / 50) for step in range(50)], rel=1e-5)


def test_polynomial_falls_with_its_power(compose: Compose) -> None:
    overrides = ["optimizer/schedule=polynomial", "optimizer.schedule.power=2", "optimizer.schedule.final=0.1"]
    expected = [0.01 * (0.9 * (1 - step / 40) ** 2 + 0.1) for step in range(40)]
    assert rates(compose, 40, *overrides) == pytest.approx(expected, rel=1e-4)


def test_cosine_restarts_at_the_full_rate_and_stays_low_after_the_last_step(compose: Compose) -> None:
    found = rates(compose, 40, "optimizer/schedule=cosine_restarts", "optimizer.learning_rate=0.4")
    cosine = [0.2 * (1 + math.cos(math.pi * step / 20)) for step in range(20)]
    assert found == pytest.approx(cosine * 2, abs=1e-6)
    optimizer = optimizers.build(compose("optimizer=sgd", "optimizer/schedule=cosine_restarts").optimizer, 40)
    optimizer.iterations.assign(40)
    assert float(keras.ops.convert_to_numpy(optimizer.learning_rate)) < 0.001


@pytest.mark.parametrize("schedule", ["constant", "step", "exponential", "polynomial", "inverse_time"])
def test_a_warm_up_precedes_any_schedule(compose: Compose, schedule: str) -> None:
    overrides = [f"optimizer/schedule={schedule}", "optimizer.learning_rate=0.4"]
    warm = rates(compose, 100, *overrides, "optimizer.schedule.warmup=0.2")
    assert warm[:20] == pytest.approx([0.4 * step / 20 for step in range(20)], abs=1e-6)
    assert warm[20:] == pytest.approx(rates(compose, 80, *overrides), rel=1e-5)


def test_a_schedule_counts_batches_where_several_make_one_update(compose: Compose) -> None:
    overrides = ("optimizer=sgd", "optimizer/schedule=polynomial", "optimizer.gradient_accumulation_steps=4")
    optimizer = optimizers.build(compose(*overrides).optimizer, steps=40)
    weight = keras.Variable(np.zeros(2, "float32"))
    optimizer.build([weight])
    for _ in range(36):
        optimizer.apply([keras.ops.ones(2)], [weight])
    assert float(keras.ops.convert_to_numpy(optimizer.learning_rate)) == pytest.approx(0.01 * (1 - 36 / 40))
    assert weight.numpy() == pytest.approx([-sum(0.01 * (1 - batch / 40) for batch in range(3, 36, 4))] * 2, rel=1e-5)


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_on_a_plateau_the_rate_falls_as_with_the_callback_of_keras(compose: Compose, patience: int) -> None:
    losses = [3.0, 2.0, 2.00001, 2.5, 1.5, 1.6, 1.49995, 1.7, 1.8, 1.0, 1.1, 1.2, 1.3, 1.4, 0.9]
    overrides = ("optimizer=sgd", "optimizer/schedule=plateau", f"optimizer.schedule.patience={patience}")
    config = compose(*overrides, "optimizer.schedule.factor=0.5").optimizer
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(config.learning_rate), "mse")
    callback = keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=patience)
    callback.set_model(model)
    callback.on_train_begin()
    for epoch, loss in enumerate(losses):
        expected = float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))
        assert schedules.on_plateau(config, losses[:epoch]) == pytest.approx(expected)
        callback.on_epoch_end(epoch, {"val_loss": loss})


def test_a_training_on_a_plateau_logs_its_lower_rates() -> None:
    overrides = ("optimizer/schedule=plateau", "optimizer.schedule.patience=1", "optimizer.learning_rate=30")
    history = go_on((*overrides, "training.epochs=6")).history
    assert history["train/learning_rate"][0] == 30 and history["train/learning_rate"][-1] < 30
