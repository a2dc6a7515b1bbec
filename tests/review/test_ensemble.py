"""Tests of ensembles: averages, selection and diversity by hand, refusals, and a real one, served and promoted."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from test_logged_model import DIGITS, rewrite

from cifar_exp.analysis import ensemble_members, ensemble_result, ensemble_run
from cifar_exp.analysis.ensemble_result import Ensemble
from cifar_exp.errors import UserError
from cifar_exp.evaluation.scores import Evaluation
from cifar_exp.experiment import reproduce
from cifar_exp.review import ensemble, logged_model, promotion, run_predictions, verdicts
from cifar_exp.review.ensemble import LOGITS, PROBABILITIES
from cifar_exp.review.ensemble_model import Recipe
from cifar_exp.tracking import fetch
from cifar_exp.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

LogTrained = Callable[..., "Run"]
LogPredicted = Callable[..., "Run"]

A, B = np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([[0.5, 0.5], [0.6, 0.4]])


def test_the_mean_of_probabilities_by_hand() -> None:
    assert np.exp(ensemble.log_mean([A, B], (1, 1), PROBABILITIES)) == pytest.approx(np.array([[0.7, 0.3], [0.4, 0.6]]))
    assert np.exp(ensemble.log_mean([A, B], (3, 1), PROBABILITIES)) == pytest.approx(np.array([[0.8, 0.2], [0.3, 0.7]]))
    assert np.exp(ensemble.log_mean([A, B], (0, 1), PROBABILITIES)) == pytest.approx(B)


def test_the_mean_of_logits_by_hand() -> None:
    """Of two classes, the odds of the ensemble are the geometric mean of the odds: sqrt(9 * 1) and sqrt(4 * 2 / 3)."""
    odds = np.array([3.0, math.sqrt(8 / 3)])
    averaged = np.exp(ensemble.log_mean([A, B], (1, 1), LOGITS))
    assert averaged[0] == pytest.approx([odds[0] / (1 + odds[0]), 1 / (1 + odds[0])])
    assert averaged[1] == pytest.approx([1 / (1 + odds[1]), odds[1] / (1 + odds[1])])


def test_the_mean_of_logits_is_that_of_any_logits_with_these_probabilities() -> None:
    from scipy.special import softmax

    logits = np.random.default_rng(0).normal(size=(3, 50, 10)) * 4
    averaged = ensemble.log_mean([softmax(one, axis=1) for one in logits + 100], (1, 2, 1), LOGITS)
    expected = softmax(np.average(logits, axis=0, weights=[1, 2, 1]), axis=1)
    assert np.exp(averaged) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("mean", [PROBABILITIES, LOGITS])
def test_a_probability_that_underflows_leaves_the_logarithms_finite(mean: str) -> None:
    certain = np.array([[1.0, 0.0]], np.float32)
    assert np.isfinite(ensemble.log_mean([certain, certain], (1, 1), mean)).all()


def test_the_selection_by_hand() -> None:
    """Probabilities of the true class of two images: (0.9, 0.1), (0.1, 0.9) and (0.4, 0.4).

    The third is best alone (0.916 against 1.204). Then the first and the second are added in turns, since each pair
    brings the mean nearer to (0.5, 0.5): after 25 rounds, (12, 12, 1).
    """
    of_label = np.array([[0.9, 0.1], [0.1, 0.9], [0.4, 0.4]])
    members = [np.stack([row, 1 - row], axis=1) for row in of_label]
    labels = np.zeros(2, int)
    assert ensemble.select(members, labels, PROBABILITIES) == (12, 12, 1)
    assert ensemble.select([members[2], members[2]], labels, PROBABILITIES) == (1, 0)  # more of the same gains nothing
    assert ensemble.select(members[:1], labels, LOGITS) == (1,)


@pytest.mark.parametrize("mean", [PROBABILITIES, LOGITS])
def test_each_round_adds_the_member_with_the_lowest_cross_entropy(mean: str) -> None:
    from sklearn.metrics import log_loss

    generator = np.random.default_rng(3)
    labels = generator.integers(0, 4, 60)
    members = [generator.dirichlet(np.ones(4), 60) * 0.4 + 0.6 * np.eye(4)[labels] for _ in range(4)]
    members[1] = members[1][generator.permutation(60)]  # it knows nothing of these labels
    weights, best, lowest = np.zeros(4, int), np.zeros(4, int), np.inf
    for _ in range(ensemble.ROUNDS):
        tried = [np.exp(ensemble.log_mean(members, (weights + one).tolist(), mean)) for one in np.eye(4, dtype=int)]
        losses = [log_loss(labels, one / one.sum(axis=1, keepdims=True), labels=range(4)) for one in tried]
        weights[np.argmin(losses)] += 1
        if min(losses) < lowest - 1e-12:
            lowest, best = min(losses), weights.copy()
    assert ensemble.select(members, labels, mean) == tuple(best)
    assert best[1] == 0


def test_diversity_by_hand() -> None:
    labels = np.array([0, 0, 0, 0])
    predicted = [np.array([0, 0, 1, 1]), np.array([0, 0, 1, 2]), np.array([1, 1, 0, 0]), np.array([0, 0, 0, 0])]
    found = ensemble.diversity(predicted, labels)
    assert found.disagreement[0].tolist() == [0, 0.25, 1, 0.5]
    assert found.error_correlation[0, :3] == pytest.approx([1, 1, -1])  # wrong on the same, and on the other images
    assert np.isnan(found.error_correlation[0, 3])  # it makes no errors
    assert found.mean_error_correlation == pytest.approx((1 - 1 - 1) / 3)
    assert found.mean_disagreement == pytest.approx((0.25 + 1 + 0.5 + 1 + 0.5 + 0.5) / 6)
    alone = ensemble.diversity(predicted[:1], labels)
    assert alone.mean_disagreement is None and alone.mean_error_correlation is None


def predictions(labels: Sequence[int], right: Sequence[float], classes: str = "ab") -> pd.DataFrame:
    """Predictions of two classes, from the probability of each true class."""
    of_label = np.array(right, np.float32)
    first = np.where(np.array(labels) == 0, of_label, 1 - of_label)
    values = np.stack([first, 1 - first], axis=1)
    columns = {"index": range(len(labels)), "label": np.uint8(labels), "predicted": values.argmax(1).astype(np.uint8)}
    return pd.DataFrame(columns | {f"p_{name}": values[:, at] for at, name in enumerate(classes)})


def build(store: Store, runs: Sequence[Run], select: bool | None = None) -> Ensemble:
    return ensemble_result.build(ensemble_members.read(store, runs), PROBABILITIES, select)


def accuracy(evaluation: Evaluation) -> float:
    return float((evaluation.predicted == evaluation.labels).mean())


LABELS = [0, 1, 0, 1]


def test_best_member_and_weights_are_chosen_on_the_validation_images(
    own_store: Store, log_predicted: LogPredicted
) -> None:
    good, bad = [0.9, 0.9, 0.9, 0.9], [0.3, 0.3, 0.3, 0.3]
    lucky = log_predicted("lucky", predictions(LABELS, good), predictions(LABELS, bad))
    able = log_predicted("able", predictions(LABELS, [0.9, 0.9, 0.4, 0.4]), predictions(LABELS, good))
    made = build(own_store, [lucky, able])
    assert made.selected and made.weights == (0, 1) and made.members[0].name == "able"
    assert made.best and made.best.name == "able"
    assert made.validation and (accuracy(made.test), accuracy(made.validation)) == (0.5, 1.0)
    assert made.gain and (made.gain.difference, made.gain.only_a) == (0.0, 0)
    given = build(own_store, [lucky, able], select=False)
    assert given.weights == (1, 1) and not given.selected and accuracy(given.test) == 1.0
    assert given.gain and (given.gain.a, given.gain.difference, given.gain.p_value) == ("able", 0.5, 0.5)
    assert "able has the best validation accuracy. The ensemble is better than able by 0.5000" in given.sentences[1]
    assert list(given.table.frame["validation/accuracy"]) == [0.0, 1.0]


@pytest.mark.parametrize(
    ("second", "params", "reason"),
    [
        (None, {}, r"run \w{32} \(b\) has no evaluation/predictions_validation.parquet"),
        ([1, 0, 0, 1], {}, "the members were validated on different images"),
        (LABELS, {"data.validation": "test"}, r"run \w{32} \(b\) was validated on the test images"),
    ],
    ids=["without validation predictions", "other images", "validated on the test images"],
)
def test_members_that_cannot_be_chosen_are_taken_as_given(
    own_store: Store, log_predicted: LogPredicted, second: list[int] | None, params: dict[str, str], reason: str
) -> None:
    right = [0.9, 0.8, 0.7, 0.6]
    test = predictions(LABELS, right)
    runs = [
        log_predicted("a", test, predictions(LABELS, right)),
        log_predicted("b", test, predictions(second, right) if second else None, **params),
    ]
    made = build(own_store, runs)
    assert made.weights == (1, 1) and made.validation is None and re.search(reason, made.remark)
    assert any("taken as given, with equal weights" in sentence for sentence in made.sentences)
    with pytest.raises(UserError, match=f"^--select: {reason}"):
        build(own_store, runs, select=True)


def test_runs_that_do_not_fit_together_are_named(own_store: Store, log_predicted: LogPredicted) -> None:
    usual = predictions(LABELS, [0.9] * 4)
    first = log_predicted("first", usual)
    others = {
        "tested on different images: their label differs": predictions([1, 1, 0, 1], [0.9] * 4),
        "have different classes": predictions(LABELS, [0.9] * 4, "ac"),
        "holds values that are no probabilities": usual.assign(p_a=np.float32(0.4)),
    }
    for message, frame in others.items():
        other = log_predicted("other", frame)
        with pytest.raises(UserError, match=rf"{other.info.run_id}.* {message}"):
            build(own_store, [first, other])
    with pytest.raises(UserError, match=r"has no evaluation/predictions\.parquet"):
        ensemble_members.read(own_store, [first, own_store.client.create_run(own_store.experiment_id)])


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{}",
        '{"mean": "median", "weights": [1], "classes": ["a"]}',
        '{"mean": "logits", "weights": [0], "classes": ["a"]}',
        f'{{"mean": "logits", "weights": [{10**400}], "classes": ["a"]}}',
    ],
)
def test_a_recipe_that_is_none_is_refused(content: str) -> None:
    with pytest.raises(UserError, match=r"here: ensemble\.json is not the recipe of an ensemble"):
        Recipe.parse(content, "here")


def test_a_real_ensemble_is_logged_served_reviewed_and_promoted(
    own_store: Store, log_trained: LogTrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.chdir(tmp_path)
    runs = [log_trained(name) for name in ("weak", "averaged", "twin")]
    made = build(own_store, runs, select=False)
    assert made.validation is not None and ensemble_result.build(made.candidates, PROBABILITIES, None).selected
    single = [run_predictions.read(own_store, run).filter(like="p_").to_numpy() for run in runs]
    mean = np.mean(single, axis=0)
    assert np.allclose(made.test.probabilities, mean, atol=1e-6)
    run_id = ensemble_run.log(own_store, made, tmp_path / "run", "three")
    run = own_store.client.get_run(run_id)
    tags, metrics = run.data.tags, run.data.metrics
    assert ensemble_run.members(run) == {one.info.run_id: 1 for one in runs} and ensemble_run.members(runs[0]) == {}
    assert (run.info.status, tags["cifar_exp.outcome"], tags["cifar_exp.kind"]) == ("FINISHED", "completed", "ensemble")
    assert metrics["test/accuracy"] == pytest.approx((mean.argmax(axis=1) == DIGITS.labels).mean())
    assert metrics["test/loss"] == pytest.approx(-np.log(mean[np.arange(len(mean)), DIGITS.labels]).mean(), rel=1e-5)
    assert metrics["test/ece"] > 0 and metrics["val/temperature"] > 0 and "test/ece_scaled" in metrics
    assert metrics["model/parameters"] == sum(one.data.metrics["model/parameters"] for one in runs)
    assert run_predictions.test_digest(run) == run_predictions.test_digest(runs[0]) is not None
    assert ensemble_run.find(own_store, made).info.run_id == run_id  # type: ignore[union-attr]

    predicted = run_predictions.read(own_store, run)
    assert np.allclose(predicted.filter(like="p_"), mean, atol=1e-6)
    classifier = logged_model.from_run(own_store, run)
    assert classifier.classes == tuple("0123456789")
    assert np.allclose(logged_model.probabilities(own_store, classifier, DIGITS.images), mean, atol=1e-5)
    hot = logged_model.probabilities(own_store, classifier, DIGITS.images[:40], 2.0)
    assert np.allclose(hot, np.sqrt(mean[:40]) / np.sqrt(mean[:40]).sum(axis=1, keepdims=True), atol=1e-4)
    with own_store.as_default():
        served = mlflow.pyfunc.load_model(f"models:/{classifier.model_id}")
    assert np.allclose(served.predict(DIGITS.images[:40]), mean[:40], atol=1e-5)

    verdicts.give(own_store, run, verdicts.APPROVED, "bob", even_though="a test")
    promoted = promotion.promote(own_store, own_store.client.get_run(run_id), "many", "champion", "bob")
    assert (promoted.version, promoted.run_name) == ("1", "three")
    assert logged_model.from_uri(own_store, "models:/many@champion").recipe is not None
    with pytest.raises(UserError, match=r"run \w{32} \(three\) is an ensemble itself: name its members"):
        ensemble_run.log(own_store, build(own_store, [run, runs[0]], select=False), tmp_path / "other", "nested")
    with pytest.raises(UserError, match=r"^run three \(\w{32}\) is an ensemble of several networks: name one of its"):
        reproduce.read(own_store, run_id)
    _no_code_runs(own_store, classifier, mean, tmp_path)


def _no_code_runs(store: Store, classifier: logged_model.Classifier, mean: np.ndarray, folder: Path) -> None:
    """Files of the logged model that could name code are changed; none of them is obeyed."""
    model = store.client.get_logged_model(classifier.model_id)
    root = Path(model.artifact_location.removeprefix("file://"))
    assert not list(root.rglob("*.pkl")) and not list(root.rglob("*.py"))
    data = root / "data" / "ensemble"
    evil = {"module": "os", "class_name": "system", "config": {"command": "touch pwned"}, "registered_name": "x"}
    rewrite(data / "0" / "model.keras", "config.json", lambda _: json.dumps(evil).encode())
    assert np.allclose(logged_model.probabilities(store, classifier, DIGITS.images[:8]), mean[:8], atol=1e-5)
    config = (data / "1" / "config.yaml").read_text()
    (data / "1" / "config.yaml").write_text(config.replace("Flatten", "Lambda"))
    with pytest.raises(UserError, match=r"member 1.*Lambda"):
        logged_model.probabilities(store, classifier, DIGITS.images[:8])
    (data / "1" / "config.yaml").write_text(
        config.replace("classes: 10", "classes: 3").replace("units: 10", "units: 3")
    )
    with pytest.raises(UserError, match="member 1 has 3 classes, and the ensemble 10"):
        logged_model.probabilities(store, classifier, DIGITS.images[:8])
    assert not list(folder.rglob("pwned"))


def test_a_member_without_a_model_is_named(own_store: Store, log_predicted: LogPredicted, tmp_path: Path) -> None:
    test = predictions(LABELS, [0.9] * 4)
    made = build(own_store, [log_predicted("a", test), log_predicted("b", test)])
    with pytest.raises(UserError, match=r"^run \w{32} \(a, FINISHED\) logged no model$"):
        ensemble_run.log(own_store, made, tmp_path, "x")


def test_a_file_that_a_run_does_not_have_is_told_from_one_that_cannot_be_read(
    own_store: Store, log_predicted: LogPredicted
) -> None:
    run = log_predicted("a", predictions(LABELS, [0.9] * 4))
    with pytest.raises(fetch.Missing):
        fetch.file(own_store, run, run_predictions.VALIDATION_PREDICTIONS, 10)
    with pytest.raises(UserError, match="at most 10 are read") as refused:
        fetch.file(own_store, run, run_predictions.PREDICTIONS, 10)
    assert not isinstance(refused.value, fetch.Missing)
    with pytest.raises(UserError, match="evaluation is a folder, expected a file"):
        fetch.file(own_store, run, "evaluation", 10)
