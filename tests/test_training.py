"""Training: its history, its stopping, and that a seed decides everything."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from cifar_exp import data, models, runtime, training
from cifar_exp.checkpoint import Checkpoints
from cifar_exp.composition import plan
from cifar_exp.config import Config
from cifar_exp.data import Splits
from cifar_exp.errors import Diverged, UserError
from cifar_exp.training import History

Compose = Callable[..., Config]

NAMES = [
    "train/loss", "train/accuracy", "val/loss", "val/accuracy", "train/learning_rate", "train/epoch_seconds",
    "train/images_per_second",
]  # fmt: skip
MEASURED = NAMES[:5]  # what does not depend on the machine
# 200 images in 7 batches of at most 32; a model of one dense layer behind dropout.
SMALL = (
    "data=digits",
    "data.train_images=200",
    "model=dense",
    "model.layers=[Flatten,{Dropout:{rate:0.3}},{Dense:{units:10}}]",
    "optimizer=sgd",
    "training.epochs=3",
)
STEPS = 7


@dataclass(frozen=True)
class Trained:
    model: keras.Model
    history: History
    told: list[tuple[int, dict[str, float]]]
    splits: Splits


@cache
def fit(*overrides: str) -> Trained:
    """Train as a run does."""
    return go_on(overrides)


def go_on(overrides: tuple[str, ...], folder: Path | None = None, stop_after: int | None = None) -> Trained:
    """Train as a run does, from the checkpoints of this folder, if there are any; stopped after an epoch."""
    config = plan([*SMALL, *overrides], multirun=False).jobs[0]
    splits = data.load(config.data)
    runtime.prepare(config.training, config.seed)
    told: list[tuple[int, dict[str, float]]] = []

    def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
        told.append((epoch, metrics))
        if epoch == stop_after:
            raise KeyboardInterrupt

    try:
        model, _ = models.build(config.model)
        history = training.fit(model, splits, config, on_epoch, Checkpoints(folder) if folder else None)
        return Trained(model, history, told, splits)
    finally:
        keras.config.set_dtype_policy("float32")


def measured(history: History) -> dict[str, list[float]]:
    return {name: history[name] for name in MEASURED}


def accuracy(trained: Trained) -> float:
    logits = trained.model.predict(trained.splits.validation.images, verbose=0)
    return float(np.mean(logits.argmax(axis=1) == trained.splits.validation.labels))


def test_history_has_every_metric_at_every_epoch() -> None:
    history = fit().history
    assert list(history) == NAMES
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
    plain, smooth = fit("training.epochs=1"), fit("training.epochs=1", "training.label_smoothing=0.2")
    assert plain.history["train/loss"] != smooth.history["train/loss"]
    for trained in (plain, smooth):
        scores = trained.model.predict(trained.splits.validation.images, verbose=0).astype(np.float64)
        own = scores[np.arange(len(scores)), trained.splits.validation.labels]
        loss = (np.log(np.exp(scores).sum(axis=1)) - own).mean()
        assert trained.history["val/loss"][0] == pytest.approx(loss, rel=1e-5)


def test_smoothing_spreads_a_share_of_each_label_over_all_classes() -> None:
    logits = np.array([[2.0, 1.0, *[0.0] * 8]], np.float32)
    log_p = logits[0] - np.log(np.exp(logits[0]).sum())
    wanted = -((0.8 + 0.02) * log_p[1] + 0.02 * np.delete(log_p, 1).sum())
    loss = training._smoothed(0.2)(np.array([1], np.uint8), logits)
    assert float(keras.ops.mean(loss)) == pytest.approx(wanted, rel=1e-5)


def test_images_per_second_is_of_the_training_images() -> None:
    history = fit().history
    for seconds, rate in zip(history["train/epoch_seconds"], history["train/images_per_second"], strict=True):
        assert seconds * rate == pytest.approx(200)


@pytest.mark.parametrize("augmentation", ["none", "flip_zoom"])
def test_the_same_seed_gives_the_same_history_and_another_another(augmentation: str) -> None:
    overrides = ("training.deterministic=true", f"augmentation={augmentation}")
    first = fit(*overrides)
    again = fit(*overrides, "note=again")
    other = fit(*overrides, "seed=1")
    assert first is not again
    assert measured(first.history) == measured(again.history)
    for one, two in zip(first.model.get_weights(), again.model.get_weights(), strict=True):
        assert np.array_equal(one, two)
    assert first.history["train/loss"] != other.history["train/loss"]


def test_how_many_batches_are_compiled_into_one_call_changes_nothing() -> None:
    one, many = (fit("training.deterministic=true", f"training.steps_per_execution={n}") for n in (1, 5))
    for name in ("train/loss", "val/loss", "train/accuracy", "val/accuracy"):
        assert one.history[name] == pytest.approx(many.history[name], rel=1e-4)


def test_augmentation_changes_training_only_and_leaves_the_model_as_it_was_built() -> None:
    plain = fit("training.deterministic=true", "augmentation=none")
    augmented = fit("training.deterministic=true", "augmentation=flip_zoom")
    assert plain.history["train/loss"] != augmented.history["train/loss"]
    assert [type(layer) for layer in plain.model.layers] == [type(layer) for layer in augmented.model.layers]
    assert accuracy(augmented) == pytest.approx(augmented.history["val/accuracy"][-1])


def test_the_learning_rate_follows_the_schedule() -> None:
    decayed = fit("optimizer/schedule=inverse_time", "optimizer.schedule.decay=0.1").history
    expected = [0.01 / (1 + 0.1 * STEPS * epoch) for epoch in (1, 2, 3)]
    assert decayed["train/learning_rate"] == pytest.approx(expected, rel=1e-5)
    cosine = fit("optimizer/schedule=cosine").history
    expected = [0.005 * (1 + np.cos(np.pi * epoch / 3)) for epoch in (1, 2, 3)]
    assert cosine["train/learning_rate"] == pytest.approx(expected, abs=1e-8)


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


@pytest.mark.parametrize("preset", ["s3_simple", "s3_large_25"])
def test_max_norm_holds_every_column_to_three_after_each_step_as_keras_does(compose: Compose, preset: str) -> None:
    keras.utils.set_random_seed(0)
    split = data.load(compose("data=digits").data).training.take(np.arange(16))  # a batch: an epoch is a step
    splits = Splits(split, split, split, tuple("0123456789"), "digits")
    configs = [without_dropout(compose(f"experiment={preset}"), constrained) for constrained in (True, False)]
    model, twin = (models.build(config.model)[0] for config in configs)
    held = [layer for layer in model.layers if getattr(layer, "kernel_constraint", None)]
    assert len(held) == (3 if preset == "s3_simple" else 2)
    assert all(layer.kernel_constraint.axis == 0 for layer in held)  # each column of (inputs, units)
    for layer in held:  # as if training had come that far: some columns above three, others below
        kernel = layer.kernel.numpy()
        layer.kernel.assign(kernel * 3.1 / np.linalg.norm(kernel, axis=0).mean())
    max_norm = keras.constraints.MaxNorm(3)
    clipped = 0
    for _ in range(2):
        twin.set_weights(model.get_weights())
        for network, config in zip((model, twin), configs, strict=True):
            training.fit(network, splits, config, lambda epoch, metrics: None)
        for layer in held:
            free, kernel = twin.layers[model.layers.index(layer)].kernel, layer.kernel.numpy()
            np.testing.assert_allclose(kernel, keras.ops.convert_to_numpy(max_norm(free)), rtol=1e-4, atol=1e-6)
            assert np.linalg.norm(kernel, axis=0).max() <= 3 + 1e-5
            clipped += int((np.linalg.norm(free.numpy(), axis=0) > 3).sum())
    assert clipped > 0 and np.isfinite(model.get_weights()[0]).all()


def test_early_stopping_stops_after_its_patience_and_restores_the_best() -> None:
    trained = fit(*RESTLESS, "training.early_stopping.patience=2")
    values = trained.history["val/accuracy"]
    best = training.best_epoch(trained.history)
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
    assert training.best_epoch({"val/accuracy": [0.1, 0.5, 0.4, 0.5]}) == 2
    assert training.best_epoch({"val/accuracy": [0.1]}) == 1


def test_an_interrupt_at_the_end_of_an_epoch_ends_the_training(compose: Compose) -> None:
    config = compose(*SMALL, "optimizer/schedule=one_cycle")
    model, _ = models.build(config.model)

    def stop(epoch: int, metrics: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.fit(model, data.load(config.data), config, stop)


def test_a_loss_that_is_no_number_ends_the_training_after_that_epoch_is_told(compose: Compose) -> None:
    config = compose(*SMALL, "optimizer.learning_rate=1e38")
    model, _ = models.build(config.model)
    told: list[int] = []
    with pytest.raises(Diverged, match=r"^diverged in epoch 1: (train|val)/loss is (nan|inf)$"):
        training.fit(model, data.load(config.data), config, lambda epoch, metrics: told.append(epoch))
    assert told == [1]


EXACT = "training.deterministic=true"
# Everything that has a state of its own, and early stopping that counts across each interruption.
STATEFUL = {
    "dropout, augmentation, momentum, inverse time": (
        "augmentation=flip_zoom",
        "optimizer.momentum=0.9",
        "optimizer.nesterov=true",
        "optimizer/schedule=inverse_time",
        "optimizer.schedule.decay=0.1",
        "training.steps_per_execution=3",
    ),
    "batch normalization, spatial dropout, noise, adam, one cycle": (
        "model.layers=[{Conv2D:{filters:4,kernel_size:3}},BatchNormalization,{SpatialDropout2D:{rate:0.2}},"
        "{GaussianNoise:{stddev:0.1}},GlobalAveragePooling2D,{Dense:{units:10}}]",
        "augmentation=flip_crop",
        "optimizer=adam",
        "optimizer/schedule=one_cycle",
        "training.epochs=4",
    ),
    "early stopping": (
        "training.epochs=30",
        "optimizer.learning_rate=1.5",
        "training.early_stopping.monitor=val/accuracy",
        "training.early_stopping.patience=2",
    ),
    "half precision and its loss scale": ("training.precision=mixed_float16", "optimizer=nadam"),
}


def assert_equal(one: Trained, other: Trained) -> None:
    assert measured(one.history) == measured(other.history)
    for first, second in zip(one.model.get_weights(), other.model.get_weights(), strict=True):
        assert np.array_equal(first, second)


@pytest.mark.parametrize("overrides", STATEFUL.values(), ids=STATEFUL)
def test_interrupted_after_every_epoch_it_comes_to_the_very_same(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    undisturbed = fit(EXACT, *overrides)
    epochs = len(undisturbed.history["val/loss"])
    assert epochs > 2
    for epoch in range(1, epochs + 1):
        with pytest.raises(KeyboardInterrupt):
            go_on((EXACT, *overrides), tmp_path, stop_after=epoch)
    resumed = go_on((EXACT, *overrides), tmp_path)
    assert resumed.told == []  # the last epoch was trained, and saved before it was told
    assert list(resumed.history) == NAMES
    assert_equal(resumed, undisturbed)


def test_what_is_told_after_an_interruption_is_what_is_new(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        go_on((EXACT,), tmp_path, stop_after=1)
    resumed = go_on((EXACT,), tmp_path)
    assert [epoch for epoch, _ in resumed.told] == [2, 3]
    assert [metrics["val/loss"] for _, metrics in resumed.told] == resumed.history["val/loss"][1:]
    assert_equal(resumed, fit(EXACT))


def test_checkpoints_change_nothing(tmp_path: Path) -> None:
    assert_equal(go_on((EXACT,), tmp_path), fit(EXACT))


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: b"\0" * len(content)])
def test_from_a_damaged_checkpoint_it_goes_on_an_epoch_earlier(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        go_on((EXACT,), tmp_path, stop_after=2)
    newest = tmp_path / "epoch-00002.checkpoint"
    newest.write_bytes(damage(newest.read_bytes()))
    resumed = go_on((EXACT,), tmp_path)
    assert [epoch for epoch, _ in resumed.told] == [2, 3]
    assert_equal(resumed, fit(EXACT))


def test_how_often_it_is_saved(tmp_path: Path) -> None:
    overrides = ("training.checkpoint.every=2", "training.epochs=5")
    folder = Checkpoints(tmp_path / "every second")
    with pytest.raises(KeyboardInterrupt):
        go_on((EXACT, *overrides), folder.folder, stop_after=3)
    assert folder.epochs() == [2]
    resumed = go_on((EXACT, *overrides), folder.folder)
    assert [epoch for epoch, _ in resumed.told] == [3, 4, 5]
    assert folder.epochs()[-2:] == [4, 5]  # the last epoch is saved whatever it is
    assert_equal(resumed, fit(EXACT, *overrides))
    go_on(("training.checkpoint.every=null",), tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_a_checkpoint_of_another_model_or_optimizer_is_refused(tmp_path: Path) -> None:
    go_on((), tmp_path)
    for override, name in (
        (
            "model.layers=[Flatten,{Dropout:{rate:0.3}},{Dense:{units:10,use_bias:false}}]",
            "dense/bias is 10 float32 there and missing here",
        ),
        ("optimizer=adam", "/adam/iteration is missing there"),
        ("augmentation=flip_zoom", "seed_generator_state is missing there"),
        ("training.early_stopping.patience=1", "/dense/kernel is missing there"),
    ):
        # The best epoch is not the last one: what is missing then is its weights.
        checkpoint = Checkpoints(tmp_path).newest()
        assert checkpoint is not None
        checkpoint.history["val/loss"][0] = 0.0
        checkpoint.write(tmp_path / "epoch-00003.checkpoint")
        with pytest.raises(UserError, match=r"^checkpoint .*epoch-00003\.checkpoint does not fit: ") as refused:
            go_on((override, "training.epochs=6"), tmp_path)
        assert name in str(refused.value)


def test_a_training_that_diverged_leaves_no_checkpoint_of_that_epoch(tmp_path: Path) -> None:
    with pytest.raises(Diverged):
        go_on(("optimizer.learning_rate=1e38",), tmp_path)
    assert Checkpoints(tmp_path).epochs() == []


def test_a_full_disk_ends_the_training_and_the_epoch_before_is_gone_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0

    def fsync(descriptor: int) -> None:
        nonlocal written
        written += 1
        if written > 2:  # a file and its folder
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        with pytest.raises(OSError, match="checkpoint not written: No space left on device"):
            go_on((EXACT,), tmp_path)
    resumed = go_on((EXACT,), tmp_path)
    assert [epoch for epoch, _ in resumed.told] == [2, 3]
    assert_equal(resumed, fit(EXACT))


def test_the_order_of_the_images_is_a_function_of_seed_and_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[np.ndarray] = []
    fit_an_epoch = keras.Model.fit

    def spy(self: keras.Model, x: Any, **kwargs: Any) -> Any:
        batches = [x] if isinstance(x, np.ndarray) else [images.numpy() for images, _ in x]
        seen.append(np.concatenate(batches))
        return fit_an_epoch(self, x=x, **kwargs)

    monkeypatch.setattr(keras.Model, "fit", spy)
    splits = go_on(("training.epochs=2",)).splits
    go_on(("training.epochs=2", "optimizer=adam"))
    go_on(("training.epochs=1", "seed=1"))
    first, second, again, _, other = seen
    assert np.array_equal(first, again)
    for shuffled in (first, second, other):
        assert not np.array_equal(shuffled, splits.training.images)
        assert np.array_equal(np.sort(shuffled, axis=0), np.sort(splits.training.images, axis=0))
    assert not np.array_equal(first, second) and not np.array_equal(first, other)


PROCESS = """
import hashlib, json, os, pathlib, signal, sys
from cifar_exp import data, runtime
from cifar_exp.checkpoint import Checkpoints
from cifar_exp.composition import plan

