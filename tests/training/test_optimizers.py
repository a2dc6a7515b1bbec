"""Optimizers and schedules: Keras's own at their defaults, and at every step the learning rate that was asked for."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from trained import go_on

from cifar_exp.config import memory
from cifar_exp.config.optimizer_schema import OPTIMIZER_ARGUMENTS, OPTIONAL_ARGUMENTS
from cifar_exp.config.schema import Config
from cifar_exp.training import optimizers, runtime, schedules

Compose = Callable[..., Config]

KERAS_CLASSES = {
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


def rates(compose: Compose, steps: int, *overrides: str) -> list[float]:
    """The learning rate of every step of a training."""
    optimizer = optimizers.build(compose("optimizer=sgd", *overrides).optimizer, steps)
    found = []
    for step in range(steps):
        optimizer.iterations.assign(step)
        found.append(float(keras.ops.convert_to_numpy(optimizer.learning_rate)))
    return found


def test_every_optimizer_of_the_schema_is_tested_here() -> None:
    assert set(KERAS_CLASSES) == set(OPTIMIZER_ARGUMENTS)


@pytest.mark.parametrize("name", KERAS_CLASSES)
def test_at_its_defaults_an_optimizer_is_that_of_keras(compose: Compose, name: str) -> None:
    made, of_keras = optimizers.build(compose(f"optimizer={name}").optimizer, steps=10), KERAS_CLASSES[name]()
    assert isinstance(made, type(of_keras))
    expected = of_keras.get_config()
    configured = made.get_config()
    del expected["name"], configured["name"]  # counted up
    for key, value in expected.items():
        assert configured[key] == (pytest.approx(value) if isinstance(value, float) else value), key
    assert set(configured) == set(expected)


FUSED_ALONE = pytest.mark.skipif(not runtime.is_tensorflow_on_cpu(), reason="TensorFlow on a CPU has it alone")


@FUSED_ALONE
@pytest.mark.parametrize(
    "overrides",
    [
        ("optimizer=adam", "optimizer/schedule=cosine"),
        ("optimizer=adam", "optimizer.beta_1=0.5", "optimizer.beta_2=0.8", "optimizer.epsilon=0.1"),
        ("optimizer=adamw", "optimizer.weight_decay=0.1", "optimizer.clipnorm=0.1"),
    ],
    ids=["scheduled", "its betas and epsilon", "decaying and clipped"],
)
def test_steps_of_adam_in_one_operation_are_those_of_keras(
    compose: Compose, monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...]
) -> None:
    config = compose(*overrides).optimizer
    fused = optimizers.build(config, steps=20)
    monkeypatch.setattr(optimizers, "FUSED", {})
    plain = optimizers.build(config, steps=20)
    assert type(fused) is not type(plain)
    generator = np.random.default_rng(0)
    weights = [keras.Variable(np.ones((5, 3), "float32")) for _ in range(2)]
    for _ in range(20):
        gradient = keras.ops.convert_to_tensor(generator.normal(size=(5, 3)).astype("float32"))
        for optimizer, weight in zip((fused, plain), weights, strict=True):
            optimizer.apply([gradient], [weight])
    np.testing.assert_allclose(weights[0].numpy(), weights[1].numpy(), rtol=1e-5)


@FUSED_ALONE
@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_a_training_with_adam_in_one_operation_comes_to_what_keras_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, precision: str
) -> None:
    overrides = ("optimizer=adam", "optimizer/schedule=cosine", f"training.precision={precision}")
    with pytest.raises(KeyboardInterrupt):
        go_on(overrides, tmp_path, stop_after=2)
    fused = go_on(overrides, tmp_path)
    monkeypatch.setattr(optimizers, "FUSED", {})
    plain = go_on(overrides)
    rel = 1e-3 if precision == "mixed_bfloat16" else 1e-4  # a weight that rounds the other way differs by 2**-8 there
    for name in ("train/loss", "val/loss"):
        assert fused.history[name] == pytest.approx(plain.history[name], rel=rel)
    for one, other in zip(fused.model.get_weights(), plain.model.get_weights(), strict=True):
        assert np.allclose(one, other, atol=1e-4)


def test_adam_is_computed_in_one_operation_unless_it_is_amsgrad(compose: Compose) -> None:
    on_cpu = runtime.is_tensorflow_on_cpu()
    for override, can_be in (("optimizer.amsgrad=false", True), ("optimizer.amsgrad=true", False)):
        made = optimizers.build(compose("optimizer=adam", override).optimizer, steps=10)
        assert (type(made) is not keras.optimizers.Adam) == (can_be and on_cpu)


@pytest.mark.parametrize("name", KERAS_CLASSES)
def test_defaults_in_conf_are_those_of_the_constructor(compose: Compose, name: str) -> None:
    config = compose(f"optimizer={name}").optimizer
    parameters = inspect.signature(KERAS_CLASSES[name].__init__).parameters
    for argument in OPTIMIZER_ARGUMENTS[name] | OPTIONAL_ARGUMENTS - {"no_weight_decay"}:
        assert getattr(config, argument) == parameters[argument].default, argument


@pytest.mark.parametrize(
    ("name", "argument", "value"),
    [
        ("sgd", "momentum", 0.9),
        ("sgd", "clipnorm", 1.5),
        ("sgd", "weight_decay", 0.01),
        ("adam", "beta_1", 0.5),
        ("adam", "amsgrad", True),
        ("adamw", "weight_decay", 0.1),
        ("nadam", "beta_2", 0.9),
        ("rmsprop", "centered", True),
        ("rmsprop", "rho", 0.5),
        ("adagrad", "initial_accumulator_value", 0.3),
        ("adadelta", "epsilon", 0.001),
        ("adamax", "beta_1", 0.7),
        ("adafactor", "relative_step", False),
        ("ftrl", "l1_regularization_strength", 0.1),
        ("lion", "beta_2", 0.9),
        ("muon", "ns_steps", 3),
        ("sgd", "clipvalue", 0.1),
        ("adam", "global_clipnorm", 2.0),
        ("sgd", "gradient_accumulation_steps", 4),
    ],
)
def test_an_argument_reaches_keras(compose: Compose, name: str, argument: str, value: Any) -> None:
    config = compose(f"optimizer={name}", f"optimizer.{argument}={str(value).lower()}").optimizer
    assert optimizers.build(config, steps=10).get_config()[argument] == value


@pytest.mark.parametrize("name", KERAS_CLASSES)
def test_memory_is_counted_for_the_values_that_an_optimizer_keeps(compose: Compose, name: str) -> None:
    for accumulation in ("null", "2"):
        config = compose(f"optimizer={name}", f"optimizer.gradient_accumulation_steps={accumulation}").optimizer
        optimizer = optimizers.build(config, steps=10)
        optimizer.build([keras.Variable(np.zeros((50, 40), "float32"))])
        kept = sum(math.prod(variable.shape) for variable in optimizer.variables) / 2000
        assert memory._slots(config) <= kept < memory._slots(config) + (1.1 if name == "adafactor" else 0.1)


@pytest.mark.parametrize("name", KERAS_CLASSES)
def test_a_training_step_moves_the_weights_as_that_of_keras_does(compose: Compose, name: str) -> None:
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(8, 4)).astype("float32")
    labels = generator.integers(0, 3, 8)
    start = generator.normal(size=(4, 3)).astype("float32")

    def after_a_step(optimizer: keras.Optimizer) -> Any:
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, use_bias=False)])
        model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True)
        model.set_weights([start])
        model.train_on_batch(inputs, labels)
        return model.get_weights()[0]

    moved = after_a_step(optimizers.build(compose(f"optimizer={name}").optimizer, steps=1))
    assert not np.array_equal(moved, start)
    assert np.isfinite(moved).all()
    np.testing.assert_allclose(moved, after_a_step(KERAS_CLASSES[name]()), rtol=1e-6, atol=1e-7)


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


def test_weights_that_are_left_out_do_not_decay(compose: Compose) -> None:
    overrides = ("optimizer=sgd", "optimizer.weight_decay=0.5", "optimizer.no_weight_decay=[bias]")
    optimizer = optimizers.build(compose(*overrides).optimizer, steps=1)
    dense = keras.layers.Dense(2, bias_initializer="ones", kernel_initializer="ones")
    dense.build((None, 3))
    optimizer.build(dense.trainable_variables)
    optimizer.apply([keras.ops.zeros_like(one) for one in dense.trainable_variables], dense.trainable_variables)
    assert (dense.kernel.numpy() < 1).all() and (dense.bias.numpy() == 1).all()


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
