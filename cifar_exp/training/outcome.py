"""What a finished training came to: whether it learned anything, and what its curves say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from cifar_exp.data.datasets import Labels, Split, Splits

COMPLETED, COLLAPSED = "completed", "collapsed"
PRUNED = "pruned"  # paused by a search: neither completed nor collapsed

_STANDARD_ERRORS = 3  # above chance, before it counts as learned
_LOSS_RISE = 1.1  # times its lowest, before a rising validation loss is worth a note
_GAP_GROWTH = 0.05  # of accuracy


def chance(labels: Labels, classes: int) -> float:
    """The accuracy of always answering the most frequent class of these labels: 1 / classes if they are balanced."""
    return float(np.bincount(labels, minlength=classes).max() / len(labels))


def outcome(
    history: Mapping[str, Sequence[float]], splits: Splits, test_accuracy: float, test_balanced_accuracy: float
) -> str:
    """`collapsed` for a model that ended no better than chance, on the validation and the test images; `completed`.

    On the test images this must hold for the balanced accuracy as well: of imbalanced classes, a model that tells them
    apart may have a lower accuracy than one that always answers the most frequent class.
    """
    classes = len(splits.classes)
    at_chance = (
        _is_chance(history["val/accuracy"][-1], splits.validation, classes)
        and _is_chance(test_accuracy, splits.test, classes)
        and _is_balanced_chance(test_balanced_accuracy, splits.test, classes)
    )
    return COLLAPSED if at_chance else COMPLETED


def remarks(history: Mapping[str, Sequence[float]], outcome: str, chance: float) -> list[str]:
    """What a reader of the curves would say, a sentence each.

    Args:
        history: of the training.
        outcome: of the training.
        chance: accuracy of chance on the test images.
    """
    if outcome == COLLAPSED:
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
    """The mean recall of a constant or random answer is 1 / (classes present), whatever their sizes."""
    counts = np.bincount(split.labels, minlength=classes)
    counts = counts[counts > 0]
    level = 1 / len(counts)
    error = math.sqrt(float(np.sum(level * (1 - level) / counts))) / len(counts)
    return accuracy <= level + _STANDARD_ERRORS * error
