"""Fixtures of the tests of augmentation: images, and the random parameters that are drawn for them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from augmented import SIZE, Array

from cifar_exp.training.augmentation import Augment


@pytest.fixture
def images() -> Array:
    """Different in every pixel, uint8 in full range."""
    return np.random.default_rng(0).integers(0, 256, (64, SIZE, SIZE, 3)).astype(np.uint8)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Array]:
    """The random parameters, in the order in which they are drawn: numpy's, where Keras's would not be known."""
    record: list[Array] = []
    generator = np.random.default_rng(7)

    def uniform(layer: Augment, count: Any, limit: float) -> Any:
        record.append(generator.uniform(-limit, limit, (int(count), 1)).astype(np.float32))
        return keras.ops.convert_to_tensor(record[-1])

    monkeypatch.setattr(Augment, "_uniform", uniform)
    return record
