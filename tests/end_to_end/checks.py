"""Checks that every run and every sweep must pass, on any data set."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import program

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

EPOCHS = 2
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
PARAMETERS = {
    "model.name",
    "optimizer.name",
    "optimizer.learning_rate",
    "optimizer.schedule.name",
    "data.name",
    "augmentation.name",
    "training.epochs",
    "training.batch_size",
    "seed",
}
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
NAMES = ("large-sgd", "large-adam", "bn-sgd", "bn-adam")  # of model=large,bn optimizer=sgd,adam
WEIGHTS = {"large": 2_915_114, "bn": 685_354}
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Data:
    """Expected properties of a data set."""

    name: str
    classes: tuple[str, ...]
    sizes: Mapping[str, int]  # training, validation, test


DIGITS = Data(
    "digits",
    classes=tuple("0123456789"),
    sizes={"training": 300, "validation": 144, "test": 360},
)
SWEEP = (
    *("-m", "model=large,bn", "optimizer=sgd,adam", "data=digits", "data.train_images=300"),
    f"training.epochs={EPOCHS}",
)
"""Command line of a sweep with the runs `NAMES` on the images `DIGITS`."""


@dataclass(frozen=True)
class Sweep:
    """A finished sweep of four runs: its terminal output and its runs in the store."""

    folder: Path
    done: program.Done
    client: MlflowClient
    parent: Run
    children: Mapping[str, Run]  # by name, in the order of their start
    data: Data

    @classmethod
    def read(cls, folder: Path, done: program.Done, data: Data, server: MlflowClient | None = None) -> Sweep:
        """Read the only parent run of a store, on a server or in a folder, and its children."""
        assert done.returncode == 0, done.stderr
        client = server or program.client(folder)
        runs = program.runs(client)
        (parent,) = (run for run in runs if run.data.tags.get("cifar_exp.kind") == "sweep")
        below = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
        assert len(runs) == len(below) + 1, "a run that is neither the parent nor a child of it"
        return cls(folder, done, client, parent, {run.info.run_name: run for run in below}, data)

    def artifact(self, run: Run, name: str) -> Path:
        """Download an artifact of a run."""
        return program.artifact(self.client, run.info.run_id, name, self.folder / "downloaded")

    def predictions(self, name: str) -> pd.DataFrame:
        """Read the predictions of the run with this name."""
        return pd.read_parquet(self.artifact(self.children[name], "evaluation/predictions.parquet"))


def sweep_is_complete(sweep: Sweep) -> None:
    """The sweep has one parent and four finished children with the expected names."""
    assert sweep.parent.info.status == "FINISHED"
    assert tuple(sweep.children) == NAMES
    assert {run.info.status for run in sweep.children.values()} == {"FINISHED"}


def terminal_tells_the_story(sweep: Sweep) -> None:
    """The output is progress lines with the number of the job, one table and the address; libraries print nothing."""
    stdout, stderr = sweep.done.stdout, sweep.done.stderr
    assert stderr == ""
    assert not re.search(r"Traceback|oneDNN|cuda|cpu_feature_guard|[IWEF]\d{4} |WARNING|INFO", stdout)
    for number, name in enumerate(NAMES, 1):
        for epoch in range(1, EPOCHS + 1):
            assert len(re.findall(rf"^\[{number}/4\] {name}  epoch {epoch}/{EPOCHS}  loss ", stdout, re.M)) == 1
    progress, header, rest = re.split(r"^( *job +name +status .*)$", stdout, maxsplit=1, flags=re.M)
    assert header and "epoch" not in rest and not re.search(r"^ *job +name", rest, re.M)
    rows = rest.split("\n\n")[0].split("\n")[1:]
    assert [row.split()[:3] for row in rows] == [[str(n), name, "FINISHED"] for n, name in enumerate(NAMES, 1)]
    for row, name in zip(rows, NAMES, strict=True):
        assert f"{sweep.children[name].data.metrics['test/accuracy']:.4f}" in row
    *_, start, address = stdout.rstrip().splitlines()
    assert re.search(r"mlflow ui --backend-store-uri sqlite:///mlflow\.db$", start)
    assert re.search(rf"http://127\.0\.0\.1:5000/#/experiments/{sweep.parent.info.experiment_id}/runs\?", address)
    assert f"tags.%60mlflow.parentRunId%60%20%3D%20'{sweep.parent.info.run_id}'" in address
    assert "Sweep" in progress


def parent_holds_the_results(sweep: Sweep) -> None:
    """The parent's table equals the results of its children; its description has the table and links to the curves."""
    expected = {"sweep/results.csv", "sweep/curves.png", "sweep/report.html"}
    assert program.artifacts(sweep.client, sweep.parent.info.run_id) >= expected
    assert sweep.artifact(sweep.parent, "sweep/curves.png").read_bytes().startswith(PNG)
    with sweep.artifact(sweep.parent, "sweep/results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == list(NAMES)
    for row in rows:
        run = sweep.children[row["name"]]
        assert (row["run_id"], row["status"]) == (run.info.run_id, run.info.status)
        for metric in ("test/accuracy", "test/loss", "val/best_accuracy"):
            assert float(row[metric]) == run.data.metrics[metric]
    note = sweep.parent.data.tags["mlflow.note.content"]
    for name, run in sweep.children.items():
        (line,) = (line for line in note.splitlines() if f"[{name}]" in line)
        assert run.info.run_id in line and "FINISHED" in line
        assert f"{run.data.metrics['test/accuracy']:.4f}" in line
    address = sweep.done.stdout.rstrip().splitlines()[-1].split()[-1]
    assert f"({address})" in note


def parameters_line_up(sweep: Sweep) -> None:
    """All runs have the same parameter keys, with the values of their overrides."""
    keys = {frozenset(run.data.params) for run in sweep.children.values()}
    assert len(keys) == 1 and next(iter(keys)) >= PARAMETERS
    for name, run in sweep.children.items():
        params = run.data.params
        assert f"{params['model.name']}-{params['optimizer.name']}" == name
        assert params["optimizer.learning_rate"] == {"sgd": "0.01", "adam": "0.001"}[params["optimizer.name"]]
        assert (params["data.name"], params["training.epochs"], params["training.batch_size"], params["seed"]) == (
            sweep.data.name,
            str(EPOCHS),
            "32",
            "0",
        )


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
    assert metrics["model/parameters"] == WEIGHTS[run.data.params["model.name"]]


def tags_are_whole(sweep: Sweep, name: str) -> None:
    """The run has every documented tag, and its description contains the command that started it."""
    run, tags = sweep.children[name], sweep.children[name].data.tags
    assert tags.keys() >= TAGS
    near_chance = run.data.metrics["test/accuracy"] < 0.15  # a few epochs on few images are not always enough for more
    assert tags["cifar_exp.outcome"] == "completed" or (tags["cifar_exp.outcome"] == "collapsed" and near_chance)
    assert tags["review.state"] == "unreviewed"
    assert tags["cifar_exp.sweep"] == sweep.parent.data.tags["cifar_exp.sweep"]
    assert tags["cifar_exp.job"] == str(NAMES.index(name) + 1)
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
    assert [other for other in NAMES if f"{other}  epoch" in log] == [name]
    assert "<svg" in sweep.artifact(run, "model/diagram.svg").read_text()
    assert f"{WEIGHTS[run.data.params['model.name']]:,}" in sweep.artifact(run, "model/summary.txt").read_text()


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
    import sys

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
