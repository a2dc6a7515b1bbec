"""Artifacts of a run: its inputs, its curves, and the results of its evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import yaml

from cifar_exp.config.schema import Config
from cifar_exp.data import analysis
from cifar_exp.data.schema import user_path
from cifar_exp.data.splits import Split, Splits
from cifar_exp.tracking import environment
from cifar_exp.tracking.run import Run
from cifar_exp.training import runtime

if TYPE_CHECKING:
    from cifar_exp.config.architecture import LayerRow
    from cifar_exp.evaluation.calibration import Floats
    from cifar_exp.evaluation.scores import Evaluation, Results
    from cifar_exp.training.fit import History


def log_inputs(run: Run, config: Config, overrides: Sequence[str], splits: Splits, summary: str) -> None:
    """Write what the run starts from, and begin to upload it."""
    run.write("config/config.yaml", yaml.safe_dump(_composable(config), sort_keys=False))
    run.write("config/overrides.yaml", yaml.safe_dump(list(overrides)))
    run.write("config/environment.txt", environment.describe(runtime.backend(), runtime.device(), runtime.driver()))
    run.write("model/summary.txt", summary)
    if splits.files:
        run.write("data/splits.parquet", splits.files.to_parquet())
    lists = {"exclude": config.data.exclude, "relabel": config.data.relabel}
    for name, file in lists.items():
        if file:
            run.write(f"data/{name}.csv", user_path(file, name).read_bytes())
    if splits.files or any(lists.values()):
        run.upload("data")
    run.upload("config")
    run.log_datasets(
        config.data.name,
        splits.source,
        {"training": splits.training, "validation": splits.validation, "test": splits.test},
    )


def draw_inputs(run: Run, config: Config, splits: Splits, rows: list[LayerRow]) -> None:
    """Draw the model and samples of the images, and report on the data; begin to upload these."""
    from cifar_exp.evaluation import data_page, diagram, image_grids, style
    from cifar_exp.training import examples

    title = f"{config.model.name}: {sum(row.parameters for row in rows):,} parameters"
    run.write("model/diagram.svg", style.to_svg(diagram.diagram(rows, title)))
    images, labels = splits.training.images, splits.training.labels
    changed = examples.changed(images[:10], config.augmentation, config.seed)
    first = 20 if changed is None else 10  # so that the figure does not become higher than a screen
    samples = image_grids.samples(images, labels, splits.classes, first, changed=changed)
    run.write("figures/samples.png", style.to_png(samples))
    run.upload("model", "figures")
    parts = analysis.parts_of(splits)
    found = analysis.analyse(config.data.name, parts, splits.classes, splits.source, splits.files)
    files = analysis.of_files(config.data, splits.files)
    run.write("data/report.json", json.dumps(analysis.report(found, files), indent=2))
    run.write("data/report.html", data_page.render(found, parts, files))
    run.upload("data")


def draw_curves(run: Run, name: str, history: History) -> None:
    """Draw the curves of the training."""
    from cifar_exp.evaluation import plots, style

    run.write("figures/curves.png", style.to_png(plots.curves(history, name)))


def log_results(run: Run, name: str, splits: Splits, results: Results) -> None:
    """Write predictions, scores and figures of the evaluation, and begin to upload them."""
    run.write("evaluation/predictions.csv", results.test.submission().to_csv(index=False))
    run.write("evaluation/predictions_validation.parquet", results.validation.predictions().to_parquet(index=False))
    log_evaluation(
        run,
        f"{name}: test images",
        splits.test,
        results.test,
        results.scaled,
        results.temperature,
        results.calibration(),
    )


def log_evaluation(
    run: Run,
    title: str,
    split: Split,
    evaluation: Evaluation,
    scaled: Floats | None,
    temperature: float,
    calibration: Mapping[str, Any],
) -> None:
    """Write predictions, scores and figures of a split, and begin to upload them.

    Args:
        run: receives them.
        title: of the figures.
        split: the images.
        evaluation: the predictions for them.
        scaled: their probabilities after temperature scaling, (N, C); None if these are not to be shown.
        temperature: of the scaling.
        calibration: what is known of the calibration.
    """
    from cifar_exp.evaluation import calibration_plot, image_grids, mistakes, plots, style

    labels, probabilities, classes = evaluation.labels, evaluation.probabilities, evaluation.classes
    matrix = {"classes": list(classes), "matrix": evaluation.confusion_matrix.tolist()}
    run.write("evaluation/confusion_matrix.json", json.dumps(matrix))
    run.write("evaluation/classification_report.json", json.dumps(evaluation.report, indent=2))
    run.write("evaluation/calibration.json", json.dumps(calibration, indent=2))
    run.write("evaluation/predictions.parquet", evaluation.predictions().to_parquet(index=False))
    drawings = {
        "confusion_matrix": plots.confusion_matrix(evaluation.confusion_matrix, classes, title),
        "predictions": image_grids.predictions(split.images, labels, probabilities, classes),
        "calibration": calibration_plot.calibration(labels, probabilities, scaled, temperature, title),
    }
    for name, figure in drawings.items():
        run.write(f"figures/{name}.png", style.to_png(figure))
    if (wrong := mistakes.chosen(labels, evaluation.predicted)).size:
        run.write("figures/mistakes.png", mistakes.sheet(split.images, wrong))
    run.upload("evaluation", "figures")


def _composable(config: Config) -> dict[str, Any]:
    """Convert the config to plain containers in the format of conf/, so that it can be composed again."""
    from cifar_exp.config.layers import to_entries

    content = asdict(config)
    content["model"] = {"name": config.model.name, **config.model.knobs, "layers": to_entries(config.model.layers)}
    return content
