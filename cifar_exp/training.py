"""fit: a model, its data and its config in; a trained model and its history out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import keras

from cifar_exp import optimizers
from cifar_exp.augmentation import Augment
from cifar_exp.config import AugmentationConfig, Config, EarlyStoppingConfig
from cifar_exp.data import Splits
from cifar_exp.errors import Diverged

EVALUATION_BATCH = 500

# metric name -> its value at each epoch, from epoch 1
History = dict[str, list[float]]
OnEpoch = Callable[[int, dict[str, float]], None]


def fit(model: keras.Model, splits: Splits, config: Config, on_epoch: OnEpoch) -> History:
    """Train the model in place.

    Args:
        model: takes pixels in 0..255, gives logits (N, 10).
        splits: training and validation images, uint8.
        config: its training, optimizer and augmentation decide how.
        on_epoch: called after each epoch, from 1, with that epoch's metrics.

    Raises:
        Diverged: after the first epoch whose loss is not finite.
    """
    settings = config.training
    trained = _augmented(model, config.augmentation, config.seed)
    steps = math.ceil(len(splits.training) / settings.batch_size)
    trained.compile(
        optimizer=optimizers.build(config.optimizer, steps * settings.epochs),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        steps_per_execution=min(settings.steps_per_execution, steps),
    )
    recorder = _Recorder(len(splits.training), on_epoch)
    trained.fit(
        splits.training.images,
        splits.training.labels,
        validation_data=(splits.validation.images, splits.validation.labels),
        validation_batch_size=EVALUATION_BATCH,
        batch_size=settings.batch_size,
        epochs=settings.epochs,
        callbacks=[recorder, *_early_stopping(settings.early_stopping)],
        verbose=0,
    )
    return recorder.history


def best_epoch(history: History) -> int:
    """The epoch, from 1, of the highest validation accuracy; the first of equals."""
    accuracies = history["val/accuracy"]
    return accuracies.index(max(accuracies)) + 1


def _augmented(model: keras.Model, config: AugmentationConfig, seed: int) -> keras.Model:
    """The model behind its augmentation, weights shared: only training sees changed images."""
    if not (config.horizontal_flip or config.zoom or config.shift or config.crop):
        return model
    return keras.Sequential([keras.Input(model.input_shape[1:]), Augment(config, seed), model])


def _early_stopping(config: EarlyStoppingConfig) -> list[keras.callbacks.Callback]:
    if config.patience is None:
        return []
    return [
        keras.callbacks.EarlyStopping(
            monitor=config.monitor.replace("val/", "val_").replace("train/", ""),
            patience=config.patience,
            restore_best_weights=config.restore_best,
        )
    ]


class _Recorder(keras.callbacks.Callback):  # type: ignore[misc]
    """Epoch hooks only: a hook on every batch makes JAX wait for each one."""

    def __init__(self, images: int, on_epoch: OnEpoch) -> None:
        super().__init__()
        self.history: History = {}
        self._images, self._on_epoch = images, on_epoch
        self._began = self._seconds = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._began = time.perf_counter()

    def on_test_begin(self, logs: Any = None) -> None:  # validation starts: the epoch's training is over
        self._seconds = time.perf_counter() - self._began

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs = logs or {}
        metrics = {
            "train/loss": float(logs["loss"]),
            "train/accuracy": float(logs["accuracy"]),
            "val/loss": float(logs["val_loss"]),
            "val/accuracy": float(logs["val_accuracy"]),
            "train/learning_rate": float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)),
            "train/epoch_seconds": self._seconds,
            "train/images_per_second": self._images / self._seconds,
        }
        for name, value in metrics.items():
            self.history.setdefault(name, []).append(value)
        self._on_epoch(epoch + 1, metrics)
        for name in ("train/loss", "val/loss"):
            if not math.isfinite(metrics[name]):
                raise Diverged(f"diverged in epoch {epoch + 1}: {name} is {metrics[name]}")
