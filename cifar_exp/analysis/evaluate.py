"""Evaluation of a logged model on the test images of its run or on others, logged beside the run."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cifar_exp.analysis import chosen_images, follow_up
from cifar_exp.analysis.chosen_images import ChosenImages
from cifar_exp.config.schema import ONE_VIEW, PredictionConfig
from cifar_exp.errors import UserError
from cifar_exp.experiment import artifacts
from cifar_exp.review import logged_model
from cifar_exp.review.logged_model import Classifier
from cifar_exp.tracking import addresses, run_tags
from cifar_exp.tracking.store import Store
from cifar_exp.training import out_of_memory

if TYPE_CHECKING:
    import keras
    from mlflow.entities import Run

    from cifar_exp.evaluation.attacks import Attacks
    from cifar_exp.evaluation.robustness import Robustness
    from cifar_exp.evaluation.scores import Evaluation
    from cifar_exp.tracking.run import Run as LoggedRun

log = logging.getLogger(__name__)

PREFIX = "evaluation"


@dataclass(frozen=True)
class Request:
    """What is asked of an evaluation.

    Attributes:
        data: name of another data set; None: the one of the run.
        overrides: settings of the data.
        part: of the data set; `test`, `validation`, `training` or `all`.
        limit: number of images to take at random, the same ones each time; None: all.
        tta: whether to average over each image and its mirror image.
        corrupt: whether to evaluate under corruptions as well.
        epsilons: of attacks under which to evaluate as well, in pixel values.
    """

    data: str | None = None
    overrides: tuple[str, ...] = ()
    part: str = "test"
    limit: int | None = None
    tta: bool = False
    corrupt: bool = False
    epsilons: tuple[int, ...] = ()


@dataclass(frozen=True)
class Evaluated:
    """An evaluation that was logged.

    Attributes:
        run_id: of the run that holds it; None if it is not in the store yet.
        address: of that run in MLflow's UI; empty if it is not in the store yet.
        name: of the model.
        images: what the model was evaluated on.
        evaluation: its predictions.
        metrics: logged name -> value.
        robustness: errors under corruptions, if they were asked for.
        attacks: results on attacked images, if they were asked for.
    """

    run_id: str | None
    address: str
    name: str
    images: ChosenImages
    evaluation: Evaluation
    metrics: dict[str, float]
    robustness: Robustness | None
    attacks: Attacks | None


def evaluate(store: Store, run: Run, request: Request) -> Evaluated:
    """Evaluate the model of a run and log the results as a run below it.

    Args:
        store: contains the run.
        run: the run.
        request: on which images, and how.

    Raises:
        UserError: if the run has no model, or the images do not fit it.
    """
    classifier = logged_model.from_run(store, run)
    prediction = classifier.config.prediction
    if request.tta:
        prediction = replace(prediction, flip=True)
    images = chosen_images.choose(store, run, classifier, request.data, request.overrides, request.part).limited(
        request.limit
    )
    temperature = _temperature(store, classifier)
    with out_of_memory.translate_errors():
        model, predictor = logged_model.load(store, classifier, prediction)
        from cifar_exp.evaluation.evaluation import evaluate_splits

        params = {"data": images.data, "part": images.part, "source": images.source, "tta": prediction != ONE_VIEW}
        with follow_up.start(store, run, run_tags.EVALUATION_KIND, params, images.words) as logged:
            logged.log_datasets(images.data, images.source, {"test": images.split})
            (evaluation,) = evaluate_splits(model, predictor, [images.split], classifier.classes)
            title = f"{run.info.run_name} on {images.words}"
            metrics = _log(logged, title, images, evaluation, temperature)
            robustness = _corrupt(logged, predictor, images, evaluation, title) if request.corrupt else None
            metrics |= robustness.metrics() if robustness else {}
            attacks = None
            if request.epsilons:
                attacks = _attack(logged, (model, predictor, prediction), images, evaluation, request.epsilons, title)
                metrics |= attacks.metrics()
            follow_up.finish(logged, _note(run, images, evaluation, prediction, robustness, attacks))
    address = addresses.run(logged.store, logged.id) if logged.id else ""
    return Evaluated(logged.id, address, classifier.name, images, evaluation, metrics, robustness, attacks)


def _log(
    logged: LoggedRun, title: str, images: ChosenImages, evaluation: Evaluation, temperature: float | None
) -> dict[str, float]:
    from cifar_exp.evaluation import calibration

    low, high = evaluation.accuracy_interval
    metrics = evaluation.metrics(PREFIX)
    metrics |= {f"{PREFIX}/{name}": value for name, value in evaluation.calibration.items()}
    metrics |= {f"{PREFIX}/accuracy_low": low, f"{PREFIX}/accuracy_high": high}
    content: dict[str, Any] = evaluation.reliability()
    scaled = None
    if temperature is not None:
        scaled = evaluation.scaled(temperature)
        metrics[f"{PREFIX}/ece_scaled"] = calibration.reliability(evaluation.labels, scaled).error
        content = {"temperature": temperature, **content}
    logged.log_metrics(metrics)
    artifacts.log_evaluation(logged, title, images.split, evaluation, scaled, temperature or 1.0, content)
    return metrics


def _corrupt(
    logged: LoggedRun, predictor: keras.Model, images: ChosenImages, evaluation: Evaluation, title: str
) -> Robustness:
    """Evaluate under corruptions, and log the errors."""
    from cifar_exp.evaluation import robustness, robustness_plot, style

    log.info("75 times %s: fifteen corruptions at five severities", images.words)
    measured = robustness.measure(predictor, images.split, 1 - evaluation.accuracy)
    logged.log_metrics(measured.metrics())
    logged.write("robustness/errors.csv", measured.table().to_csv(index=False))
    logged.write("robustness/errors.json", json.dumps(measured.as_data(), indent=2))
    logged.write("robustness/errors.png", style.to_png(robustness_plot.errors(measured, title)))
    examples = robustness_plot.examples(np.asarray(images.split.images[0]))
    logged.write("robustness/examples.png", style.to_png(examples))
    logged.upload("robustness")
    return measured


def _attack(
    logged: LoggedRun,
    models: tuple[keras.Model, keras.Model, PredictionConfig],
    images: ChosenImages,
    evaluation: Evaluation,
    epsilons: tuple[int, ...],
    title: str,
) -> Attacks:
    """Evaluate under attacks, and log the accuracies."""
    from cifar_exp.evaluation import attacks, attacks_plot, style

    log.info("%s: FGSM and PGD, each with %d epsilons", images.words, len(epsilons))
    correct = evaluation.predicted == evaluation.labels
    measured = attacks.measure(*models, images.split, correct, epsilons)
    logged.log_metrics(measured.metrics())
    logged.write("attacks/accuracies.csv", measured.table().to_csv(index=False))
    logged.write("attacks/accuracies.json", json.dumps(measured.as_data(), indent=2))
    logged.write("attacks/accuracies.png", style.to_png(attacks_plot.accuracies(measured, title)))
    if measured.example:
        shown = attacks_plot.example(measured.example, epsilons, evaluation.classes)
        logged.write("attacks/example.png", style.to_png(shown))
    logged.upload("attacks")
    return measured


def _temperature(store: Store, classifier: Classifier) -> float | None:
    """The temperature that the run has fitted on its validation images, if it has."""
    try:
        return logged_model.temperature(store, classifier)
    except UserError:
        return None


def _note(
    run: Run,
    images: ChosenImages,
    evaluation: Evaluation,
    prediction: PredictionConfig,
    robustness: Robustness | None,
    attacks: Attacks | None,
) -> str:
    low, high = evaluation.accuracy_interval
    corrupted = f" Mean corruption error {robustness.mean_error:.4f}." if robustness else ""
    attacked = ""
    if attacks:
        found = [f"{row.attack} {row.epsilon}/255: {row.accuracy:.4f}" for row in attacks.table().itertuples()]
        attacked = f" Accuracy under attack: {', '.join(found)}."
    views = ""
    if prediction != ONE_VIEW:
        mirrored = " and its mirror image" if prediction.flip else ""
        moved = f", also moved by {prediction.shift} px" if prediction.shift else ""
        views = f", mean over each image{mirrored}{moved}"
    return (
        f"**Accuracy {evaluation.accuracy:.4f}** (95 % interval {low:.4f} to {high:.4f}), loss {evaluation.loss:.4f}, "
        f"calibration error {evaluation.calibration['ece']:.4f}, of run {run.info.run_name} ({run.info.run_id}) on "
        f"{images.words}{views}.{corrupted}{attacked}"
    )


def lines(evaluated: Evaluated) -> Sequence[str]:
    """What the user is told."""
    evaluation, images = evaluated.evaluation, evaluated.images
    low, high = evaluation.accuracy_interval
    scores = evaluation.calibration
    found = [
        f"{evaluated.name} on {images.words} ({images.source})",
        f"accuracy {evaluation.accuracy:.4f} (95 % interval {low:.4f} to {high:.4f}), loss {evaluation.loss:.4f}",
        f"calibration error {scores['ece']:.4f}, Brier score {scores['brier']:.4f}",
    ]
    if (scaled := evaluated.metrics.get(f"{PREFIX}/ece_scaled")) is not None:
        found[-1] += f"; with the temperature of the run, a calibration error of {scaled:.4f}"
    if images.own is False:
        found.append("These are not the images that the run was tested on.")
    width = max(map(len, evaluation.classes))
    found.append(f"\n{'class':<{width}}  {'images':>7} {'recall':>7} {'precision':>9} {'f1':>7}")
    for name, row in zip(evaluation.classes, evaluation.of_classes.to_dict("records"), strict=True):
        scored = f"{row['recall']:7.4f} {row['precision']:9.4f} {row['f1']:7.4f}"
        found.append(f"{name:<{width}}  {row['support']:7.0f} {scored}")
    if evaluated.robustness:
        found += _robustness_lines(evaluated.robustness)
    if evaluated.attacks:
        found += _attack_lines(evaluated.attacks)
    return found


def _robustness_lines(robustness: Robustness) -> list[str]:
    mean, relative = robustness.mean_error, robustness.relative_error
    clean = f"{relative:+.4f} on the error without corruption, {robustness.clean_error:.4f}"
    table = robustness.table().to_string(index=False, float_format="{:.4f}".format)
    return [f"\nmean corruption error {mean:.4f}: {clean}", *table.splitlines()]


def _attack_lines(attacks: Attacks) -> list[str]:
    table = attacks.table().to_string(index=False, float_format="{:.4f}".format)
    heading = "accuracy under white-box attacks, with its 95 % interval; epsilon is of 255"
    return [f"\n{heading}", *table.splitlines()]
