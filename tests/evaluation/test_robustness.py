"""Errors under corruptions, against a classifier whose errors are known, and their pictures."""

from __future__ import annotations

import drawn
import keras
import numpy as np
import pytest

from cifar_exp.data.splits import Split
from cifar_exp.evaluation import corruptions, robustness, robustness_plot, style

BLOCKS = (slice(0, 32), slice(32, 40))


@pytest.fixture(scope="module")
def measured() -> tuple[robustness.Robustness, Split, keras.Model]:
    """Of a classifier that finds an image bright if its mean is above the middle."""
    inputs = keras.Input((32, 32, 1))
    mean = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(inputs))
    classifier = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(mean))
    classifier.layers[-1].set_weights([np.array([[-50.0, 50.0]]), np.array([25.0, -25.0])])
    generator = np.random.default_rng(0)
    count = 40
    labels = np.arange(count, dtype=np.uint8) % 2
    images = (generator.integers(0, 100, (count, 32, 32, 1)) + 70 * labels[:, None, None, None] + 20).astype(np.uint8)
    split = Split(images, labels)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(robustness, "_BLOCK_VALUES", 1)  # blocks of 32 and 8 images
        return robustness.measure(classifier, split, 0.0), split, classifier


def test_errors_are_those_of_the_corrupted_images(
    measured: tuple[robustness.Robustness, Split, keras.Model],
) -> None:
    result, split, classifier = measured
    for name, severity in (("gaussian_noise", 2), ("fog", 5), ("brightness", 5), ("contrast", 3)):
        blocks = [corruptions.corrupt(split.images[part], name, severity, part.start) for part in BLOCKS]
        corrupted = np.concatenate(blocks)
        wrong = classifier.predict(corrupted, verbose=0).argmax(axis=1) != split.labels
        assert result.errors[corruptions.NAMES.index(name), severity - 1] == pytest.approx(wrong.mean())
    errors = result.metrics()
    assert errors["robustness/error/contrast"] == 0  # keeps the mean
    assert errors["robustness/error/brightness"] > 0.05  # makes dark images bright
    assert errors["robustness/mce"] == pytest.approx(result.errors.mean()) == errors["robustness/relative_mce"]


def test_table_and_pictures(measured: tuple[robustness.Robustness, Split, keras.Model]) -> None:
    result, split, _ = measured
    table = result.table()
    assert list(table.columns) == ["corruption", "1", "2", "3", "4", "5", "mean"]
    assert result.as_data()["errors"]["fog"] == result.errors[corruptions.NAMES.index("fog")].tolist()
    texts = drawn.texts(robustness_plot.errors(result, "a run on images"))
    assert "elastic transform" in texts and "severity" in texts
    assert len(style.to_png(robustness_plot.examples(np.asarray(split.images[0])))) > 10_000
