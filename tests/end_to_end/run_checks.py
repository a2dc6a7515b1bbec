"""Checks that every run of a sweep must pass, on any data set."""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import program
from checks import EPOCHS, PNG, Sweep

PER_EPOCH = {
    "train/loss",
    "train/objective",
    "train/accuracy",
    "val/loss",
    "val/objective",
    "val/accuracy",
    "train/learning_rate",
    "train/epoch_seconds",
    "train/images_per_second",
}
AT_THE_END = {
    "test/loss",
    "test/objective",
    "test/accuracy",
    "test/balanced_accuracy",
    "test/f1_macro",
    "val/best_accuracy",
    "val/best_epoch",
    "val/temperature",
    *(f"{split}/{score}" for split in ("val", "test") for score in ("nll", "brier", "ece", "ece_adaptive")),
    "test/ece_scaled",
    "train/seconds",
    "model/parameters",
}
PER_CLASS = ("recall", "precision", "f1", "support")
ARTIFACTS = {
    "config/config.yaml",
    "config/overrides.yaml",
    "config/environment.txt",
    "data/report.html",
    "data/report.json",
    "model/summary.txt",
    "model/diagram.svg",
    "figures/curves.png",
    "figures/confusion_matrix.png",
    "figures/calibration.png",
    "figures/predictions.png",
    "figures/mistakes.png",
    "figures/samples.png",
    "evaluation/confusion_matrix.json",
    "evaluation/classification_report.json",
    "evaluation/calibration.json",
    "evaluation/predictions.parquet",
    "evaluation/predictions_validation.parquet",
    "evaluation/predictions.csv",
    "logs/run.log",
}
TAGS = {
    "cifar_exp.sweep",
    "cifar_exp.job",
    "cifar_exp.fingerprint",
    "cifar_exp.overrides",
    "cifar_exp.git_commit",
    "cifar_exp.git_dirty",
    "cifar_exp.backend",
    "cifar_exp.device",
    "cifar_exp.outcome",
    "review.state",
    "review.by",
    "review.note",
    "mlflow.note.content",
}


def metrics_are_whole(sweep: Sweep, name: str) -> None:
    """The run has every documented metric: those per epoch at steps 1 and 2, the final ones once."""
    run = sweep.children[name]
    history = {metric: program.points(sweep.client, run.info.run_id, metric) for metric in run.data.metrics}
    for metric in PER_EPOCH:
        assert list(history[metric]) == list(range(1, EPOCHS + 1)), metric
    at_the_end = AT_THE_END | {f"test/{score}/{label}" for score in PER_CLASS for label in sweep.data.classes}
    for metric in at_the_end:
        assert len(history[metric]) == 1, metric
    others = history.keys() - PER_EPOCH - at_the_end
    assert others and all(metric.startswith("system/") for metric in others)
    assert all(np.isfinite(list(values.values())).all() for values in history.values())
    metrics, validated = run.data.metrics, history["val/accuracy"]
    assert metrics["val/best_accuracy"] == max(validated.values()) == validated[int(metrics["val/best_epoch"])]
    assert metrics["model/parameters"] == sweep.data.weights[run.data.params["model.name"]]


def tags_are_whole(sweep: Sweep, name: str) -> None:
    """The run has every documented tag, and its description contains the command that started it."""
    run, tags = sweep.children[name], sweep.children[name].data.tags
    assert tags.keys() >= TAGS
    near_chance = run.data.metrics["test/accuracy"] < 0.15  # a few epochs on few images are not always enough for more
    assert tags["cifar_exp.outcome"] == "completed" or (tags["cifar_exp.outcome"] == "collapsed" and near_chance)
    assert tags["review.state"] == "unreviewed"
    assert tags["cifar_exp.sweep"] == sweep.parent.data.tags["cifar_exp.sweep"]
    assert tags["cifar_exp.job"] == str(sweep.data.names.index(name) + 1)
    assert len({run.data.tags["cifar_exp.fingerprint"] for run in sweep.children.values()}) == len(sweep.children)
    model, optimizer = name.split("-")
    assert tags["cifar_exp.overrides"].startswith(f"model={model} optimizer={optimizer} ")
    note = tags["mlflow.note.content"]
    assert f"{run.data.metrics['test/accuracy']:.4f}" in note
    assert f"`python -m cifar_exp {tags['cifar_exp.overrides']}`" in note


