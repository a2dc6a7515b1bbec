"""Attacks on models for which the attacked image is known in closed form, their bounds, and their pictures."""

from __future__ import annotations

import drawn
import keras
import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage
from scipy.special import softmax

from cifar_exp.config.schema import ONE_VIEW, PredictionConfig
from cifar_exp.data.splits import Split
from cifar_exp.evaluation import attacks, attacks_plot, style

Array = npt.NDArray[np.float64]
SHAPE = (6, 5, 3)
GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.integers(0, 256, (40, *SHAPE)).astype(np.uint8)
IMAGES[:, 0], IMAGES[:, 1] = 0, 255  # from where a change may leave the range


def linear(classes: int, scale: float = 1.0) -> tuple[keras.Model, Array]:
    """A linear model of the pixels, and its weights (classes, H, W, C) for values in 0..1."""
    images = keras.Input(SHAPE)
    pixels = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(images))
    model = keras.Model(images, keras.layers.Dense(classes)(pixels))
    weights = scale * np.random.default_rng(classes).standard_normal((90, classes))
    model.layers[-1].set_weights([weights, np.zeros(classes)])
    return model, weights.T.reshape(classes, *SHAPE)


def logits(weights: Array, images: npt.NDArray[np.uint8]) -> Array:
    product: Array = np.tensordot(images / 255, weights, axes=((1, 2, 3), (1, 2, 3)))
    return product


def gradient(weights: Array, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> tuple[Array, Array]:
    """Probability of the true classes, and its derivative with respect to the image."""
    probabilities = softmax(logits(weights, images), axis=1)
    of_true = probabilities[np.arange(len(labels)), labels]
    mean = np.tensordot(probabilities, weights, axes=1)
    return of_true, of_true[:, None, None, None] * (weights[labels] - mean)


def changed(images: npt.NDArray[np.uint8], signs: Array, epsilon: int) -> npt.NDArray[np.uint8]:
    return np.clip(images + epsilon * np.sign(signs), 0, 255).astype(np.uint8)


def of_source(derivatives: Array, by: int) -> Array:
    """Derivatives with respect to images, from those with respect to the images moved by so many pixels."""
    rows, columns = (ndimage.shift(np.arange(n), by, order=0, mode="mirror") for n in derivatives.shape[1:3])
    found = np.zeros_like(derivatives)
    np.add.at(found, (slice(None), rows[:, None], columns), derivatives)
    return found


def with_probabilities(model: keras.Model) -> keras.Model:
    return keras.Model(model.input, keras.layers.Softmax()(model.output))


@pytest.mark.parametrize("prediction", [ONE_VIEW, PredictionConfig(flip=True), PredictionConfig(shift=1)])
def test_fgsm_goes_along_the_sign_of_the_derivative(prediction: PredictionConfig) -> None:
    model, weights = linear(4)
    labels = np.arange(40, dtype=np.uint8) % 4
    _, expected = gradient(weights, IMAGES, labels)
    if prediction.flip:
        expected = expected + gradient(weights, IMAGES[:, :, ::-1], labels)[1][:, :, ::-1]
    for by in {prediction.shift, -prediction.shift} - {0}:
        view = ndimage.shift(IMAGES, (0, by, by, 0), order=0, mode="mirror")
        expected = expected + of_source(gradient(weights, view, labels)[1], by) / 2
    true = np.eye(4, dtype=np.float32)[labels]
    attacked = attacks.fgsm(attacks.of_log_odds(model, prediction), IMAGES, true, 3)
    np.testing.assert_array_equal(attacked, changed(IMAGES, -expected, 3))


def test_of_two_classes_pgd_ends_where_fgsm_does_even_if_the_model_is_sure() -> None:
    """In float32, the derivative of the cross-entropy is 0 here: without care, nothing would move."""
    model, weights = linear(2, scale=200)
    labels = logits(weights, IMAGES).argmax(axis=1).astype(np.uint8)
    assert np.median(softmax(logits(weights, IMAGES).astype(np.float32), axis=1).max(axis=1)) == 1
    true = np.eye(2, dtype=np.float32)[labels]
    derivatives = attacks.of_log_odds(model, ONE_VIEW)
    expected = changed(IMAGES, weights[1 - labels] - weights[labels], 5)
    np.testing.assert_array_equal(attacks.fgsm(derivatives, IMAGES, true, 5), expected)
    np.testing.assert_array_equal(attacks.pgd(derivatives, IMAGES, true, 5, np.random.default_rng(1)), expected)


def test_accuracy_is_that_on_the_attacked_images_and_falls_with_epsilon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attacks, "_BLOCK_VALUES", 1)  # blocks of 32 images and the others
    model, weights = linear(2)
    labels = logits(weights, IMAGES).argmax(axis=1).astype(np.uint8)
    labels[:3] = 1 - labels[:3]
    correct = np.arange(40) >= 3
    epsilons = (1, 4, 16, 64)
    measured = attacks.measure(model, with_probabilities(model), ONE_VIEW, Split(IMAGES, labels), correct, epsilons)
    signs = weights[1 - labels] - weights[labels]
    expected = [
        int(np.sum(logits(weights, changed(IMAGES, signs, epsilon)).argmax(axis=1) == labels)) for epsilon in epsilons
    ]
    assert measured.correct.tolist() == [expected, expected]
    assert sorted(expected, reverse=True) == expected and expected[0] > expected[-1]
    assert measured.clean_correct == 37 >= expected[0] and measured.images == 40
    assert measured.metrics()["attack/accuracy/pgd_16"] == expected[2] / 40


