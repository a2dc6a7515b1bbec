"""Many steps in one call: what Keras's own loop comes to."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from trained import fit, go_on, measured

from cifar_exp.training import fit as fitting
from cifar_exp.training import objective, runtime
from cifar_exp.training.loop import loop_over_batches

pytestmark = pytest.mark.skipif(not runtime.is_tensorflow_on_cpu(), reason="TensorFlow on a CPU has it alone")

BATCHES = {
    "7 in one call, the last of 8, rotated": ("augmentation.rotation=20", "augmentation.rand_augment=1"),
    "3 calls, the last of one batch, mixed images": (
        *("training.steps_per_execution=3", "augmentation.mixup=0.2", "augmentation.cutmix=1"),
    ),
    "one of all": ("training.batch_size=200",),
    "the last of 1": ("training.batch_size=199",),
}


def keras_own(model: keras.Model, batch_size: int) -> keras.Model:
    return model


def test_the_objective_of_a_trained_model_has_the_penalties_of_its_weights_and_not_of_its_activations() -> None:
    layer = "{Dense:{units:10,kernel_regularizer:l2,activity_regularizer:l2}}"
    trained = fit(f"model.layers=[Flatten,{layer}]", "training.epochs=1")
    assert trained.history["train/objective"][0] > trained.history["train/loss"][0]
    labels = np.array([3], np.uint8)
    sure = np.log(np.eye(10, dtype=np.float32)[labels] + 1e-9)
    penalty = 0.01 * float(np.square(trained.model.get_weights()[0]).sum())
    found = objective.value(trained.model, keras.losses.sparse_categorical_crossentropy, labels, np.exp(sure))
    assert found == pytest.approx(penalty, abs=1e-5)


@pytest.mark.parametrize("overrides", BATCHES.values(), ids=BATCHES)
def test_training_is_that_of_keras(monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...]) -> None:
    overrides = ("augmentation=flip_zoom", "optimizer/schedule=one_cycle", "training.epochs=2", *overrides)
    in_loop = fit(*overrides)
    monkeypatch.setattr(fitting, "loop_over_batches", keras_own)
    plain = go_on(overrides)
    for name, values in measured(in_loop.history).items():
        assert values == pytest.approx(plain.history[name], rel=1e-4), name
    for one, other in zip(in_loop.model.get_weights(), plain.model.get_weights(), strict=True):
        assert np.allclose(one, other, atol=1e-5)


def test_a_checkpoint_goes_on_without_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    overrides = ("optimizer.momentum=0.9", "augmentation=flip_zoom", "training.epochs=2")
    with pytest.raises(KeyboardInterrupt):
        go_on(overrides, tmp_path, stop_after=1)
    monkeypatch.setattr(fitting, "loop_over_batches", keras_own)
    resumed = go_on(overrides, tmp_path)
    assert [epoch for epoch, _ in resumed.told] == [2]
    assert resumed.history["train/loss"] == pytest.approx(go_on(overrides).history["train/loss"], rel=1e-4)


def test_a_compiler_gets_what_it_can_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "gpus", lambda: ["NVIDIA"])
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    assert loop_over_batches(model, 32) is model
