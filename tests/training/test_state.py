"""The state of a training: all that the next step depends on is captured, comes back, or is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from cifar_exp.errors import UserError
from cifar_exp.training.checkpoint import Checkpoint
from cifar_exp.training.state import capture, restore

Layers = keras.layers


def network(*layers: keras.layers.Layer, optimizer: str = "adam") -> keras.Model:
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(optimizer, "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def values(model: keras.Model) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(variable) for variable in (*model.variables, *model.optimizer.variables)]


def test_weights_optimizer_and_random_states_are_captured_and_come_back() -> None:
    def build() -> keras.Model:
        return network(
            Layers.Dense(3, dtype="bfloat16"),
            Layers.BatchNormalization(),
            Layers.Dropout(0.5),
            Layers.GaussianNoise(0.1),
            Layers.Dense(1),
        )

    model, other = build(), build()
    model.fit(np.ones((8, 4)), np.ones((8, 1)), epochs=2, verbose=0)
    state = capture(model, None)
    assert len(state) == len(values(model))
    assert sum("seed_generator_state" in name for name in state) == 2
    assert any(name.endswith("iteration") for name in state) and any("momentum" in name for name in state)
    saved = Checkpoint({"val/accuracy": [0.1, 0.2]}, state)
    assert restore(other, saved, with_best=False) is None
    for one, two in zip(values(model), values(other), strict=True):
        assert one.dtype == two.dtype and np.array_equal(one, two)


def test_the_weights_that_early_stopping_restores_are_part_of_it() -> None:
    model = network(Layers.Dense(1))
    best = [weight + 1 for weight in model.get_weights()]
    saved = Checkpoint({"val/accuracy": [0.2, 0.1]}, capture(model, best))
    found = restore(network(Layers.Dense(1)), saved, with_best=True)
    assert found is not None
    assert all(np.array_equal(one, two) for one, two in zip(best, found, strict=True))


Build = Callable[[], keras.Model]


@pytest.mark.parametrize(
    ("build", "with_best", "wrong"),
    [
        (
            lambda: network(Layers.Dense(2)),
            False,
            "dense/kernel is 4 x 1 float32 in the checkpoint and 4 x 2 float32 in the model",
        ),
        (
            lambda: network(Layers.Dense(1), Layers.Dense(1)),
            False,
            "dense/kernel is missing in the checkpoint and 1 x 1",
        ),
        (
            lambda: network(Layers.Dense(1, use_bias=False)),
            False,
            "dense/bias is 1 float32 in the checkpoint and missing",
        ),
        (lambda: network(Layers.Dense(1), optimizer="sgd"), False, "is missing in the checkpoint and a number"),
        (
            lambda: network(Layers.Dense(1)),
            True,
            "dense/kernel is missing in the checkpoint and 4 x 1 float32 in the model",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name_and_changes_nothing(build: Build, with_best: bool, wrong: str) -> None:
    saved = Checkpoint({"val/accuracy": [0.1]}, capture(network(Layers.Dense(1)), None), Path("file"))
    other = build()
    before = values(other)
    with pytest.raises(UserError) as refused:
        restore(other, saved, with_best)
    text = str(refused.value)
    assert text.startswith(f"checkpoint file does not fit: {'best' if with_best else ''}") and "\n" not in text
    assert wrong in text
    assert all(np.array_equal(one, two) for one, two in zip(before, values(other), strict=True))
