"""fit: a model, its data and its config in; a trained model and its history out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from cifar_exp.config import architecture
from cifar_exp.config.schema import AugmentationConfig, Config, EarlyStoppingConfig
from cifar_exp.data.datasets import Splits
from cifar_exp.data.weights import Weights as ClassWeights
from cifar_exp.data.weights import class_weights
from cifar_exp.errors import Diverged, Pruned, UserError
from cifar_exp.training import optimizers
from cifar_exp.training.augmentation import Augment
from cifar_exp.training.checkpoint import Checkpoint, Checkpoints
from cifar_exp.training.feeding import batches
from cifar_exp.training.loop import Loop, looped
from cifar_exp.training.normalization import fused
from cifar_exp.training.shards import sharded, side_by_side
from cifar_exp.training.state import Weights, capture, restore

EVALUATION_BATCH = 500

# metric name -> its value at each epoch, from epoch 1
History = dict[str, list[float]]
OnEpoch = Callable[[int, dict[str, float]], None]
# epoch, from 1, and the history up to it -> whether the training is to pause there
Pauses = Callable[[int, History], bool]


def fit(
    model: keras.Model,
    splits: Splits,
    config: Config,
    on_epoch: OnEpoch,
    checkpoints: Checkpoints | None = None,
    pauses: Pauses | None = None,
) -> History:
    """Train the model in place.

    Args:
        model: takes pixels in 0..255, gives logits (N, classes).
        splits: training and validation images, uint8.
        config: its training, optimizer and augmentation decide how.
        on_epoch: called after each epoch, from 1, with that epoch's metrics.
        checkpoints: of this very training, which goes on from the newest; `on_epoch` hears of the further epochs only.
            An epoch is saved before it is told: what was not heard of is in the history.
        pauses: asked after each epoch but the last, and before the first when the training goes on from a checkpoint.
            An epoch after which it pauses is saved, whatever `training.checkpoint.every` says.

    Returns:
        The history of all epochs, those before an interruption included.

    Raises:
        Diverged: after the first epoch whose loss is not finite.
        Pruned: after an epoch at which it pauses.
        UserError: for a checkpoint of another model or optimizer, or a batch too small for its ghost batches.
        OSError: if a checkpoint cannot be written.
    """
    settings = config.training
    stopping, every = settings.early_stopping, settings.checkpoint.every
    weights = class_weights(config.data.class_weights, splits.training.labels, splits.classes)
    trained, fed = compiled(model, config, len(splits.training), weights)
    scored = _scored(model, len(splits.validation))
    history: History = {}
    best: Weights | None = None
    if checkpoints and (found := checkpoints.newest()):
        history = found.history
        best = restore(trained, found, _restores(stopping) and _best(history, stopping) < found.epoch)
        if _restores(stopping) and best is None:
            best = trained.get_weights()
    epoch = len(history.get("val/accuracy", ()))
    if pauses and 0 < epoch < settings.epochs and not _stops(history, stopping) and pauses(epoch, history):
        raise Pruned(epoch)
    while epoch < settings.epochs and not _stops(history, stopping):
        paused = False
        epoch += 1
        metrics = _train(trained, fed, scored, splits, config.seed, epoch)
        for name, value in metrics.items():
            history.setdefault(name, []).append(value)
        infinite = next((name for name in ("train/loss", "val/loss") if not math.isfinite(metrics[name])), None)
        if not infinite:
            improved = _best(history, stopping) == epoch
            if _restores(stopping) and improved:
                best = trained.get_weights()
            last = epoch == settings.epochs or _stops(history, stopping)
            paused = pauses is not None and not last and pauses(epoch, history)
            if checkpoints and (paused or (every and (last or epoch % every == 0))):
                state = capture(trained, None if improved else best)
                checkpoints.save(Checkpoint(history, state))
        on_epoch(epoch, metrics)
        if infinite:
            raise Diverged(f"diverged in epoch {epoch}: {infinite} is {metrics[infinite]}")
        if paused:
            raise Pruned(epoch)
    if best is not None:
        trained.set_weights(best)
    return history


def best_epoch(history: History) -> int:
    """The epoch, from 1, of the highest validation accuracy; the first of equals."""
    accuracies = history["val/accuracy"]
    return accuracies.index(max(accuracies)) + 1


def compiled(
    model: keras.Model, config: Config, images: int, weights: ClassWeights | None = None
) -> tuple[keras.Model, int]:
    """The model, ready for the first step of a training on so many images, and how many of them `fit` is fed at once.

    The loss of each image is multiplied by the weight of its class, if there are weights.
    The optimizer's variables are there, so that a checkpoint's can take their place.
    """
    settings = config.training
    whole = sharded(_augmented(fused(model), config.augmentation, config.seed), _shards(config, images))
    trained = looped(whole, settings.batch_size)
    steps = math.ceil(images / settings.batch_size)
    at_once, fed = min(settings.steps_per_execution, steps), settings.batch_size
    if isinstance(trained, Loop):
        at_once, fed = 1, at_once * settings.batch_size
    elif keras.backend.backend() == "torch":
        at_once = 1  # Keras refuses more on PyTorch, which returns to Python after each batch anyway
    trained.compile(
        optimizer=optimizers.build(config.optimizer, steps * settings.epochs),
        loss=_training_loss(settings.label_smoothing, weights),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        steps_per_execution=at_once,
    )
    trained.optimizer.build(trained.trainable_variables)
    return trained, fed


def _shards(config: Config, images: int) -> int:
    size, ghosts = config.training.batch_size, config.training.ghost_batches
    if ghosts == 1:
        return 1 if architecture.mixes_images(config.model.layers) else side_by_side(images, size)
    if 0 < (rest := images % size) < ghosts:
        raise UserError(
            f"training.ghost_batches: got {ghosts}, and the last of the batches of {images} images has {rest}: choose "
            "another training.batch_size"
        )
    return ghosts


def _scored(model: keras.Model, images: int) -> keras.Model:
    """The same weights, for the validation: by what is wanted of them, whatever the training does to get there."""
    scored = sharded(keras.Model(model.input, model.output), side_by_side(images, EVALUATION_BATCH))
    scored.compile(loss=_cross_entropy(), metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")])
    return scored


def _cross_entropy() -> keras.losses.Loss:
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def _training_loss(smoothing: float, weights: ClassWeights | None) -> Any:
    """Cross-entropy with this share of each label spread over all classes, times the weight of the class.

    Keras has the first for one-hot labels alone. Its `class_weight` would come as a third part of each batch; here the
    weights are constants of the loss, on every backend and in a `Loop`.
    """
    if not smoothing and weights is None:
        return _cross_entropy()

    def loss(labels: Any, logits: Any) -> Any:
        labels = keras.ops.cast(keras.ops.reshape(labels, (-1,)), "int32")
        if smoothing:
            one_hot = keras.ops.one_hot(labels, logits.shape[-1])
            losses = keras.losses.categorical_crossentropy(one_hot, logits, from_logits=True, label_smoothing=smoothing)
        else:
            losses = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        return losses if weights is None else losses * keras.ops.take(keras.ops.convert_to_tensor(weights), labels)

    return loss


def _augmented(model: keras.Model, config: AugmentationConfig, seed: int) -> keras.Model:
    """The model behind its augmentation, weights shared: only training sees changed images."""
    if not (config.horizontal_flip or config.zoom or config.shift or config.crop):
        return model
    return keras.Sequential([keras.Input(model.input_shape[1:]), Augment(config, seed), model])


def _train(
    model: keras.Model, fed: int, scored: keras.Model, splits: Splits, seed: int, epoch: int
) -> dict[str, float]:
    """One epoch, and its metrics.

    Keras shuffles from a state that cannot be saved, a different one on each backend. Here the order is a function of
    seed and epoch, and one `fit` is one epoch: the state between two is in variables alone. No hook on batches: it
    would make JAX wait for each one.
    """
    began = time.perf_counter()
    generator = np.random.default_rng((seed, epoch))
    shuffled = splits.training.take(generator.permutation(len(splits.training)))
    # Dropout on PyTorch draws from PyTorch's own state, not from that of its layer; so does the first fit's set-up.
    own_state = int(generator.integers(2**32))
    seeding = keras.callbacks.LambdaCallback(on_epoch_begin=lambda _, logs: keras.utils.set_random_seed(own_state))
    images = batches(fed, shuffled.images, shuffled.labels)
    logs = model.fit(**images, shuffle=False, callbacks=[seeding], verbose=0).history
    seconds = time.perf_counter() - began
    validation = batches(EVALUATION_BATCH, splits.validation.images, splits.validation.labels)
    scores = scored.evaluate(**validation, return_dict=True, verbose=0)
    return {
        "train/loss": float(logs["loss"][0]),
        "train/accuracy": float(logs["accuracy"][0]),
        "val/loss": float(scores["loss"]),
        "val/accuracy": float(scores["accuracy"]),
        "train/learning_rate": float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)),
        "train/epoch_seconds": seconds,
        "train/images_per_second": len(splits.training) / seconds,
    }


# Early stopping decides as Keras's callback does, but from the history: it has no state that could be lost.


def _restores(config: EarlyStoppingConfig) -> bool:
    return config.patience is not None and config.restore_best


def _best(history: History, config: EarlyStoppingConfig) -> int:
    """The epoch, from 1, of the best value of the monitored metric; the first of equals."""
    values = history[config.monitor]
    return values.index(max(values) if config.monitor.endswith("accuracy") else min(values)) + 1


def _stops(history: History, config: EarlyStoppingConfig) -> bool:
    """Whether the last `patience` epochs brought nothing better."""
    return (
        bool(history)
        and config.patience is not None
        and len(history[config.monitor]) - _best(history, config) >= config.patience
    )
