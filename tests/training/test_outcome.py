"""The verdict on a finished training."""

from __future__ import annotations

import numpy as np
import pytest

from cifar_exp.data.splits import Split, Splits
from cifar_exp.training.outcome import collapsed, remarks


def splits(images: int) -> Splits:
    labels = (np.arange(images) % 10).astype(np.uint8)
    split = Split(np.zeros((images, 1, 1, 1), np.uint8), labels)
    return Splits(split, split, split, tuple("abcdefghij"), "nowhere")


@pytest.mark.parametrize(
    ("validation", "test", "images", "expected"),
    [
        ([0.1, 0.1], 0.1, 10_000, True),
        ([0.5, 0.1], 0.1, 10_000, True),  # it had learned, and lost it
        ([0.5, 0.1], 0.5, 10_000, False),  # its best weights were restored
        ([0.1, 0.2], 0.1, 10_000, False),
        ([0.1, 0.11], 0.12, 10_000, False),  # 0.01 is a chance of one in a thousand with so many images
        ([0.1, 0.11], 0.12, 400, True),  # and likely with so few
    ],
)
def test_a_run_at_chance_to_its_end_has_collapsed(
    validation: list[float], test: float, images: int, expected: bool
) -> None:
    assert collapsed({"val/accuracy": validation}, splits(images), test, test) is expected


def history(train: list[float], val: list[float], losses: list[float]) -> dict[str, list[float]]:
    return {"train/accuracy": train, "val/accuracy": val, "val/loss": losses}


def test_a_growing_gap_is_said_with_its_figures() -> None:
    overfitted = history([0.5, 0.7, 0.95], [0.5, 0.65, 0.66], [1.3, 1.0, 1.5])
    (said,) = remarks(overfitted, False, 0.1)
    assert "after epoch 2 the validation loss rose from 1.000 to 1.500" in said
    assert "lead of training accuracy from 0.050 to 0.290" in said


@pytest.mark.parametrize(
    "healthy",
    [
        history([0.5, 0.7], [0.5, 0.65], [1.3, 1.0]),  # still falling
        history([0.5, 0.7, 0.8], [0.5, 0.65, 0.66], [1.3, 1.0, 1.05]),  # hardly rising
        history([0.5, 0.7, 0.7], [0.5, 0.65, 0.66], [1.3, 1.0, 1.5]),  # no gap
        history([0.5], [0.5], [1.3]),
    ],
)
def test_nothing_is_said_of_healthy_curves(healthy: dict[str, list[float]]) -> None:
    assert remarks(healthy, False, 0.1) == []


def test_a_collapse_is_said_and_nothing_else() -> None:
    (said,) = remarks(history([0.1, 0.9], [0.1, 0.1], [2.3, 9.0]), True, 0.25)
    assert said == "Collapsed: it ended with the accuracy of chance, 0.2500"
