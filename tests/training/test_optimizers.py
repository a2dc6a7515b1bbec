"""Optimizers: Keras's own at their defaults, with every argument passed on, and Adam in one operation."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from trained import go_on

from cifar_exp.config import memory
from cifar_exp.config.optimizer_schema import OPTIMIZER_ARGUMENTS, OPTIONAL_ARGUMENTS
from cifar_exp.config.schema import Config
from cifar_exp.training import optimizers, runtime

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
    "muon_conv": keras.optimizers.Muon,
    "schedule_free_adamw": keras.optimizers.ScheduleFreeAdamW,
}


def test_every_optimizer_of_the_schema_is_tested_here() -> None:
    assert set(KERAS_CLASSES) == set(OPTIMIZER_ARGUMENTS)


@pytest.mark.parametrize("name", KERAS_CLASSES)
def test_at_its_defaults_an_optimizer_is_that_of_keras(compose: Compose, name: str) -> None:
    config = compose(f"optimizer={name}").optimizer
    made, of_keras = optimizers.build(config, steps=10), KERAS_CLASSES[name]()
    assert config.name == name
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
    monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    overrides = ("optimizer=adam", "optimizer/schedule=cosine", f"training.precision={precision}", "training.epochs=2")
    fused = go_on(overrides)
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
    for argument in OPTIMIZER_ARGUMENTS[name] | OPTIONAL_ARGUMENTS - {"no_weight_decay", "ema"}:
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
        at_most = memory._slots(config) + (1.1 if name in ("adafactor", "muon_conv") else 0.1)
        assert memory._slots(config) <= kept < at_most


@pytest.mark.parametrize("name", sorted({*KERAS_CLASSES} - {"muon_conv"}))  # which has a test of its own
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


def test_weights_that_are_left_out_do_not_decay(compose: Compose) -> None:
    overrides = ("optimizer=sgd", "optimizer.weight_decay=0.5", "optimizer.no_weight_decay=[bias]")
    optimizer = optimizers.build(compose(*overrides).optimizer, steps=1)
    dense = keras.layers.Dense(2, bias_initializer="ones", kernel_initializer="ones")
    dense.build((None, 3))
    optimizer.build(dense.trainable_variables)
    optimizer.apply([keras.ops.zeros_like(one) for one in dense.trainable_variables], dense.trainable_variables)
    assert (dense.kernel.numpy() < 1).all() and (dense.bias.numpy() == 1).all()


def test_muon_trains_a_convolution_as_keras_does_a_dense_layer_and_the_last_layer_with_adamw(compose: Compose) -> None:
    generator = np.random.default_rng(0)
    shapes = {
        "convolution/kernel": (3, 3, 4, 8),
        "depthwise/kernel": (3, 3, 4, 2),
        "renamed/kernel": (3, 3, 4, 1),  # depthwise too
        "dense/kernel": (8, 5),
        "dense/bias": (5,),
        "position/bias": (4, 5),
        "classifier/kernel": (5, 3),
    }
    weights, gradients = (
        {path: generator.normal(size=shape).astype("float32") for path, shape in shapes.items()} for _ in range(2)
    )

    def after_two_steps(optimizer: keras.Optimizer, shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
        variables = {}
        for path, value in weights.items():
            layer, name = path.split("/")
            with keras.name_scope(layer):
                variables[path] = keras.Variable(value.reshape(shapes[path]), name=name)
        for _ in range(2):
            optimizer.apply([gradients[path].reshape(shapes[path]) for path in shapes], [*variables.values()])
        return {path: keras.ops.convert_to_numpy(v).reshape(weights[path].shape) for path, v in variables.items()}

    config = compose("optimizer=muon_conv", "optimizer.weight_decay=0.1").optimizer
    of_keras = keras.optimizers.Muon(weight_decay=0.1, exclude_layers=["classifier", "position"])
    moved = after_two_steps(optimizers.build(config, steps=2), shapes)
    expected = after_two_steps(of_keras, shapes | {"convolution/kernel": (36, 8)})
    for path in shapes:
        assert not np.array_equal(moved[path], weights[path])
        np.testing.assert_allclose(moved[path], expected[path], rtol=1e-5, atol=1e-6, err_msg=path)


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_muon_makes_the_singular_values_of_an_update_nearly_equal(compose: Compose, precision: str) -> None:
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        optimizer = optimizers.build(compose("optimizer=muon_conv").optimizer, steps=1)
        optimizer.build(
            [keras.Variable(np.zeros(shape, "float32"), name="kernel") for shape in ((3, 3, 16, 24), (24, 10))]
        )
    finally:
        keras.config.set_dtype_policy(policy)
    gradient = np.random.default_rng(0).normal(size=(3, 3, 16, 24)).astype("float32")
    update = keras.ops.convert_to_numpy(optimizer.zeropower_via_newtonschulz5(keras.ops.convert_to_tensor(gradient), 5))
    assert update.shape == gradient.shape
    assert update.dtype == np.float32
    values = np.linalg.svd(update.reshape(-1, 24), compute_uv=False)
    assert values.min() > 0.6
    assert values.max() < 1.25