def datasets_are_recorded(sweep: Sweep, name: str) -> None:
    """The run has three dataset inputs with size and SHA-256, equal in all runs."""
    inputs = {}
    for entry in sweep.children[name].inputs.dataset_inputs:
        (context,) = (tag.value for tag in entry.tags if tag.key == "mlflow.data.context")
        inputs[context] = entry.dataset
    assert inputs.keys() == {"training", "validation", "test"}
    hashes = set()
    for context, dataset in inputs.items():
        profile = json.loads(dataset.profile)
        assert re.fullmatch(r"[0-9a-f]{64}", profile["sha256"])
        assert profile["images"] == sweep.data.sizes[context]
        assert dataset.name.startswith(sweep.data.name) and json.loads(dataset.source)
        hashes.add(profile["sha256"])
    assert len(hashes) == 3
    assert {dataset.digest for dataset in inputs.values()} == {
        entry.dataset.digest for run in sweep.children.values() for entry in run.inputs.dataset_inputs
    }


def artifacts_are_whole(sweep: Sweep, name: str) -> None:
    """The run has every documented artifact, and each has the format that its name says."""
    run = sweep.children[name]
    names = program.artifacts(sweep.client, run.info.run_id)
    assert names >= ARTIFACTS
    for path in names:
        content = sweep.artifact(run, path).read_bytes()
        assert content, path
        assert content.startswith(PNG) == path.endswith(".png"), path
    log = sweep.artifact(run, "logs/run.log").read_text()
    assert all(f"{name}  epoch {epoch}/{EPOCHS}" in log for epoch in range(1, EPOCHS + 1))
    assert [other for other in sweep.data.names if f"{other}  epoch" in log] == [name]
    assert "<svg" in sweep.artifact(run, "model/diagram.svg").read_text()
    weights = sweep.data.weights[run.data.params["model.name"]]
    assert f"{weights:,}" in sweep.artifact(run, "model/summary.txt").read_text()


def evaluation_agrees_with_itself(sweep: Sweep, name: str) -> None:
    """Predictions, confusion matrix, report and metrics of a run are consistent."""
    run, classes, size = sweep.children[name], list(sweep.data.classes), sweep.data.sizes["test"]
    frame, metrics = sweep.predictions(name), run.data.metrics
    assert list(frame.columns) == ["index", "label", "predicted", *(f"p_{label}" for label in classes)]
    assert list(frame["index"]) == list(range(size))
    probabilities = frame[[f"p_{label}" for label in classes]].to_numpy()
    assert np.array_equal(probabilities.argmax(axis=1), frame["predicted"])
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5) and probabilities.min() >= 0
    with sweep.artifact(run, "evaluation/predictions.csv").open() as file:
        submitted = list(csv.reader(file))
    named = [[str(index + 1), classes[label]] for index, label in enumerate(frame["predicted"])]
    assert submitted == [["id", "label"], *named]

    stored = json.loads(sweep.artifact(run, "evaluation/confusion_matrix.json").read_text())
    matrix = np.array(stored["matrix"])
    assert stored["classes"] == classes and matrix.sum() == size
    counted = np.zeros((len(classes), len(classes)), dtype=int)
    np.add.at(counted, (frame["label"], frame["predicted"]), 1)  # rows true, columns predicted
    assert np.array_equal(matrix, counted)
    assert np.trace(matrix) / size == metrics["test/accuracy"]
    report = json.loads(sweep.artifact(run, "evaluation/classification_report.json").read_text())
    for row, label in enumerate(classes):
        assert matrix[row, row] / matrix[row].sum() == metrics[f"test/recall/{label}"] == report[label]["recall"]
        assert metrics[f"test/precision/{label}"] == report[label]["precision"]
        assert metrics[f"test/f1/{label}"] == report[label]["f1-score"]
        assert metrics[f"test/support/{label}"] == matrix[row].sum()
    assert metrics["test/f1_macro"] == report["macro avg"]["f1-score"]
    assert np.isclose(metrics["test/balanced_accuracy"], report["macro avg"]["recall"])
    validated = pd.read_parquet(sweep.artifact(run, "evaluation/predictions_validation.parquet"))
    assert list(validated.columns) == list(frame.columns) and len(validated) == sweep.data.sizes["validation"]
    last = sweep.client.get_metric_history(run.info.run_id, "val/accuracy")[-1].value
    assert np.isclose(float(np.mean(validated["label"] == validated["predicted"])), last)
    calibration = json.loads(sweep.artifact(run, "evaluation/calibration.json").read_text())
    assert calibration["temperature"] == metrics["val/temperature"]
    assert calibration["test"]["ece"] == metrics["test/ece"] and calibration["validation"]["nll"] == metrics["val/nll"]
    likelihood = probabilities[np.arange(size), frame["label"]].astype(float)
    if likelihood.min() > 1e-30:  # smaller ones are too inaccurate in float32; the loss uses logits
        assert np.isclose(-np.log(likelihood).mean(), metrics["test/loss"], rtol=1e-4)


