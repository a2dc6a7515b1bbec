"""How a classifier stands up to images that were changed on purpose, so that it gets them wrong.

Both attacks are white-box: the images are made with knowledge of this model's weights. They change every value of a
pixel by at most epsilon (L-infinity) and aim at any wrong class (untargeted).

- FGSM, the fast gradient sign method (Goodfellow, Shlens and Szegedy, 2015): one step of epsilon along the sign of the
  derivative of the cross-entropy.
- PGD, projected gradient descent (Madry et al., 2018): from a random start within epsilon, `STEPS` steps of 2.5 times
  epsilon divided by their number, each followed by a projection to what is allowed.

Epsilon is in pixel values: 8 is 8/255 of the range. Attacked images are images again, of whole pixel values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd
from keras import ops

from cifar_exp.config.schema import PredictionConfig
from cifar_exp.data.splits import Images, Split
from cifar_exp.evaluation import gradients
from cifar_exp.evaluation.gradients import Derivatives, Floats
from cifar_exp.evaluation.intervals import wilson
from cifar_exp.training.views import weighted_views

FGSM, PGD = METHODS = ("FGSM", "PGD")
STEPS = 20

_STEP = 2.5 / STEPS  # of PGD, in epsilons
_BLOCK_VALUES, _BLOCK_IMAGES = 256 * 32 * 32 * 3, 32  # attacked at once: as many values, or images
_LARGEST, _FAR = 255, 1e9  # a pixel value; below any logit


@dataclass(frozen=True)
class Example:
    """An image and what the attacks made of it.

    Attributes:
        index: of the image, from 0.
        label: its class.
        clean: the image, (H, W, C) uint8.
        attacked: by each of `METHODS` with each epsilon, (2, E, H, W, C) uint8.
        predicted: the most probable class of each, (2, E).
        probability: of that class, (2, E).
    """

    index: int
    label: int
    clean: Images
    attacked: Images
    predicted: npt.NDArray[np.intp]
    probability: Floats


@dataclass(frozen=True)
class Attacks:
    """Results of a classifier on attacked images.

    Attributes:
        images: number of images.
        clean_correct: number of images that are classified correctly without an attack.
        epsilons: pixel values.
        correct: number of images that are classified correctly under each of `METHODS` with each epsilon, (2, E).
        example: the first image that is classified correctly without an attack; None if there is none.
    """

    images: int
    clean_correct: int
    epsilons: tuple[int, ...]
    correct: npt.NDArray[np.int64]
    example: Example | None

    @property
    def accuracy(self) -> npt.NDArray[np.float64]:
        """Share of all images that are classified correctly under each attack with each epsilon, (2, E)."""
        return self.correct / self.images

    def metrics(self) -> dict[str, float]:
        """Metrics by logged name."""
        return {
            f"attack/accuracy/{method.lower()}_{epsilon}": float(self.accuracy[row, column])
            for row, method in enumerate(METHODS)
            for column, epsilon in enumerate(self.epsilons)
        }

    def table(self) -> pd.DataFrame:
        """One row per attack and epsilon: attack, epsilon, accuracy, and its 95 % interval (Wilson), low to high."""
        rows = [
            (method, epsilon, count / self.images, *wilson(count, self.images))
            for method, counts in zip(METHODS, self.correct.tolist(), strict=True)
            for epsilon, count in zip(self.epsilons, counts, strict=True)
        ]
        return pd.DataFrame(rows, columns=["attack", "epsilon", "accuracy", "low", "high"])

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "images": self.images,
            "clean_accuracy": self.clean_correct / self.images,
            "steps": STEPS,
            "accuracies": self.table().to_dict("records"),
        }


def measure(
    model: keras.Model,
    classifier: keras.Model,
    prediction: PredictionConfig,
    split: Split,
    correct: npt.NDArray[np.bool_],
    epsilons: Sequence[int],
    seed: int = 0,
) -> Attacks:
    """Attack the images that are classified correctly, and classify them again.

    An image that is classified wrongly needs no attack and stays wrong.

    Args:
        model: takes pixels (N, H, W, C) and returns logits (N, classes).
        classifier: the same model with probabilities (N, classes) as its output.
        prediction: the views of each image over which these are averaged.
        split: images (N, H, W, C) uint8 and labels (N,).
        correct: which of the images are classified correctly, (N,).
        epsilons: pixel values, 1 to 255.
        seed: of the random starts. Equal seeds start equally.
    """
    derivatives = of_log_odds(model, prediction)
    right = np.flatnonzero(correct)
    size = max(_BLOCK_IMAGES, _BLOCK_VALUES // math.prod(split.images.shape[1:]))
    counts = np.zeros((len(METHODS), len(epsilons)), np.int64)
    first: list[tuple[Images, Floats]] = []
    for start in range(0, len(right), size):
        block = right[start : start + size]
        images, labels = np.asarray(split.images[block]), split.labels[block]
        true = np.eye(model.output.shape[-1], dtype=np.float32)[labels]
        for row, method in enumerate(METHODS):
            for column, epsilon in enumerate(epsilons):
                generator = np.random.default_rng([seed, epsilon, start])
                attacked = (
                    fgsm(derivatives, images, true, epsilon)
                    if method == FGSM
                    else pgd(derivatives, images, true, epsilon, generator)
                )
                probabilities = np.asarray(classifier.predict_on_batch(attacked))
                counts[row, column] += np.sum(probabilities.argmax(axis=1) == labels)
                if start == 0:
                    first.append((attacked[0], probabilities[0]))
    example = _example(split, int(right[0]), first, counts.shape) if first else None
    return Attacks(len(split), len(right), tuple(epsilons), counts, example)


def _example(split: Split, index: int, made: Sequence[tuple[Images, Floats]], shape: tuple[int, ...]) -> Example:
    """The example, from attacked images and their probabilities, attack by attack."""
    clean = np.asarray(split.images[index])
    probabilities = np.stack([each for _, each in made])
    return Example(
        *(index, int(split.labels[index]), clean),
        np.stack([attacked for attacked, _ in made]).reshape(*shape, *clean.shape),
        probabilities.argmax(axis=1).reshape(shape),
        probabilities.max(axis=1).reshape(shape),
    )


def of_log_odds(model: keras.Model, prediction: PredictionConfig) -> Derivatives:
    """Make the function that differentiates the log-odds against the true class with respect to the image.

    The cross-entropy is log(1 + odds), so that both derivatives have the same sign. That of the log-odds does not
    vanish where the probability of the class is 1 in float32.

    Args:
        model: takes pixels (N, H, W, C) and returns logits (N, classes).
        prediction: the views of each image over which the probabilities are averaged.

    Returns:
        Function of pixels (N, H, W, C) and of the true classes as 0 and 1, (N, classes), both float32.
    """
    images = keras.Input(model.input_shape[1:])
    weights, views = zip(*weighted_views(images, prediction), strict=True)
    logits = ops.stack([model(view) for view in views], axis=1)
    return gradients.of_values(keras.Model(images, logits), partial(_log_odds, np.log(weights, dtype=np.float32)))


def _log_odds(log_weights: Floats, logits: Any, true: Any) -> Any:
    """log((1 - p) / p), where p is the mean probability of the true class over views.

    Args:
        log_weights: logarithm of the weight of each view, (V,).
        logits: (N, V, classes).
        true: the true classes as 0 and 1, (N, classes).
    """
    true = ops.expand_dims(true, 1)
    total = ops.logsumexp(logits, axis=2)
    of_true = ops.sum(logits * true, axis=2) - total
    of_others = ops.logsumexp(logits - _FAR * true, axis=2) - total
    of_true, of_others = (ops.add(of_one_view, log_weights) for of_one_view in (of_true, of_others))
    return ops.logsumexp(of_others, axis=1) - ops.logsumexp(of_true, axis=1)


def fgsm(derivatives: Derivatives, images: Images, true: Floats, epsilon: int) -> Images:
    """Attack images with one step.

    Args:
        derivatives: from `of_log_odds`.
        images: (N, H, W, C) uint8.
        true: the true classes as 0 and 1, (N, classes).
        epsilon: pixel values.

    Returns:
        Images, which differ from the given ones by at most epsilon.
    """
    start, low, high = _bounds(images, epsilon)
    return _as_images(np.clip(start + epsilon * np.sign(derivatives(start, true)), low, high))


def pgd(derivatives: Derivatives, images: Images, true: Floats, epsilon: int, generator: np.random.Generator) -> Images:
    """Attack images with several steps from a random start; for the arguments see `fgsm`.

    Args:
        generator: of the start.
    """
    clean, low, high = _bounds(images, epsilon)
    at = np.clip(clean + generator.uniform(-epsilon, epsilon, clean.shape).astype(np.float32), low, high)
    for _ in range(STEPS):
        at = np.clip(at + _STEP * epsilon * np.sign(derivatives(at, true)), low, high)
    return _as_images(at)


def _bounds(images: Images, epsilon: int) -> tuple[Floats, Floats, Floats]:
    """The images, and the lowest and highest values that the attack may give them."""
    pixels = images.astype(np.float32)
    return pixels, np.maximum(pixels - epsilon, 0), np.minimum(pixels + epsilon, _LARGEST)


def _as_images(pixels: Floats) -> Images:
    """Round to whole values. The bounds are whole, so that it does not cross them."""
    return np.rint(pixels).astype(np.uint8)
