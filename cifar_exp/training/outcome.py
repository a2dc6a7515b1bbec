"""What a finished training came to: whether it learned anything, and what its curves say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from cifar_exp.config.schema import CLASSES
from cifar_exp.data.datasets import Splits

COMPLETED, COLLAPSED = "completed", "collapsed"

_STANDARD_ERRORS = 3  # above chance, before it counts as learned
_LOSS_RISE = 1.1  # times its lowest, before a rising validation loss is worth a note
_GAP_GROWTH = 0.05  # of accuracy


def outcome(history: Mapping[str, Sequence[float]], splits: Splits, test_accuracy: float) -> str:
    """`collapsed` for a model that ended no better than chance, on the validation and the test images; `completed`."""
    ended_at_chance = _is_chance(history["val/accuracy"][-1], len(splits.validation))
    return COLLAPSED if ended_at_chance and _is_chance(test_accuracy, len(splits.test)) else COMPLETED


def remarks(history: Mapping[str, Sequence[float]], outcome: str) -> list[str]:
    """What a reader of the curves would say, a sentence each."""
    if outcome == COLLAPSED:
        return [f"Collapsed: it ended with the accuracy of chance, 1 in {CLASSES}"]
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


def _is_chance(accuracy: float, images: int) -> bool:
    chance = 1 / CLASSES
    return accuracy <= chance + _STANDARD_ERRORS * math.sqrt(chance * (1 - chance) / images)
