"""Evaluation of a trained model on a split: predictions and scores."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from scipy.special import log_softmax

from cifar_exp.data.splits import Split, Splits
from cifar_exp.evaluation import calibration
from cifar_exp.evaluation.scores import Evaluation, Results
from cifar_exp.training.feeding import batches

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

    def evaluated(split: Split) -> Evaluation:
        predicted = predicting.predict(**batches(SERVED_BATCH, split.images), verbose=0)
        if one_view:
            logits, probabilities = predicted
            logarithms = log_softmax(logits.astype(np.float64), axis=1)
        else:
            probabilities = predicted
            logarithms = calibration.logarithms(probabilities)
        return Evaluation(classes, split.labels, probabilities, logarithms.astype(np.float32))

    return [evaluated(split) for split in splits]
