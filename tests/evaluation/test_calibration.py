"""Tests of calibration: predictors whose calibration is known, and scores computed independently."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import log_softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from cifar_exp.evaluation import calibration
from cifar_exp.evaluation.calibration_plot import calibration as draw
from cifar_exp.evaluation.scores import Evaluation, Results
from cifar_exp.evaluation.style import to_png

CLASSES = tuple("abcde")


def predictor(sharpness: float, images: int = 20_000, seed: int = 0) -> tuple[npt.NDArray, npt.NDArray]:
    """Labels drawn from the softmax of random logits, and the log probabilities of `sharpness` times the logits."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2, (images, len(CLASSES)))
    labels = (logits + generator.gumbel(size=logits.shape)).argmax(axis=1).astype(np.uint8)
    return labels, log_softmax(sharpness * logits, axis=1).astype(np.float32)


@pytest.mark.parametrize(("sharpness", "error"), [(1.0, (0, 0.012)), (2.0, (0.08, 0.3)), (0.5, (0.08, 0.3))])
def test_a_calibrated_predictor_has_hardly_an_error_and_an_overconfident_or_cautious_one_has(
    sharpness: float, error: tuple[float, float]
) -> None:
    labels, logarithms = predictor(sharpness)
    for adaptive in (False, True):
        assert error[0] <= calibration.reliability(labels, np.exp(logarithms), adaptive).error <= error[1]


def test_the_temperature_undoes_the_sharpness() -> None:
    for sharpness in (0.5, 1.0, 2.0):
        labels, logarithms = predictor(sharpness)
        temperature = calibration.fit_temperature(labels, logarithms)
        assert temperature == pytest.approx(sharpness, rel=0.03)
        scaled = np.exp(calibration.scale(logarithms, temperature))
        assert calibration.reliability(labels, scaled).error < 0.012
        assert np.array_equal(scaled.argmax(axis=1), logarithms.argmax(axis=1))


def test_scores_are_those_of_scikit_learn() -> None:
    labels, logarithms = predictor(1.7, images=500)
    probabilities = np.exp(logarithms)
    scores = calibration.scores(labels, probabilities, logarithms)
    exact = np.exp(log_softmax(logarithms.astype(np.float64), axis=1))  # rows sum to 1 as scikit-learn wants it
    assert scores["nll"] == pytest.approx(log_loss(labels, exact), rel=1e-5)
    wanted = brier_score_loss(labels, exact, labels=range(5), scale_by_half=False)
    assert scores["brier"] == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(("adaptive", "strategy"), [(False, "uniform"), (True, "quantile")])
def test_bins_have_the_confidence_and_accuracy_of_scikit_learn(adaptive: bool, strategy: str) -> None:
    labels, logarithms = predictor(2.0, images=1500)
    probabilities = np.exp(logarithms)
    found = calibration.reliability(labels, probabilities, adaptive)
    confidence, right = calibration.confidences(labels, probabilities)
    accuracies, confidences = calibration_curve(right, confidence, n_bins=calibration.BINS, strategy=strategy)
    filled = found.counts > 0
    np.testing.assert_allclose(found.accuracy[filled], accuracies, atol=0.02 if adaptive else 1e-9)
    np.testing.assert_allclose(found.confidence[filled], confidences, atol=0.02 if adaptive else 1e-9)
    assert found.counts.sum() == 1500
    assert not adaptive or set(found.counts) == {100}


def test_an_error_by_hand() -> None:
    # two sure predictions, one right; two of confidence 0.6, both right
    probabilities = np.array([[1.0, 0.0], [1.0, 0.0], [0.6, 0.4], [0.4, 0.6]])
    labels = np.array([0, 1, 0, 1])
    expected = (2 * abs(0.5 - 1.0) + 2 * abs(1.0 - 0.6)) / 4
    assert calibration.reliability(labels, probabilities).error == pytest.approx(expected)
    assert [row["count"] for row in calibration.reliability(labels, probabilities).rows()] == [2, 2]
    assert calibration.accuracy_at_coverage(labels, probabilities)["0.5"] == 0.5


@pytest.mark.parametrize("images", [1, 2, 7])
def test_a_handful_of_images_is_enough(images: int) -> None:
    labels, logarithms = predictor(1.0, images)
    scores = calibration.scores(labels, np.exp(logarithms), logarithms)
    assert np.isfinite(list(scores.values())).all()
    assert 0.01 <= calibration.fit_temperature(labels, logarithms) <= 100


def results(same: bool) -> Results:
    test, validation = (
        Evaluation(CLASSES, labels, np.exp(logarithms), logarithms)
        for labels, logarithms in (predictor(2.0, 2000, seed) for seed in (1, 2))
    )
    return Results(test, test if same else validation)


def test_the_temperature_is_fitted_on_validation_images_and_judged_on_test_images() -> None:
    found = results(same=False)
    metrics = found.metrics()
    assert metrics["val/temperature"] == pytest.approx(2.0, rel=0.1)
    assert metrics["test/ece_scaled"] < 0.5 * metrics["test/ece"]
    assert metrics["test/nll"] == metrics["test/loss"] != metrics["val/nll"]
    content = found.calibration()
    assert content["temperature"] == metrics["val/temperature"]
    assert content["test"]["accuracy_at_coverage"]["1.0"] == pytest.approx(metrics["test/accuracy"])
    assert sum(row["count"] for row in content["validation"]["bins"]) == 2000


def test_validated_on_the_test_images_nothing_is_left_to_judge_the_temperature_on() -> None:
    found = results(same=True)
    assert found.scaled is None
    assert "test/ece_scaled" not in found.metrics()
    test = found.test
    png = to_png(draw(test.labels, test.probabilities, None, found.temperature, "validated on the test images"))
    assert png.startswith(b"\x89PNG")
