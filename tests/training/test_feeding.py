"""Feeding: what Keras gets is what there is, in its order, whatever the size of a batch."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest

from cifar_exp.data.mapped import MappedImages, StoredImages
from cifar_exp.training.feeding import batches

IMAGES = np.random.default_rng(0).integers(0, 256, (70, 32, 32, 3), dtype=np.uint8)
LABELS = (np.arange(70) % 10).astype(np.uint8)


def mapped(images: np.ndarray) -> MappedImages:
    """The same images as they are when they stay in a file, after another one."""
    stored = np.concatenate([images[:1], images])
    return MappedImages(stored, np.zeros((len(stored), 32), np.uint8), "", np.arange(1, len(stored)))


@pytest.mark.parametrize("stored", [np.asarray, mapped], ids=["in memory", "in a file"])
@pytest.mark.parametrize("size", [1, 32, 70, 500])
def test_every_image_is_fed_once_and_in_order(size: int, stored: Callable[[np.ndarray], StoredImages]) -> None:
    identity = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Identity()])
    assert np.array_equal(identity.predict(**batches(size, stored(IMAGES)), verbose=0), IMAGES)


@pytest.mark.parametrize("stored", [np.asarray, mapped], ids=["in memory", "in a file"])
@pytest.mark.parametrize("size", [32, 500])
def test_labels_go_with_their_images(size: int, stored: Callable[[np.ndarray], StoredImages]) -> None:
    marked = np.zeros_like(IMAGES)
    marked[np.arange(70), 0, LABELS, 0] = 1
    model = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Lambda(lambda images: images[:, 0, :10, 0])])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(loss=loss, metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")])
    assert model.evaluate(**batches(size, stored(marked), LABELS), return_dict=True, verbose=0)["accuracy"] == 1
    assert model.evaluate(**batches(size, stored(marked), LABELS[::-1]), return_dict=True, verbose=0)["accuracy"] < 0.5


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="only TensorFlow tunes a pipeline")
def test_nothing_tunes_the_pipeline() -> None:
    assert batches(32, IMAGES)["x"].options().autotune.enabled is False
