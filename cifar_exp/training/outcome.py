"""Outcome of a finished training: whether the model learned anything, and remarks on its curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from cifar_exp.data.splits import Labels, Split, Splits

_STANDARD_ERRORS = 3  # above chance that an accuracy must be to count as learned
_LOSS_RISE = 1.1  # last validation loss / lowest one, from which it gets a remark
_GAP_GROWTH = 0.05  # growth of training accuracy - validation accuracy, from which it gets a remark


def chance(labels: Labels, classes: int) -> float:
    """Return the accuracy of always predicting the most frequent class: 1 / classes if the labels are balanced.

    Args:
        labels: (N,) uint8 or uint16.
        classes: number of classes.
    """
    return float(np.bincount(labels, minlength=classes).max() / len(labels))


def collapsed(
    history: Mapping[str, Sequence[float]], splits: Splits, test_accuracy: float, test_balanced_accuracy: float
) -> bool:
    """Whether a training collapsed: whether its accuracy at the end is not significantly better than chance.

    It must be so on the validation images and on the test images. On the test images the balanced accuracy must be at
    chance as well: if classes are imbalanced, a model that distinguishes them can have a lower accuracy than always
    predicting the most frequent class.

    Args:
        history: metric name -> value of each epoch.
        splits: with the validation and test labels.
        test_accuracy: of the trained model, in 0..1.
        test_balanced_accuracy: mean recall of the classes, in 0..1.
    """
    classes = len(splits.classes)
    return (
        _is_chance(history["val/accuracy"][-1], splits.validation, classes)
        and _is_chance(test_accuracy, splits.test, classes)
        and _is_balanced_chance(test_balanced_accuracy, splits.test, classes)
    )


def remarks(history: Mapping[str, Sequence[float]], collapsed: bool, chance: float) -> list[str]:
    """Describe what is notable about the curves of a training.

    Args:
        history: metric name -> value of each epoch.
        collapsed: whether the training collapsed.
        chance: accuracy of chance on the test images.

    Returns:
        One sentence per remark; may be empty.
    """
    if collapsed:
        return [f"Collapsed: it ended with the accuracy of chance, {chance:.4f}"]
    losses = history["val/loss"]
    lowest = min(range(len(losses)), key=losses.__getitem__)
    gaps = [train - val for train, val in zip(history["train/accuracy"], history["val/accuracy"], strict=True)]
    if losses[-1] > _LOSS_RISE * losses[lowest] and gaps[-1] > gaps[lowest] + _GAP_GROWTH:
        return [
            f"The gap between training and validation grew: after epoch {lowest + 1} the validation loss rose from "
            f"{losses[lowest]:.3f} to {losses[-1]:.3f}, the lead of training accuracy from {gaps[lowest]:.3f} to "
            f"{gaps[-1]:.3f}"
        ]
    return []


def _is_chance(accuracy: float, split: Split, classes: int) -> bool:
    level = chance(split.labels, classes)
    return accuracy <= level + _STANDARD_ERRORS * math.sqrt(level * (1 - level) / len(split))


def _is_balanced_chance(accuracy: float, split: Split, classes: int) -> bool:
    """Whether a balanced accuracy is at chance: a constant or random prediction has 1 / (classes with images)."""
    counts = np.bincount(split.labels, minlength=classes)
    counts = counts[counts > 0]
    level = 1 / len(counts)
    error = math.sqrt(float(np.sum(level * (1 - level) / counts))) / len(counts)
    return accuracy <= level + _STANDARD_ERRORS * error
