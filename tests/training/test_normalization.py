"""Batch normalization in one operation: what Keras's own comes to."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from trained import go_on

from cifar_exp.config.composition import plan
from cifar_exp.training import fit, models, runtime
from cifar_exp.training.normalization import fuse_batch_normalization

# With and without what TensorFlow has no one operation for.
LAYERS = (
    "model.layers=[{Conv2D:{filters:4,kernel_size:3}},{BatchNormalization:{momentum:0.7,epsilon:0.01}},ReLU,"
    "{MaxPooling2D:{pool_size:4}},{BatchNormalization:{scale:false}},Flatten,{Dense:{units:10}}]"
)

pytestmark = pytest.mark.skipif(not runtime.is_tensorflow_on_cpu(), reason="TensorFlow on a CPU has it alone")


def replaced(model: keras.Model) -> list[str]:
    own = {id(layer) for layer in model.layers}
    return [layer.layer.name for layer in fuse_batch_normalization(model).layers[1:] if id(layer) not in own]


def test_only_what_is_the_same_is_replaced() -> None:
    config = plan(["model=baseline", "data=digits", LAYERS], multirun=False).jobs[0]
    runtime.prepare(config.training, 0)
    model, _ = models.build(config.model, config.data.image_shape)
    assert replaced(model) == ["batch_normalization"]
    renormalizes = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.BatchNormalization(renorm=True)])
    first_axis = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.BatchNormalization(axis=1)])
    assert fuse_batch_normalization(renormalizes) is renormalizes
    assert fuse_batch_normalization(first_axis) is first_axis


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_training_comes_to_the_same_but_for_rounding(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    overrides = (LAYERS, f"training.precision={precision}", "training.epochs=1")
    one_operation = go_on(overrides)
    monkeypatch.setattr(fit, "fuse_batch_normalization", lambda model: model)
    many = go_on(overrides)
    close = 1e-3 if precision == "float32" else 0.05
    for name in ("train/loss", "val/loss"):
        assert one_operation.history[name] == pytest.approx(many.history[name], rel=close)
    for one, other in zip(one_operation.model.get_weights(), many.model.get_weights(), strict=True):
        assert np.allclose(one, other, atol=close, rtol=close)


def test_a_step_is_that_of_keras() -> None:
    images = np.random.default_rng(0).normal(3, 2, (8, 5, 6, 2)).astype("float32")
    states = []
    for made in (fuse_batch_normalization, lambda model: model):
        normalization = keras.layers.BatchNormalization(momentum=0.7, epsilon=0.1, beta_initializer="ones")
        model = keras.Sequential([keras.Input((5, 6, 2)), normalization])
        outputs = made(model)(images, training=True)
        states.append([keras.ops.convert_to_numpy(outputs), *normalization.get_weights()])
    for one, other in zip(*states, strict=True):
        assert np.allclose(one, other, rtol=1e-4, atol=1e-5)


def test_a_checkpoint_goes_on_with_and_without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        go_on((LAYERS, "training.epochs=2"), tmp_path, stop_after=1)
    monkeypatch.setattr(fit, "fuse_batch_normalization", lambda model: model)
    assert [epoch for epoch, _ in go_on((LAYERS, "training.epochs=2"), tmp_path).told] == [2]


def test_a_frozen_one_uses_and_keeps_its_moving_mean() -> None:
    normalization = keras.layers.BatchNormalization()
    model = keras.Sequential([keras.Input((4, 4, 3)), normalization])
    normalization.trainable = False
    images = np.full((2, 4, 4, 3), 5, "float32")
    outputs = fuse_batch_normalization(model)(images, training=True)
    assert np.allclose(keras.ops.convert_to_numpy(outputs), 5 / np.sqrt(1.001))
    assert not np.any(keras.ops.convert_to_numpy(normalization.moving_mean))
