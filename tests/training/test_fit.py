"""Training: its history, its stopping, and that a seed decides everything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from trained import EXACT, NAMES, SMALL, STEPS, accuracy, assert_equal, fit, go_on

from cifar_exp.config.schema import Config
from cifar_exp.data import datasets
from cifar_exp.data.splits import Splits
from cifar_exp.errors import Diverged
from cifar_exp.training import fit as fitting
from cifar_exp.training import models, objective
from cifar_exp.training.checkpoint import Checkpoints

Compose = Callable[..., Config]


def test_history_has_every_metric_at_every_epoch() -> None:
    history = fit().history
    assert set(history) == NAMES
    assert {len(values) for values in history.values()} == {3}
    assert np.isfinite(list(history.values())).all()
    assert min(history["train/epoch_seconds"] + history["train/images_per_second"]) > 0


def test_each_epoch_is_told_from_one_as_it_ends() -> None:
    trained = fit()
    assert [epoch for epoch, _ in trained.told] == [1, 2, 3]
    for name in NAMES:
        assert [metrics[name] for _, metrics in trained.told] == trained.history[name]


def test_training_learns() -> None:
    history = fit("training.epochs=8", "optimizer=adam").history
    assert history["train/loss"][-1] < 0.7 * history["train/loss"][0]
    assert history["val/accuracy"][-1] > 0.6


def test_the_last_validation_accuracy_is_that_of_the_model() -> None:
    trained = fit()
    assert accuracy(trained) == pytest.approx(trained.history["val/accuracy"][-1])


def test_smoothed_labels_are_learned_and_validation_is_by_the_labels() -> None:
    plain, smooth = fit(), fit("training.label_smoothing=0.2")
    assert plain.history["train/loss"] != smooth.history["train/loss"]
    for trained in (plain, smooth):
        scores = trained.model.predict(trained.splits.validation.images, verbose=0).astype(np.float64)
        own = scores[np.arange(len(scores)), trained.splits.validation.labels]
        loss = (np.log(np.exp(scores).sum(axis=1)) - own).mean()
        assert trained.history["val/loss"][-1] == pytest.approx(loss, rel=1e-5)


def test_smoothing_spreads_a_share_of_each_label_over_all_classes(compose: Compose) -> None:
    logits = np.array([[2.0, 1.0, *[0.0] * 8]], np.float32)
    log_p = logits[0] - np.log(np.exp(logits[0]).sum())
    wanted = -((0.8 + 0.02) * log_p[1] + 0.02 * np.delete(log_p, 1).sum())
    config = compose("data=digits", "training.label_smoothing=0.2")
    loss = objective.loss(config, datasets.load(config.data))(np.array([1], np.uint8), logits)
    assert float(keras.ops.mean(loss)) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_the_focal_loss_is_that_of_keras(compose: Compose, gamma: float, smoothing: float) -> None:
    logits = np.random.default_rng(0).normal(0, 1.5, (50, 10)).astype(np.float32)
    labels = np.arange(50, dtype=np.uint8) % 10
    config = compose("data=digits", f"training.focal_gamma={gamma}", f"training.label_smoothing={smoothing}")
    loss = objective.loss(config, datasets.load(config.data))
    theirs = keras.losses.CategoricalFocalCrossentropy(
        alpha=1.0, gamma=gamma, from_logits=True, label_smoothing=smoothing, reduction=None
    )
    wanted = keras.ops.convert_to_numpy(theirs(np.eye(10, dtype=np.float32)[labels], logits))
    assert keras.ops.convert_to_numpy(loss(labels, logits)) == pytest.approx(wanted, rel=1e-4, abs=1e-6)
    hopeless, certain = (np.eye(10, dtype=np.float32)[:1] * scale for scale in (-100.0, 100.0))
    first = np.zeros(1, np.uint8)
    if not smoothing:
        assert float(loss(first, hopeless)[0]) == pytest.approx(100 + np.log(9), rel=1e-5)  # theirs ends at 16
        assert float(loss(first, certain)[0]) == 0


def test_images_per_second_is_of_the_training_images() -> None:
    history = fit().history
    for seconds, rate in zip(history["train/epoch_seconds"], history["train/images_per_second"], strict=True):
        assert seconds * rate == pytest.approx(200)


def test_the_same_seed_gives_the_same_history_and_another_another() -> None:
    overrides = (EXACT, "augmentation=flip_zoom")
    first, again, other = fit(*overrides), go_on(overrides), go_on((*overrides, "seed=1"))
    assert_equal(first, again)
    assert first.history["train/loss"] != other.history["train/loss"]


def test_how_many_batches_are_compiled_into_one_call_changes_nothing() -> None:
    one, all_of_them = fit(EXACT, "training.steps_per_execution=1"), fit(EXACT)
    for name in ("train/loss", "val/loss", "train/accuracy", "val/accuracy"):
        assert one.history[name] == pytest.approx(all_of_them.history[name], rel=1e-4)


def test_augmentation_changes_training_only_and_leaves_the_model_as_it_was_built() -> None:
    plain, augmented = fit(EXACT), fit(EXACT, "augmentation=flip_zoom")
    assert plain.history["train/loss"] != augmented.history["train/loss"]
    assert [type(layer) for layer in plain.model.layers] == [type(layer) for layer in augmented.model.layers]
    assert accuracy(augmented) == pytest.approx(augmented.history["val/accuracy"][-1])


def test_the_learning_rate_follows_the_schedule() -> None:
    decayed = fit("optimizer/schedule=inverse_time", "optimizer.schedule.decay=0.1").history
    expected = [0.01 / (1 + 0.1 * STEPS * epoch) for epoch in (1, 2, 3)]
    assert decayed["train/learning_rate"] == pytest.approx(expected, rel=1e-5)


def test_without_a_schedule_the_learning_rate_stays() -> None:
    assert fit().history["train/learning_rate"] == pytest.approx([0.01] * 3)


# A rate at which accuracy goes up and down, so that the last epoch is not the best.
RESTLESS = ("training.epochs=30", "optimizer.learning_rate=1.5", "training.early_stopping.monitor=val/accuracy")


def without_dropout(config: Config, constrained: bool) -> Config:
    """The same model, so that two trainings of it can be compared, with its constraints or without."""
    kept = [layer for layer in config.model.layers if layer.kind != "Dropout"]
    if not constrained:
        kept = [
            replace(layer, arguments={k: v for k, v in layer.arguments.items() if k != "kernel_constraint"})
            for layer in kept
        ]
    return replace(
        config,
        model=replace(config.model, layers=tuple(kept)),
        training=replace(config.training, epochs=1, batch_size=16),
    )


def test_max_norm_holds_every_column_to_three_after_each_step_as_keras_does(compose: Compose) -> None:
    keras.utils.set_random_seed(0)
    split = datasets.load(compose("data=digits").data).training.take(np.arange(16))  # a batch: an epoch is a step
    splits = Splits(split, split, split, tuple("0123456789"), "digits")
    configs = [without_dropout(compose("experiment=s3_simple"), constrained) for constrained in (True, False)]
    model, twin = (models.build(config.model, config.data.image_shape)[0] for config in configs)
    held = [layer for layer in model.layers if getattr(layer, "kernel_constraint", None)]
    assert len(held) == 3
    assert all(layer.kernel_constraint.axis == 0 for layer in held)  # each column of (inputs, units)
    for layer in held:  # as if training had come that far: some columns above three, others below
        kernel = layer.kernel.numpy()
        layer.kernel.assign(kernel * 3.1 / np.linalg.norm(kernel, axis=0).mean())
    max_norm = keras.constraints.MaxNorm(3)
    clipped = 0
    for _ in range(2):
        twin.set_weights(model.get_weights())
        for network, config in zip((model, twin), configs, strict=True):
            fitting.fit(network, splits, config, lambda epoch, metrics: None)
        for layer in held:
            free, kernel = twin.layers[model.layers.index(layer)].kernel, layer.kernel.numpy()
            np.testing.assert_allclose(kernel, keras.ops.convert_to_numpy(max_norm(free)), rtol=1e-4, atol=1e-6)
            assert np.linalg.norm(kernel, axis=0).max() <= 3 + 1e-5
            clipped += int((np.linalg.norm(free.numpy(), axis=0) > 3).sum())
    assert clipped > 0 and np.isfinite(model.get_weights()[0]).all()


def test_early_stopping_stops_after_its_patience_and_restores_the_best() -> None:
    trained = fit(*RESTLESS, "training.early_stopping.patience=2")
    values = trained.history["val/accuracy"]
    best = fitting.best_epoch(trained.history)
    assert len(values) == best + 2 < 30
    assert values[-1] < max(values)
    assert accuracy(trained) == pytest.approx(max(values))


def test_early_stopping_may_keep_the_last_weights() -> None:
    trained = fit(*RESTLESS, "training.early_stopping.patience=2", "training.early_stopping.restore_best=false")
    assert accuracy(trained) == pytest.approx(trained.history["val/accuracy"][-1])


def test_the_best_is_restored_also_where_the_last_epoch_came_first() -> None:
    trained = fit(*RESTLESS, "training.epochs=6", "training.early_stopping.patience=20")
    assert len(trained.history["val/accuracy"]) == 6
    assert accuracy(trained) == pytest.approx(max(trained.history["val/accuracy"]))


@pytest.mark.parametrize("monitor", ["val/loss", "train/accuracy"])
def test_early_stopping_watches_the_metric_that_it_names(monitor: str) -> None:
    overrides = [f"training.early_stopping.monitor={monitor}", "training.early_stopping.patience=1"]
    values = fit("training.epochs=12", "optimizer.learning_rate=1.5", *overrides).history[monitor]
    signed = [-value for value in values] if monitor.endswith("loss") else values
    stopped = [epoch for epoch in range(1, len(signed)) if signed[epoch] <= max(signed[:epoch])]
    assert (stopped or [len(values) - 1]) == [len(values) - 1]
    assert stopped or len(values) == 12


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_computes_in_half_and_gives_float32_logits(precision: str) -> None:
    trained = fit(f"training.precision={precision}")
    dense = next(layer for layer in trained.model.layers if isinstance(layer, keras.layers.Dense))
    assert dense.compute_dtype == precision.removeprefix("mixed_")
    assert dense.variable_dtype == "float32"
    assert keras.backend.standardize_dtype(trained.model.output.dtype) == "float32"
    assert trained.model.predict(trained.splits.test.images[:2], verbose=0).dtype == np.float32
    assert np.isfinite(trained.history["train/loss"]).all()
    assert trained.history["train/learning_rate"] == pytest.approx([0.01] * 3)


def test_the_best_epoch_is_the_first_of_equals() -> None:
    assert fitting.best_epoch({"val/accuracy": [0.1, 0.5, 0.4, 0.5]}) == 2
    assert fitting.best_epoch({"val/accuracy": [0.1]}) == 1


def test_an_interrupt_at_the_end_of_an_epoch_ends_the_training(compose: Compose) -> None:
    config = compose(*SMALL, "optimizer/schedule=one_cycle")
    model, _ = models.build(config.model, config.data.image_shape)

    def stop(epoch: int, metrics: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitting.fit(model, datasets.load(config.data), config, stop)


def test_a_loss_that_is_no_number_ends_the_training_after_that_epoch_is_told(compose: Compose, tmp_path: Path) -> None:
    config = compose(*SMALL, "optimizer.learning_rate=1e38")
    model, _ = models.build(config.model, config.data.image_shape)
    told: list[int] = []
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(Diverged, match=r"^diverged in epoch 1: (train|val)/loss is (nan|inf)$"):
        fitting.fit(model, datasets.load(config.data), config, lambda epoch, metrics: told.append(epoch), checkpoints)
    assert told == [1] and checkpoints.epochs() == []


def test_the_order_of_the_images_is_a_function_of_seed_and_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[np.ndarray] = []
    fit_an_epoch = keras.Model.fit

    def spy(self: keras.Model, x: Any, **kwargs: Any) -> Any:
        batches = [x] if isinstance(x, np.ndarray) else [images.numpy() for images, _ in x]
        seen.append(np.concatenate(batches))
        return fit_an_epoch(self, x=x, **kwargs)

    monkeypatch.setattr(keras.Model, "fit", spy)
    monkeypatch.setattr(fitting, "_in_one_program", lambda *_: None)  # JAX gets the same order as indices
    seeded: list[int] = []
    monkeypatch.setattr(tf.random, "set_seed", seeded.append)
    splits = go_on(("training.epochs=2",)).splits
    go_on(("training.epochs=2", "optimizer=adam"))
    go_on(("training.epochs=1", "seed=1"))
    # Once a run, not once an epoch: it discards all functions that TensorFlow has optimized.
    assert seeded == ([0, 0, 1] if keras.backend.backend() == "tensorflow" else [])
    first, second, again, _, other = seen
    assert np.array_equal(first, again)
    for shuffled in (first, second, other):
        assert not np.array_equal(shuffled, splits.training.images)
        assert np.array_equal(np.sort(shuffled, axis=0), np.sort(splits.training.images, axis=0))
    assert not np.array_equal(first, second) and not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("shape", "fed", "scored"),
    [((28, 28, 1), 1024, 500), ((32, 32, 3), 1024, 500), ((64, 64, 3), 1024, 125), ((256, 256, 3), 320, 32)],
)
def test_of_large_images_fewer_are_in_memory_at_once(
    shape: tuple[int, int, int], fed: int, scored: int, compose: Compose
) -> None:
    layers = "model.layers=[GlobalAveragePooling2D,{Dense:{units:10}}]"
    config = compose("data=digits", "model=dense", layers, "training.deterministic=true")
    model, _ = models.build(config.model, shape)
    assert fitting.evaluation_batch(model) == scored
    loss = objective.loss(config, datasets.load(config.data))
    assert fitting.compile_model(model, config, 50_000, loss)[1] == fed
