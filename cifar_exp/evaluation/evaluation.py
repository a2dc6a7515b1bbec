"""Evaluation of a trained model on a split: predictions and scores."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import keras
import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax

from cifar_exp import exits
from cifar_exp.data.mapped import StoredImages
from cifar_exp.data.splits import Split, Splits
from cifar_exp.evaluation import calibration
from cifar_exp.evaluation.scores import Evaluation, Results
from cifar_exp.training import threads
from cifar_exp.training.feeding import batches
from cifar_exp.training.shards import split_into_shards

SERVED_BATCH = 32  # Keras's default, used when the logged model is served; other sizes round differently


def evaluate(model: keras.Model, classifier: keras.Model, splits: Splits) -> Results:
    """Predict all test images and validation images; for the models see `evaluate_splits`."""
    same = splits.validation.sha256 == splits.test.sha256
    chosen = [splits.test] if same else [splits.test, splits.validation]
    evaluations = evaluate_splits(model, classifier, chosen, splits.classes)
    return Results(evaluations[0], evaluations[-1])


def evaluate_splits(
    model: keras.Model, classifier: keras.Model, splits: Sequence[Split], classes: tuple[str, ...]
) -> list[Evaluation]:
    """Predict all images of some splits.

    Args:
        model: outputs logits. The logarithms are computed from them, without underflow.
        classifier: the same model with probabilities as its output; these are logged.
        splits: images (N, H, W, C) uint8 and labels (N,) uint8 or uint16.
        classes: class names in the order of the labels.
    """
    one_view = classifier.input is model.input
    # A mean over several views of an image has no logits.
    predicting = keras.Model(model.input, [model.output, classifier.output]) if one_view else classifier
    sharded = split_into_shards(predicting, threads.shards())  # one for all splits: Keras compiles each anew

    def evaluated(split: Split) -> Evaluation:
        predicted = _predict(predicting, sharded, split)
        if one_view:
            logits, probabilities = predicted
            logarithms = log_softmax(logits.astype(np.float64), axis=1)
        else:
            (probabilities,) = predicted
            logarithms = calibration.logarithms(probabilities)
        return Evaluation(classes, split.labels, probabilities, logarithms.astype(np.float32))

    return [evaluated(split) for split in splits]


def _predict(model: keras.Model, sharded: keras.Model, split: Split) -> list[npt.NDArray[np.float32]]:
    """Predict all images in batches of `SERVED_BATCH`, one batch in each shard.

    The images that are left at the end are one or several smaller batches, as they are when the model is served.

    Args:
        model: predicts what is left.
        sharded: the same model in the shards of this process.
        split: the images.

    Returns:
        Each output of the model, (N, classes).
    """

    def predicted(network: keras.Model, size: int, images: StoredImages) -> list[npt.NDArray[np.float32]]:
        with exits.on_stop(partial(setattr, network, "stop_predicting", True)):
            outputs = network.predict(**batches(size, images), verbose=0)
        parts: list[npt.NDArray[np.float32]] = keras.tree.flatten(outputs)
        return parts

    if sharded is model:
        return predicted(model, SERVED_BATCH, split.images)
    at_once = threads.shards() * SERVED_BATCH
    whole, left = np.split(np.arange(len(split)), [len(split) - len(split) % at_once])
    parts = []
    if whole.size:
        parts.append(predicted(sharded, at_once, split.take(whole).images))
    if left.size:
        parts.append(predicted(model, SERVED_BATCH, split.take(left).images))
    return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]