def model_is_packaged(sweep: Sweep, name: str) -> None:
    """The logged model is named `model`, is ready, and has a signature and pinned requirements."""
    from mlflow.artifacts import download_artifacts
    from mlflow.models import Model

    run = sweep.children[name]
    (output,) = run.outputs.model_outputs
    logged = sweep.client.get_logged_model(output.model_id)
    assert (logged.name, logged.source_run_id, str(logged.status)) == ("model", run.info.run_id, "READY")
    folder = Path(download_artifacts(logged.artifact_location, tracking_uri=sweep.client.tracking_uri))
    packaged = Model.load(str(folder))
    assert packaged.signature is not None
    (images,) = packaged.signature.inputs.inputs
    assert (images.type, images.shape) == (np.dtype(np.uint8), (-1, 32, 32, 3))
    (probabilities,) = packaged.signature.outputs.inputs
    assert (probabilities.type, probabilities.shape) == (np.dtype(np.float32), (-1, len(sweep.data.classes)))
    requirements = (folder / "requirements.txt").read_text().split()
    assert {"mlflow", "keras", "numpy"} <= {line.partition("==")[0] for line in requirements}
    assert all(re.fullmatch(r"[\w.-]+==\d[\w.+]*", line) for line in requirements)


_PREDICT = """
import sys
import mlflow, numpy as np
from mlflow import MlflowClient
assert "cifar_exp" not in sys.modules
uri, images, target, *run_ids = sys.argv[1:]
mlflow.set_tracking_uri(uri)
for run_id in run_ids:
    (output,) = MlflowClient().get_run(run_id).outputs.model_outputs
    model = mlflow.pyfunc.load_model(f"models:/{output.model_id}")
    np.save(f"{target}/{run_id}.npy", model.predict(np.load(images)))
assert "cifar_exp" not in sys.modules
"""


def fresh_process_predicts_the_same(sweep: Sweep, images: np.ndarray, folder: Path, *names: str, **login: str) -> None:
    """A process that uses only MLflow and the store predicts exactly the logged probabilities."""
    np.save(folder / "images.npy", images)
    run_ids = [sweep.children[name].info.run_id for name in names]
    command = [
        sys.executable,
        "-c",
        _PREDICT,
        sweep.client.tracking_uri,
        str(folder / "images.npy"),
        str(folder),
        *run_ids,
    ]
    done = program.execute(command, folder, login | {"TF_ENABLE_ONEDNN_OPTS": "1"})
    assert done.returncode == 0, done.stderr
    for name, run_id in zip(names, run_ids, strict=True):
        logged = sweep.predictions(name)[[f"p_{label}" for label in sweep.data.classes]].to_numpy()
        assert np.array_equal(np.load(folder / f"{run_id}.npy"), logged), name
