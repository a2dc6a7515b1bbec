"""Training of a model: epochs, early stopping, resuming from checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from cifar_exp import exits
from cifar_exp.config import layers
from cifar_exp.config.schema import Config
from cifar_exp.config.training_schema import AugmentationConfig, EarlyStoppingConfig
from cifar_exp.data.splits import Split, Splits
from cifar_exp.errors import Diverged, Pruned, UserError
from cifar_exp.training import augmentation, averaging, mixing, objective, optimizers, runtime, schedules
from cifar_exp.training.checkpoint import Checkpoint, Checkpoints
from cifar_exp.training.feeding import batches
from cifar_exp.training.loop import Loop, loop_over_batches
from cifar_exp.training.normalization import fuse_batch_normalization
from cifar_exp.training.shards import shard_count, split_into_shards
from cifar_exp.training.state import Weights, capture, restore

if TYPE_CHECKING:
    from cifar_exp.training.epoch import Epoch

_EVALUATION_VALUES = 500 * 32 * 32 * 3  # of a batch in the validation: 500 images of CIFAR-10
_FINITE = ("train/loss", "train/objective", "val/loss", "val/objective")  # otherwise the training has diverged
_FED_BYTES = 1 << 26  # images that are fed at once to a `Loop`: more take memory and save no time

# metric name -> value of each epoch, from epoch 1
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
    """Train a model in place.

    Args:
        model: takes images (N, H, W, C) with pixels in 0..255 and returns logits (N, classes).
        splits: training and validation images (N, H, W, C) uint8 with their labels.
        config: its training, optimizer, augmentation and seed are used.
        on_epoch: called after each epoch with its number, from 1, and its metrics.
        checkpoints: of this training. It resumes from the newest one, and `on_epoch` is called for later epochs only.
            An epoch is saved before `on_epoch` is called. If a process is killed in between, `on_epoch` is never called
            for that epoch, but the returned history contains it.
        pauses: called after each epoch but the last, and before the first if the training resumes from a checkpoint.
            An epoch after which the training pauses is saved, whatever `training.checkpoint.every` says.

    Returns:
        The metrics of all epochs, including those before an interruption.

    Raises:
        Diverged: after the first epoch whose loss is not finite.
        Pruned: after an epoch at which the training pauses.
        UserError: if a checkpoint does not fit the model and optimizer, or the last batch is smaller than the number of
            ghost batches.
        OSError: if a checkpoint cannot be written.
    """
    settings = config.training
    stopping, every = settings.early_stopping, settings.checkpoint.every
    loss = objective.loss(config, splits)
    trained, images_per_call = compile_model(model, config, len(splits.training), loss)
    program = _in_one_program(trained, splits.training, settings.batch_size, settings.steps_per_execution)
    validate = _validation(model, splits.validation, loss, settings.steps_per_execution)
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
        if config.optimizer.schedule.name == schedules.PLATEAU:
            trained.optimizer.learning_rate = schedules.on_plateau(config.optimizer, history.get("val/loss", ()))
        epoch += 1
        metrics = _train(trained, images_per_call, program, splits.training, config.seed, epoch) | validate()
        for name, value in metrics.items():
            history.setdefault(name, []).append(value)
        infinite = next((name for name in _FINITE if not math.isfinite(metrics[name])), None)
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
    """Return the epoch with the highest validation accuracy, from 1; the first one of equals."""
    accuracies = history["val/accuracy"]
    return accuracies.index(max(accuracies)) + 1


def evaluation_batch(model: keras.Model) -> int:
    """Return the number of images that are scored at once: fewer of large ones, which are all in memory as floats."""
    values: int = math.prod(model.input_shape[1:])
    return min(500, max(32, _EVALUATION_VALUES // values))


def compile_model(model: keras.Model, config: Config, images: int, loss: Any) -> tuple[keras.Model, int]:
    """Build and compile the model that is trained: the given one with augmentation and faster training steps.

    The variables of its optimizer are created, so that the values of a checkpoint can be assigned to them.

    Args:
        model: takes pixels in 0..255 and returns logits; its weights are shared with the result.
        config: its training, optimizer, augmentation and seed are used.
        images: number of training images.
        loss: from `objective`.

    Returns:
        The compiled model, and the number of images to pass to its `fit` per batch of the input pipeline.

    Raises:
        UserError: if the last batch is smaller than the number of ghost batches.
    """
    settings = config.training
    changes, seed, shards = config.augmentation, config.seed, _shards(config, images)
    network, metrics = fuse_batch_normalization(model), objective.metrics()
    if mixing.is_on(changes):  # before the shards: the other image may be in another one
        network = _augmented(mixing.mixed(split_into_shards(network, shards), changes, seed), changes, seed)
        loss, metrics = mixing.loss(loss), mixing.metrics()
    else:
        network = split_into_shards(_augmented(network, changes, seed), shards)
    trained = loop_over_batches(network, settings.batch_size)
    steps = math.ceil(images / settings.batch_size)
    at_once, images_per_call = min(settings.steps_per_execution, steps), settings.batch_size
    if isinstance(trained, Loop):
        batch_bytes = settings.batch_size * math.prod(model.input_shape[1:])
        at_once, images_per_call = 1, max(1, min(at_once, _FED_BYTES // batch_bytes)) * settings.batch_size
    elif keras.backend.backend() == "torch":
        at_once = 1  # Keras allows only 1 on PyTorch, which returns to Python after each batch anyway
    trained.compile(
        optimizer=optimizers.build(config.optimizer, steps * settings.epochs),
        loss=loss,
        metrics=metrics,
        steps_per_execution=at_once,
    )
    trained.optimizer.build(trained.trainable_variables)
    return trained, images_per_call


def _in_one_program(model: keras.Model, split: Split, batch_size: int, steps: int) -> Epoch | None:
    """Return the epoch of a model as one program, on JAX and where that is faster; see `epoch.in_one_program`."""
    if runtime.backend_package() != "jax":
        return None
    from cifar_exp.training import epoch  # imports JAX

    return epoch.in_one_program(model, split, batch_size, steps)


def _shards(config: Config, images: int) -> int:
    """Return the number of shards per batch: the ghost batches, or as many as this process computes in parallel."""
    size, ghosts = config.training.batch_size, config.training.ghost_batches
    if ghosts == 1:
        return 1 if layers.mixes_images(config.model.layers) else shard_count(images, size)
    if 0 < (rest := images % size) < ghosts:
        raise UserError(
            f"training.ghost_batches: got {ghosts}, and the last of the batches of {images} images has {rest}: choose "
            "another training.batch_size"
        )
    return ghosts


def _validation(model: keras.Model, split: Split, loss: Any, steps: int) -> Callable[[], dict[str, float]]:
    """Return what computes the metrics of validation images with the current weights of a model: no augmentation."""
    size = evaluation_batch(model)
    scored = split_into_shards(keras.Model(model.input, model.output), shard_count(len(split), size))
    scored.compile(loss=loss, metrics=objective.metrics())
    program = _in_one_program(scored, split, size, steps)
    images = {} if program else batches(size, split.images, split.labels)

    def validate() -> dict[str, float]:
        with exits.on_stop(partial(setattr, scored, "stop_evaluating", True)):
            scores = program.evaluate() if program else scored.evaluate(**images, return_dict=True, verbose=0)
        return {
            "val/loss": float(scores["cross_entropy"]),
            "val/objective": float(scores["loss"]),
            "val/accuracy": float(scores["accuracy"]),
        }

    return validate


def _augmented(model: keras.Model, config: AugmentationConfig, seed: int) -> keras.Model:
    """Put the augmentation, if there is any, before the model; the weights are shared."""
    if not augmentation.is_on(config):
        return model
    return keras.Sequential([keras.Input(model.input_shape[1:]), augmentation.Augment(config, seed), model])


def _train(
    model: keras.Model, images_per_call: int, program: Epoch | None, split: Split, seed: int, epoch: int
) -> dict[str, float]:
    """Train for one epoch.

    Keras shuffles with a state that cannot be saved and that differs between backends. Here the order of the images is
    a function of seed and epoch, and each epoch is one call of `fit` or `Epoch.train`. So between two epochs, the whole
    state is in variables. There is no callback for batches: JAX would wait for each batch.

    Returns:
        The metrics of the epoch by name.
    """
    began = time.perf_counter()
    generator = np.random.default_rng((seed, epoch))
    order = generator.permutation(len(split))
    own_state = int(generator.integers(2**32))
    if epoch > 1:
        averaging.show_moving_weights(model.optimizer)
    if program:  # on JAX, where all of its state is in variables
        logs = program.train(order)
    else:
        shuffled = split.take(order)

        def prepare(*_: object) -> None:
            # Dropout on PyTorch uses the global random state, not that of its layer; so does the first `fit`'s setup.
            runtime.seed_random_states(own_state)
            model.stop_training = exits.stop_pending()  # `fit` has just set it to False

        images = batches(images_per_call, shuffled.images, shuffled.labels)
        callback = keras.callbacks.LambdaCallback(on_epoch_begin=prepare)
        with exits.on_stop(partial(setattr, model, "stop_training", True)):
            history = model.fit(**images, shuffle=False, callbacks=[callback], verbose=0).history
        logs = {name: values[0] for name, values in history.items()}
    seconds = time.perf_counter() - began
    return {
        "train/loss": float(logs["cross_entropy"]),
        "train/objective": float(logs["loss"]),
        "train/accuracy": float(logs["accuracy"]),
        "train/learning_rate": float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)),
        "train/epoch_seconds": seconds,
        "train/images_per_second": len(split) / seconds,
    }


# Early stopping decides like Keras's callback, but from the history, so that it has no state to save.


def _restores(config: EarlyStoppingConfig) -> bool:
    """Whether the training ends with the weights of the best epoch."""
    return config.patience is not None and config.restore_best


def _best(history: History, config: EarlyStoppingConfig) -> int:
    """Return the epoch with the best value of the monitored metric, from 1; the first one of equals."""
    values = history[config.monitor]
    return values.index(max(values) if config.monitor.endswith("accuracy") else min(values)) + 1


def _stops(history: History, config: EarlyStoppingConfig) -> bool:
    """Whether the monitored metric has not improved in the last `patience` epochs."""
    return (
        bool(history)
        and config.patience is not None
        and len(history[config.monitor]) - _best(history, config) >= config.patience
    )
