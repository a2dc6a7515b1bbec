"""Models whose answers are known, explained on the backend of this process; run as a program, it prints JSON.

The other backends need a process of their own.
"""

from __future__ import annotations

import json
from typing import Any

import keras
import numpy as np

from cifar_exp.config.schema import ONE_VIEW
from cifar_exp.data.splits import Split
from cifar_exp.evaluation import attacks, corruptions, robustness, saliency

REGION = (slice(12, 20), slice(4, 12))  # of an image of 24 x 32


def region_model() -> keras.Model:
    """Logits that depend on the brightness of one region only, by way of a convolution and a dense layer."""
    images = keras.Input((24, 32, 3))
    features = keras.layers.Conv2D(2, 1, name="last")(keras.layers.Rescaling(1 / 255)(images))
    logits = keras.layers.Dense(2, name="logits")(keras.layers.Flatten()(features))
    model = keras.Model(images, logits)
    model.get_layer("last").set_weights([np.full((1, 1, 3, 2), 1 / 3), np.zeros(2)])
    weights = np.zeros((24, 32, 2, 2))
    weights[REGION[0], REGION[1], :, 1] = 0.05
    model.get_layer("logits").set_weights([weights.reshape(-1, 2), np.zeros(2)])
    return model


def spot_model() -> keras.Model:
    """Logits that depend on where an image is bright, by way of a residual, normalization and a global average."""
    images = keras.Input((24, 32, 3))
    features = keras.layers.Conv2D(4, 3, padding="same", name="first")(keras.layers.Rescaling(1 / 255)(images))
    features = keras.layers.BatchNormalization()(features)
    inner = keras.layers.Conv2D(4, 1, name="inner")(features)
    features = keras.layers.Activation("relu")(keras.layers.Add()([features, inner]))
    average = keras.layers.GlobalAveragePooling2D()(features)
    model = keras.Model(images, keras.layers.Dense(2, name="logits")(average))
    model.get_layer("first").set_weights([np.full((3, 3, 3, 4), 1 / 27), np.full(4, -0.5)])
    model.get_layer("inner").set_weights([np.zeros((1, 1, 4, 4)), np.zeros(4)])
    model.get_layer("logits").set_weights([np.array([[0.0, 9.0]] * 4), np.array([0.5, 0.0])])
    return model


def noise() -> np.ndarray:
    """Images of noise that is brighter in the region and in another one, (3, 24, 32, 3) uint8."""
    images = np.random.default_rng(0).integers(0, 128, (3, 24, 32, 3)).astype(np.uint8)
    images[:, *REGION] += 100
    images[:, :12, 16:] += 120
    return images


def spots() -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Dark images with one bright square each, and its middle."""
    images, middles = np.full((3, 24, 32, 3), 20, np.uint8), [(6, 6), (16, 20), (10, 27)]
    for image, (row, column) in zip(images, middles, strict=True):
        image[row - 3 : row + 4, column - 3 : column + 4] = 250
    return images, middles


def answers() -> dict[str, Any]:
    """What is known of the maps and of the errors under corruption."""
    ones = np.ones(3, np.intp)
    found: dict[str, Any] = {}
    maps = saliency.maps(region_model(), noise(), ones)
    for method in ("HiResCAM", "occlusion"):
        inside = np.zeros(maps[method].shape[1:], bool)
        inside[REGION] = True
        peaks = [divmod(int(each.argmax()), each.shape[1]) for each in maps[method]]
        found[f"{method} peaks in the region"] = all(inside[peak] for peak in peaks)
    found["HiResCAM outside"] = float(np.abs(maps["HiResCAM"][:, ~inside]).max())
    # The derivative is 0.05 in the region for both channels, and a feature is the mean of the colours.
    expected = np.where(inside, 2 * 0.05 * noise().mean(axis=-1) / 255, 0)
    found["HiResCAM is the product"] = bool(np.allclose(maps["HiResCAM"], expected, atol=1e-5))

    images, middles = spots()
    maps = saliency.maps(spot_model(), images, ones)
    found["methods"] = list(maps)
    for method, each in maps.items():
        peaks = [divmod(int(one.argmax()), one.shape[1]) for one in each]
        found[f"{method} peaks at the spot"] = all(
            abs(row - y) <= 4 and abs(column - x) <= 4 for (row, column), (y, x) in zip(peaks, middles, strict=True)
        )
    model = spot_model()
    classifier = keras.Model(model.input, keras.layers.Softmax()(model.output))
    labels = np.ones(3, np.uint8)
    corrupted = corruptions.corrupt(images, "contrast", 5)
    wrong = np.asarray(classifier.predict_on_batch(corrupted)).argmax(axis=1) != labels
    errors = robustness.measure(classifier, Split(images, labels), 0.0).errors
    found["errors"] = [float(wrong.mean()), float(errors[corruptions.NAMES.index("contrast"), 4])]

    # Less light in the region speaks against class 1; nothing else counts.
    darker = np.zeros((24, 32, 1), int)
    darker[REGION] = 8
    derivatives = attacks.of_log_odds(region_model(), ONE_VIEW)
    true = np.eye(2, dtype=np.float32)[ones]
    for method, attacked in (
        ("FGSM", attacks.fgsm(derivatives, noise(), true, 8)),
        ("PGD", attacks.pgd(derivatives, noise(), true, 8, np.random.default_rng(0))),
    ):
        inside = np.broadcast_to(darker > 0, attacked.shape)
        expected = np.maximum(noise().astype(int) - darker, 0)
        found[f"{method} darkens the region"] = bool((attacked[inside] == expected[inside]).all())
    return found


if __name__ == "__main__":
    print(json.dumps({"backend": keras.backend.backend(), **answers()}))