folder, killed_after, overrides = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
config = plan(overrides, multirun=False).jobs[0]
splits = data.load(config.data)
runtime.prepare(config.training, config.seed)
from cifar_exp import models, training

def on_epoch(epoch, metrics):
    if epoch == killed_after:
        os.kill(os.getpid(), signal.SIGKILL)

model, _ = models.build(config.model)
history = training.fit(model, splits, config, on_epoch, Checkpoints(pathlib.Path(folder)))
weights = hashlib.sha256(b"".join(weight.tobytes() for weight in model.get_weights())).hexdigest()
print(json.dumps([history, weights]))
"""


def test_killed_and_trained_on_in_another_process_it_comes_to_the_very_same(tmp_path: Path) -> None:
    overrides = [*SMALL, EXACT, *STATEFUL["batch normalization, spatial dropout, noise, adam, one cycle"]]

    def process(folder: Path, killed_after: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", PROCESS, str(folder), str(killed_after), *overrides]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    killed = process(tmp_path / "killed", 2)
    assert killed.returncode == -signal.SIGKILL and not killed.stdout
    (resumed, weights), (undisturbed, same) = (
        json.loads(process(tmp_path / folder, 0).stdout.splitlines()[-1]) for folder in ("killed", "undisturbed")
    )
    assert len(resumed["val/loss"]) == 4
    assert measured(resumed) == measured(undisturbed)
    assert weights == same
