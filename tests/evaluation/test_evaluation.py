"""Tests of evaluation: every score against one computed independently."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from mlflow.utils.validation import _validate_metric
from scipy.special import softmax
from sklearn.metrics import f1_score

from cifar_exp.config.layers import parse
from cifar_exp.config.schema import ONE_VIEW, ModelConfig, PredictionConfig
from cifar_exp.data.splits import Split, Splits
from cifar_exp.evaluation.evaluation import evaluate
from cifar_exp.evaluation.scores import Evaluation
from cifar_exp.training import models, threads

CLASSES = tuple("abcdefghij")


def evaluate_pixels(
    scale: float, prediction: PredictionConfig = ONE_VIEW
) -> tuple[Evaluation, npt.NDArray[np.float64], Split]:
    """Evaluate a model whose logits are `scale` times the first ten pixels; return the logits and the split too."""
    model, _ = models.build(ModelConfig("m", parse(["Flatten", {"Dense": {"units": 10}}], "m"), {}), (32, 32, 3))
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (70, 32, 32, 3)).astype(np.uint8)
    split = Split(images, generator.integers(0, 10, 70).astype(np.uint8))
    kernel = np.zeros((3072, 10), np.float32)
    kernel[:10] = np.eye(10) * scale * 255
    model.layers[-2].set_weights([kernel, np.zeros(10)])
    return (
        evaluate(model, models.classifier(model, prediction), Splits(split, split, split, CLASSES, "random")).test,
        images.reshape(70, -1)[:, :10] * scale,
        split,
    )


@pytest.fixture(scope="module")
def evaluated() -> tuple[Evaluation, npt.NDArray[np.float64], Split]:
    return evaluate_pixels(scale=0.02)


@pytest.fixture
def small() -> Evaluation:
    """Five images of three classes: one of class 0 taken for class 1; class 2 never predicted."""
    labels = np.array([0, 0, 1, 1, 2], np.uint8)
    predicted = np.array([0, 1, 1, 1, 1])
    probabilities = np.full((5, 3), 0.1, np.float32)
    probabilities[np.arange(5), predicted] = 0.8
    return Evaluation(("cat", "dog", "ox"), labels, probabilities, np.log(probabilities))


def test_loss_is_the_mean_cross_entropy_of_the_logits(
    evaluated: tuple[Evaluation, npt.NDArray[np.float64], Split],
) -> None:
    evaluation, logits, split = evaluated
    exponents = np.exp(logits)
    likelihood = exponents[np.arange(70), split.labels] / exponents.sum(axis=1)
    assert evaluation.loss == pytest.approx(-np.log(likelihood).mean(), rel=1e-5)


def test_loss_of_a_mean_over_two_views_is_that_of_its_probabilities() -> None:
    evaluation, logits, split = evaluate_pixels(0.02, PredictionConfig(flip=True))
    mirrored = split.images[:, :, ::-1].reshape(70, -1)[:, :10] * 0.02
    likelihood = (softmax(logits, axis=1) + softmax(mirrored, axis=1))[np.arange(70), split.labels] / 2
    assert evaluation.loss == pytest.approx(-np.log(likelihood).mean(), rel=1e-5)


@pytest.mark.parametrize("images", [20, 64, 150])
def test_batches_that_are_predicted_at_once_are_predicted_as_each_of_them_is(
    images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = [{"Conv2D": {"filters": 4, "kernel_size": 3, "activation": "relu"}}, "Flatten", {"Dense": {"units": 10}}]
    model, _ = models.build(ModelConfig("m", parse(layers, "m"), {}), (32, 32, 3))
    classifier = models.classifier(model)
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 10, images).astype(np.uint8)
    split = Split(generator.integers(0, 256, (images, 32, 32, 3)).astype(np.uint8), labels)
    splits = Splits(split, split, split, CLASSES, "random")
    alone = evaluate(model, classifier, splits).test
    monkeypatch.setattr(threads, "shards", lambda: 2)
    at_once = evaluate(model, classifier, splits).test
    assert np.array_equal(at_once.probabilities, alone.probabilities)
    assert np.array_equal(at_once.log_probabilities, alone.log_probabilities)


def test_probabilities_are_the_softmax_of_the_logits(
    evaluated: tuple[Evaluation, npt.NDArray[np.float64], Split],
) -> None:
    evaluation, logits, split = evaluated
    assert evaluation.probabilities.dtype == np.float32
    np.testing.assert_allclose(evaluation.probabilities, softmax(logits, axis=1), atol=1e-6)
    np.testing.assert_allclose(evaluation.probabilities.sum(axis=1), np.ones(70), rtol=1e-5)
    assert np.array_equal(evaluation.predicted, logits.argmax(axis=1))
    assert evaluation.predicted.dtype == np.uint8
    assert np.array_equal(evaluation.labels, split.labels)
    assert evaluation.classes == CLASSES


def test_loss_stays_finite_where_a_probability_vanishes() -> None:
    evaluation, logits, split = evaluate_pixels(scale=10.0)
    expected = logits.max(axis=1) - logits[np.arange(70), split.labels]
    assert (evaluation.probabilities == 0).any()
    assert evaluation.loss == pytest.approx(expected.mean(), rel=1e-4)
    assert evaluation.loss > 500


def test_rows_of_the_confusion_matrix_are_true_and_columns_predicted(small: Evaluation) -> None:
    assert small.confusion_matrix.tolist() == [[1, 1, 0], [0, 2, 0], [0, 1, 0]]


def test_the_confusion_matrix_has_classes_that_do_not_occur() -> None:
    predicted = np.eye(10, dtype=np.float32)[[4]]
    evaluation = Evaluation(CLASSES, np.array([3], np.uint8), predicted, np.log(predicted + 1e-9))
    assert evaluation.confusion_matrix.shape == (10, 10)
    assert evaluation.confusion_matrix[3, 4] == 1
    assert evaluation.confusion_matrix.sum() == 1


def test_a_single_image_is_no_reason_to_warn() -> None:
    predicted = np.eye(10, dtype=np.float32)[[4]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics = Evaluation(CLASSES, np.array([4], np.uint8), predicted, np.log(predicted + 1e-9)).metrics()
    assert metrics["test/balanced_accuracy"] == 1.0


def test_metrics_are_named_by_class_and_right(small: Evaluation) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a class that is never predicted is no reason to warn
        metrics = small.metrics()
    assert metrics == pytest.approx(
        {
            "test/loss": -(3 * np.log(0.8) + 2 * np.log(0.1)) / 5,
            "test/accuracy": 0.6,
            "test/balanced_accuracy": 0.5,
            "test/f1_macro": (2 / 3 + 2 / 3 + 0) / 3,
            "test/recall/cat": 0.5,
            "test/precision/cat": 1.0,
            "test/support/cat": 2,
            "test/f1/cat": 2 / 3,
            "test/recall/dog": 1.0,
            "test/precision/dog": 0.5,
            "test/support/dog": 2,
            "test/f1/dog": 2 / 3,
            "test/recall/ox": 0.0,
            "test/precision/ox": 0.0,
            "test/support/ox": 1,
            "test/f1/ox": 0.0,
        }
    )
    assert all(type(value) is float for value in metrics.values())


def test_the_metrics_of_each_class_have_names_that_mlflow_takes() -> None:
    classes = ("c++", "c__", "a/b", "accuracy", "日本語", "L" * 255, f"{'L' * 254}M")
    labels = np.arange(len(classes), dtype=np.uint8)
    probabilities = np.eye(len(classes), dtype=np.float32)
    metrics = Evaluation(classes, labels, probabilities, np.log(probabilities + 1e-9)).metrics()
    recalls = [name for name in metrics if name.startswith("test/recall/")]
    assert [name.removeprefix("test/recall/") for name in recalls] == [
        *("c__.0", "c__.1", "a_b", "accuracy", "日本語"),
        *(f"{'L' * 200}.{number}" for number in (5, 6)),
    ]
    for name, value in metrics.items():
        _validate_metric(name, value, timestamp=0, step=0)
    assert all(metrics[name] == 1 for name in recalls)


def test_macro_f1_is_that_of_scikit_learn(evaluated: tuple[Evaluation, npt.NDArray[np.float64], Split]) -> None:
    evaluation, logits, split = evaluated
    expected = f1_score(split.labels, logits.argmax(axis=1), average="macro", labels=range(10), zero_division=0)
    assert evaluation.metrics()["test/f1_macro"] == pytest.approx(expected)


def test_predictions_are_one_row_an_image(small: Evaluation) -> None:
    frame = small.predictions()
    assert list(frame.columns) == ["index", "label", "predicted", "p_cat", "p_dog", "p_ox"]
    assert frame["index"].tolist() == [0, 1, 2, 3, 4]
    assert frame["label"].tolist() == [0, 0, 1, 1, 2]
    assert frame["predicted"].tolist() == [0, 1, 1, 1, 1]
    assert frame.loc[1, ["p_cat", "p_dog", "p_ox"]].tolist() == pytest.approx([0.1, 0.8, 0.1])


def test_predictions_survive_parquet(small: Evaluation, tmp_path: object) -> None:
    path = f"{tmp_path}/predictions.parquet"
    small.predictions().to_parquet(path, index=False)
    pd.testing.assert_frame_equal(pd.read_parquet(path), small.predictions())


def test_a_submission_names_the_predicted_class_of_every_image_in_order(small: Evaluation) -> None:
    assert small.submission().to_csv(index=False).split() == ["id,label", "1,cat", "2,dog", "3,dog", "4,dog", "5,dog"]


def test_a_submission_says_what_the_predictions_say(
    evaluated: tuple[Evaluation, npt.NDArray[np.float64], Split],
) -> None:
    evaluation, *_ = evaluated
    frame, submission = evaluation.predictions(), evaluation.submission()
    assert list(submission.columns) == ["id", "label"]
    assert submission["id"].tolist() == (frame["index"] + 1).tolist() == list(range(1, 71))
    assert submission["label"].tolist() == [CLASSES[label] for label in frame["predicted"]]
    assert len(set(submission["label"])) > 5


def test_the_report_holds_support_of_every_class(small: Evaluation) -> None:
    assert [small.report[name]["support"] for name in small.classes] == [2, 2, 1]
