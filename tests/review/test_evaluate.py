"""Evaluations of logged models: on the images of their run and on others, logged beside the run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cifar_exp.analysis import evaluate
from cifar_exp.analysis.evaluate import Request
from cifar_exp.commands import evaluate as command
from cifar_exp.data import datasets
from cifar_exp.data.schema import DataConfig
from cifar_exp.errors import UserError
from cifar_exp.review import evaluations, logged_model, query, queue, report, verdicts
from cifar_exp.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

LogTrained = Callable[..., "Run"]
TEST = datasets.load(DataConfig(name="digits")).test


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluations write to the current folder."""
    monkeypatch.chdir(tmp_path)


def artifact(run: Run, name: str) -> Path:
    """Local path of an artifact."""
    return Path(run.info.artifact_uri.removeprefix("file://")) / name


def save_images(folder: Path, count: int, name_of: Callable[[int], str] = str) -> None:
    """Save the first test images as a folder with a folder for each class."""
    for index in range(count):
        path = folder / name_of(int(TEST.labels[index])) / f"{index:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(TEST.images[index])).save(path)


def test_an_evaluation_repeats_the_results_of_the_run_and_leaves_the_run_as_it_was(
    own_store: Store, log_trained: LogTrained
) -> None:
    run = log_trained("strong")
    approved = verdicts.give(own_store, run, verdicts.APPROVED, "bob")
    evaluated = evaluate.evaluate(own_store, approved, Request())
    for name in ("accuracy", "loss", "f1_macro", "ece", "recall/3"):
        assert evaluated.metrics[f"evaluation/{name}"] == pytest.approx(run.data.metrics[f"test/{name}"], abs=1e-6)
    low, high = evaluated.metrics["evaluation/accuracy_low"], evaluated.metrics["evaluation/accuracy_high"]
    assert 0 < low < evaluated.metrics["evaluation/accuracy"] < high < 1
    assert evaluated.images.own is True and evaluated.images.words == "360 test images of digits"

    assert evaluated.run_id is not None
    logged = own_store.client.get_run(evaluated.run_id)
    assert logged.info.status == "FINISHED"
    assert logged.data.tags["cifar_exp.evaluates"] == logged.data.tags["mlflow.parentRunId"] == run.info.run_id
    assert logged.data.metrics == evaluated.metrics
    assert json.loads(artifact(logged, "evaluation/calibration.json").read_text())["temperature"] > 0
    same = [pd.read_parquet(artifact(one, "evaluation/predictions.parquet")) for one in (run, logged)]
    pd.testing.assert_frame_equal(*same, atol=1e-6)

    after = own_store.client.get_run(run.info.run_id)
    assert after.data.metrics == run.data.metrics
    assert not verdicts.changed_since(after, verdicts.history(after)[-1])
    assert [one.info.run_id for one in query.select(own_store)] == [run.info.run_id]
    assert queue.waiting_runs(own_store) == []
    with pytest.raises(UserError, match="is an evaluation, which has no model: review the run that it is of"):
        verdicts.check_reviewable(logged)


def test_images_of_ones_own_by_the_mean_over_each_and_its_mirror_image(
    own_store: Store, log_trained: LogTrained, tmp_path: Path
) -> None:
    run = log_trained("strong")
    save_images(tmp_path / "photos", 200)
    asked = Request("folder", (f"data.dir={tmp_path / 'photos'}", "data.duplicates=allow"), "all", tta=True)
    evaluated = evaluate.evaluate(own_store, run, asked)
    logged = pd.read_parquet(artifact(run, "evaluation/predictions.parquet"))[:200]
    classifier = logged_model.from_run(own_store, run)
    mirrored = logged_model.probabilities(own_store, classifier, TEST.images[:200, :, ::-1])
    mean = (logged.filter(like="p_").to_numpy() + mirrored) / 2
    assert len(evaluated.images.split) == 200 and evaluated.images.own is False
    assert evaluated.evaluation.accuracy == pytest.approx((logged["label"] == mean.argmax(axis=1)).mean())
    assert "These are not the images that the run was tested on." in evaluate.lines(evaluated)


def test_an_evaluation_under_attack_is_in_the_report(own_store: Store, log_trained: LogTrained) -> None:
    run = log_trained("strong")
    evaluated = evaluate.evaluate(own_store, run, Request(limit=60, tta=True, epsilons=(4, 32)))
    metrics, attacks = evaluated.metrics, evaluated.attacks
    assert attacks is not None and attacks.images == 60
    accuracies = [metrics[f"attack/accuracy/{name}"] for name in ("fgsm_4", "fgsm_32", "pgd_4", "pgd_32")]
    assert metrics["evaluation/accuracy"] > accuracies[0] > accuracies[1] and accuracies[2] > accuracies[3]
    logged = own_store.client.get_run(str(evaluated.run_id))
    assert logged.data.metrics == metrics
    assert list(pd.read_csv(artifact(logged, "attacks/accuracies.csv"))["accuracy"]) == pytest.approx(accuracies)
    for name in ("accuracies", "example"):
        assert artifact(logged, f"attacks/{name}.png").read_bytes().startswith(b"\x89PNG")

    other = log_trained("weak")
    (found,) = evaluations.of_runs(own_store, [other, run])
    assert found.of == run.info.run_id and found.run_id == logged.info.run_id
    assert found.images == "60 test images of digits, mean with the mirror image"
    assert found.interval == (metrics["evaluation/accuracy_low"], metrics["evaluation/accuracy_high"])
    assert found.attacks_in_words.startswith(f"FGSM 4/255: {accuracies[0]:.4f}, 32/255: {accuracies[1]:.4f}; PGD")
    page = report.from_store(own_store, [other, run], "Two runs")
    assert '<section id="evaluations">' in page and found.images in page
    assert "PGD\n32/255" in page and f">{accuracies[3]:.4f}<" in page
    assert '<section id="evaluations">' not in report.from_store(own_store, [other], "One run")


@pytest.mark.parametrize("words", ["0", "256", "1,x", "", "2.5"])
def test_epsilons_that_are_none_are_refused(words: str) -> None:
    with pytest.raises(UserError, match=r"--epsilons: got .*, expected whole numbers from 1 to 255"):
        command.epsilons(words)


@pytest.mark.parametrize(
    ("name_of", "settings", "message"),
    [
        (lambda label: f"digit {label}", (), "class 'digit 0' is not one of run weak"),
        (lambda label: str(label // 2), (), "there are no images of class '5' of run weak"),
        (str, ("data.size=[16,16]",), r"16 x 16 x 3, and run weak .* takes 32 x 32 x 3; data.size=\[32,32\]"),
        (str, ("data.color_mode=grayscale",), "32 x 32 x 1, and run weak"),
        (str, ("optimizer.name=sgd",), "only settings of the images can be changed"),
    ],
)
def test_images_that_do_not_fit_are_refused(
    own_store: Store,
    log_trained: LogTrained,
    tmp_path: Path,
    name_of: Callable[[int], str],
    settings: tuple[str, ...],
    message: str,
) -> None:
    run = log_trained("weak")
    save_images(tmp_path / "photos", 60, name_of)
    with pytest.raises(UserError, match=message):
        evaluate.evaluate(own_store, run, Request("folder", (f"data.dir={tmp_path / 'photos'}", *settings)))
    assert len(query.search(own_store)) == 1, "nothing is logged"