@pytest.fixture(scope="module")
def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    images = keras.Input(SHAPE)
    features = keras.layers.Conv2D(8, 3, activation="tanh")(keras.layers.Rescaling(1 / 32)(images))
    return keras.Model(images, keras.layers.Dense(3)(keras.layers.Flatten()(features)))


def test_attacked_images_stay_within_epsilon_and_pgd_is_stronger(network: keras.Model) -> None:
    classifier, derivatives = with_probabilities(network), attacks.of_log_odds(network, ONE_VIEW)
    labels = classifier.predict(IMAGES, verbose=0).argmax(axis=1)
    true = np.eye(3, dtype=np.float32)[labels]
    made = {
        "fgsm": attacks.fgsm(derivatives, IMAGES, true, 16),
        "pgd": attacks.pgd(derivatives, IMAGES, true, 16, np.random.default_rng(0)),
    }
    for attacked in made.values():
        assert attacked.dtype == np.uint8 and np.abs(attacked.astype(int) - IMAGES).max() == 16
    left = {name: float((classifier.predict(each, verbose=0) * true).sum(axis=1).mean()) for name, each in made.items()}
    assert left["pgd"] < left["fgsm"] < 0.9
    again = attacks.pgd(derivatives, IMAGES, true, 16, np.random.default_rng(0))
    np.testing.assert_array_equal(again, made["pgd"])


def test_table_and_pictures(network: keras.Model) -> None:
    classifier = with_probabilities(network)
    labels = classifier.predict(IMAGES, verbose=0).argmax(axis=1).astype(np.uint8)
    correct = np.arange(40) > 4
    measured = attacks.measure(network, classifier, ONE_VIEW, Split(IMAGES, labels), correct, (2, 8))
    table = measured.table()
    assert list(table["attack"]) == ["FGSM", "FGSM", "PGD", "PGD"] and list(table["epsilon"]) == [2, 8, 2, 8]
    assert (table["low"] < table["accuracy"]).all() and (table["accuracy"] < table["high"]).all()
    assert measured.as_data()["accuracies"][3]["accuracy"] == measured.accuracy[1, 1]
    assert measured.example is not None and measured.example.index == 5
    assert {"FGSM", "PGD"} <= set(drawn.texts(attacks_plot.accuracies(measured, "a run on images")))
    assert "epsilon 8" in drawn.texts(attacks_plot.example(measured.example, (2, 8), ("a", "b", "c")))


def test_a_model_without_a_right_answer_needs_no_attack(network: keras.Model) -> None:
    split = Split(IMAGES, np.zeros(40, np.uint8))
    measured = attacks.measure(network, with_probabilities(network), ONE_VIEW, split, np.zeros(40, bool), (1,))
    assert measured.correct.tolist() == [[0], [0]] and measured.example is None
    assert style.to_png(attacks_plot.accuracies(measured, "a run"))
