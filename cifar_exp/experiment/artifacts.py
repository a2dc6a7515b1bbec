"""Artifacts of a run: its inputs, its curves, and the results of its evaluation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from cifar_exp.config.schema import Config
from cifar_exp.data import analysis
from cifar_exp.data.datasets import Splits
from cifar_exp.tracking import environment
from cifar_exp.tracking.run import Run
from cifar_exp.training import runtime

if TYPE_CHECKING:
    from cifar_exp.config.architecture import LayerRow
    from cifar_exp.evaluation.scores import Results
    from cifar_exp.training.fit import History


def log_inputs(run: Run, config: Config, overrides: Sequence[str], splits: Splits, summary: str) -> None:
    """Write what the run starts from, and begin to upload it."""
    run.write("config/config.yaml", yaml.safe_dump(_composable(config), sort_keys=False))
    run.write("config/overrides.yaml", yaml.safe_dump(list(overrides)))
    run.write("config/environment.txt", environment.describe(runtime.backend(), runtime.device()))
    run.write("model/summary.txt", summary)
    if splits.files:
        run.write("data/splits.parquet", splits.files.to_parquet())
    lists = {"exclude": config.data.exclude, "relabel": config.data.relabel}
    for name, file in lists.items():
        if file:
            run.write(f"data/{name}.csv", Path(file).expanduser().read_bytes())
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

    title = f"{config.model.name}: {sum(row.parameters for row in rows):,} parameters"
    run.write("model/diagram.svg", style.to_svg(diagram.diagram(rows, title)))
    samples = image_grids.samples(splits.training.images, splits.training.labels, splits.classes)
    run.write("figures/samples.png", style.to_png(samples))
    run.upload("model", "figures")
    parts = analysis.parts_of(splits)
    found = analysis.analyse(config.data.name, parts, splits.classes, splits.source, splits.files)
    files = analysis.of_files(config.data, found["sha256"])
    run.write("data/report.json", json.dumps(analysis.report(found, files), indent=2))
    run.write("data/report.html", data_page.render(found, parts, files))
    run.upload("data")


def draw_curves(run: Run, name: str, history: History) -> None:
    """Draw the curves of the training."""
    from cifar_exp.evaluation import plots, style

    run.write("figures/curves.png", style.to_png(plots.curves(history, name)))


def log_results(run: Run, name: str, splits: Splits, results: Results) -> None:
    """Write predictions, scores and figures of the evaluation, and begin to upload them."""
    from cifar_exp.evaluation import calibration_plot, image_grids, plots, style

    test, where = results.test, f"{name}: test images"
    matrix = {"classes": list(test.classes), "matrix": test.confusion_matrix.tolist()}
    run.write("evaluation/confusion_matrix.json", json.dumps(matrix))
    run.write("evaluation/classification_report.json", json.dumps(test.report, indent=2))
    run.write("evaluation/calibration.json", json.dumps(results.calibration(), indent=2))
    run.write("evaluation/predictions.parquet", test.predictions().to_parquet(index=False))
    run.write("evaluation/predictions.csv", test.submission().to_csv(index=False))
    run.write("evaluation/predictions_validation.parquet", results.validation.predictions().to_parquet(index=False))
    drawings = {
        "confusion_matrix": plots.confusion_matrix(test.confusion_matrix, test.classes, where),
        "predictions": image_grids.predictions(splits.test.images, test.labels, test.probabilities, test.classes),
        "calibration": calibration_plot.calibration(
            test.labels, test.probabilities, results.scaled, results.temperature, where
        ),
    }
    for name_of_figure, figure in drawings.items():
        run.write(f"figures/{name_of_figure}.png", style.to_png(figure))
    run.upload("evaluation", "figures")


def _composable(config: Config) -> dict[str, Any]:
    """Convert the config to plain containers in the format of conf/, so that it can be composed again."""
    from cifar_exp.config.architecture import to_entries

    content = asdict(config)
    content["model"] = {"name": config.model.name, **config.model.knobs, "layers": to_entries(config.model.layers)}
    return content
