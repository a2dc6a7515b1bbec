"""An epoch as one program of JAX: what Keras's own loop comes to. `test_backends.py` runs this file on JAX."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import keras
import numpy as np
import pytest
from trained import fit, go_on, measured

from cifar_exp.config.schema import AugmentationConfig
from cifar_exp.data.mapped import MappedImages
from cifar_exp.data.splits import Split
from cifar_exp.training import epoch, runtime
from cifar_exp.training import fit as fitting
from cifar_exp.training.augmentation import Augment

NORMALIZED = "model.layers=[Flatten,{Dense:{units:16}},BatchNormalization,{Dropout:{rate:0.3}},{Dense:{units:10}}]"
CONVOLVED = (
    "model.layers=[{Conv2D:{filters:4,kernel_size:3,strides:2}},BatchNormalization,{SpatialDropout2D:{rate:0.2}},"
    "GlobalAveragePooling2D,{Dense:{units:10}}]"
)
# Each schedule, batches of all sizes, and whatever has a state; 200 images in 7 batches of at most 32. What is in one
# program does not depend on the optimizer.
CASES = {
    "adam, one cycle, rotation, the last batch of 1": (
        *("optimizer=adam", "optimizer/schedule=one_cycle", "augmentation=rotate", "training.batch_size=199"),
    ),
    "momentum, inverse time, batch normalization, class weights, calls of 3 steps": (
        *("optimizer.momentum=0.9", "optimizer.nesterov=true", "optimizer/schedule=inverse_time", NORMALIZED),
        *("optimizer.schedule.decay=0.1", "data.class_weights=balanced", "training.steps_per_execution=3"),
    ),
    "nadam, loss scale, less than a batch": (
        *("optimizer=nadam", "training.precision=mixed_float16", "training.batch_size=300"),
    ),
    "adamw, cosine, mixup and cutmix, smoothing, focal loss, class weights, ghost batches": (
        *("optimizer=adamw", "optimizer/schedule=cosine", NORMALIZED, "augmentation=mixup", "augmentation.cutmix=1"),
        *("training.label_smoothing=0.1", "training.focal_gamma=2", "data.class_weights=balanced"),
        "training.ghost_batches=2",
    ),
    "rmsprop, ema, half precision, convolution, one batch of all": (
        *("optimizer=rmsprop", "training.precision=mixed_bfloat16", CONVOLVED, "training.batch_size=200"),
        "optimizer.ema=0.9",
    ),
}


def keras_own(*_: Any) -> None:
    """Instead of `in_one_program`."""


@pytest.fixture(autouse=True)
def _as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epoch, "_convolves", lambda model: False)


@pytest.mark.parametrize("overrides", CASES.values(), ids=CASES)
def test_training_is_that_of_keras(monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...]) -> None:
    overrides = (*overrides, "training.epochs=2")
    calls: list[int] = []
    train = epoch.Epoch.train
    monkeypatch.setattr(epoch.Epoch, "train", lambda self, order: calls.append(1) or train(self, order))
    in_one = go_on(overrides)
    assert len(calls) == 2
    monkeypatch.setattr(fitting, "_in_one_program", keras_own)
    plain = go_on(overrides)
    assert len(calls) == 2
    half = any("mixed" in override for override in overrides)
    for name, values in measured(in_one.history).items():
        assert values == pytest.approx(plain.history[name], rel=0.02 if half else 1e-4), name
    for one, other in zip(in_one.model.get_weights(), plain.model.get_weights(), strict=True):
        assert np.allclose(one, other, atol=0.01 if half else 1e-5)


def test_an_interrupt_between_two_calls_leaves_a_process_that_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = ("training.steps_per_execution=3", "optimizer=adam")
    undisturbed = fit(*overrides)
    waited = []

    def interrupted(logs: Any) -> Any:
        waited.append(logs)
        if len(waited) == 2:
            raise KeyboardInterrupt
        return logs

    with monkeypatch.context() as patched:
        patched.setattr(jax, "block_until_ready", interrupted)
        with pytest.raises(KeyboardInterrupt):
            go_on(overrides)
    assert len(waited) == 2
    assert measured(go_on(overrides).history) == measured(undisturbed.history)


def compiled(*layers: keras.layers.Layer, **more: Any) -> keras.Model:
    model = keras.Sequential([keras.Input((8, 8, 3)), *layers, keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(3, "top")], **more)
    model.optimizer.build(model.trainable_variables)
    return model


GENERATOR = np.random.default_rng(0)
SPLIT = Split(GENERATOR.integers(0, 256, (70, 8, 8, 3), np.uint8), GENERATOR.integers(0, 10, 70).astype(np.uint16))


def test_every_metric_is_returned_and_the_images_may_have_any_order() -> None:
    order = GENERATOR.permutation(70)
    model, twin = (compiled(keras.layers.Rescaling(1 / 255), keras.layers.Flatten()) for _ in range(2))
    twin.set_weights(model.get_weights())
    program = epoch.in_one_program(model, SPLIT, batch_size=32, steps=1)
    assert program is not None
    images, labels = SPLIT.images[order], SPLIT.labels[order].astype(np.int64)
    wanted = twin.fit(images, labels, batch_size=32, shuffle=False, verbose=0).history
    assert program.train(order) == pytest.approx({name: values[0] for name, values in wanted.items()}, rel=1e-5)
    wanted = twin.evaluate(SPLIT.images, SPLIT.labels.astype(np.int64), batch_size=32, return_dict=True, verbose=0)
    weights = model.get_weights()
    for _ in range(2):  # nothing of the first is left in the second
        assert program.evaluate() == pytest.approx(wanted, rel=1e-5)
    assert all(np.array_equal(one, other) for one, other in zip(weights, model.get_weights(), strict=True))
    assert set(wanted) == {"loss", "accuracy", "top"}


def test_elsewhere_it_is_left_to_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    flat = keras.layers.Flatten()
    mapped = MappedImages(SPLIT.images, np.zeros((70, 32), np.uint8), "", np.arange(70))
    assert epoch.in_one_program(compiled(flat), Split(mapped, SPLIT.labels), 32, 32) is None
    assert epoch.in_one_program(compiled(keras.layers.RandomZoom(0.1), flat), SPLIT, 32, 32) is None
    monkeypatch.undo()
    inside = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.SeparableConv2D(2, 3)])
    assert epoch.in_one_program(compiled(inside, flat), SPLIT, 32, 32) is None
    assert epoch.in_one_program(compiled(keras.layers.MaxPooling2D(2), flat), SPLIT, 32, 32) is not None


def test_random_operations_can_be_compiled_and_have_no_convolution() -> None:
    def step(images: Any) -> Any:
        with keras.StatelessScope():
            return layer(images, training=True)

    layer = Augment(AugmentationConfig("test", rotation=10, rand_augment=1, aug_mix=2), 0)
    assert "conv_general_dilated" not in str(jax.make_jaxpr(step)(jax.ShapeDtypeStruct((4, 8, 8, 3), "uint8")))


def test_images_stay_on_a_device_that_has_room_for_them() -> None:
    def device(limit: int) -> Any:
        return SimpleNamespace(memory_stats=lambda: {"bytes_limit": limit})

    assert epoch._has_room(device(4000), 1000) and not epoch._has_room(device(4000), 1001)
    assert epoch._has_room(jax.devices("cpu")[0], 1 << 60)


def test_the_folder_of_the_user_is_kept_and_none_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def prepared(folder: str | None, caches: Path) -> str | None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(caches))
        jax.config.update("jax_compilation_cache_dir", folder)
        runtime._prepare_jax()
        return jax.config.jax_compilation_cache_dir

    (tmp_path / "file").touch()
    names = ("compilation_cache_dir", "persistent_cache_min_compile_time_secs", "persistent_cache_enable_xla_caches")
    before = {f"jax_{name}": getattr(jax.config, f"jax_{name}") for name in names}
    try:
        assert prepared("theirs", tmp_path) == "theirs"
        assert prepared("", tmp_path) == ""
        assert prepared(None, tmp_path / "file") is None
        assert [path.name for path in tmp_path.iterdir()] == ["file"]
        assert prepared(None, tmp_path) == str(tmp_path / "cifar_exp" / "jax")
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
