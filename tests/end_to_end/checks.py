"""Checks that every sweep must pass, on any data set; those of its runs are in run_checks.py."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import program

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

EPOCHS = 2
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
OPTIMIZERS = {"sgd": "0.01", "adam": "0.001"}  # with their learning rates
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Data:
    """Expected properties of a data set, and of the two models that are trained on it."""

    name: str
    classes: tuple[str, ...]
    sizes: Mapping[str, int]  # training, validation, test
    weights: Mapping[str, int]  # of each model

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the runs, in the order of their start."""
        return tuple(f"{model}-{optimizer}" for model in self.weights for optimizer in OPTIMIZERS)

    @property
    def sweep(self) -> tuple[str, ...]:
        """Command line of the sweep that has these runs."""
        models, optimizers = ",".join(self.weights), ",".join(OPTIMIZERS)
        images = (f"data={self.name}", f"data.train_images={self.sizes['training']}")
        return "-m", f"model={models}", f"optimizer={optimizers}", *images, f"training.epochs={EPOCHS}"


DIGITS = Data(
    "digits",
    classes=tuple("0123456789"),
    sizes={"training": 300, "validation": 144, "test": 360},
    weights={"large": 2_915_114, "bn": 685_354},
)
NAMES = DIGITS.names
SWEEP = DIGITS.sweep


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
    assert tuple(sweep.children) == sweep.data.names
    assert {run.info.status for run in sweep.children.values()} == {"FINISHED"}


def terminal_tells_the_story(sweep: Sweep) -> None:
    """The output is progress lines with the number of the job, one table and the address; libraries print nothing."""
    stdout, stderr, names = sweep.done.stdout, sweep.done.stderr, sweep.data.names
    assert stderr == ""
    assert not re.search(r"Traceback|oneDNN|cuda|cpu_feature_guard|[IWEF]\d{4} |WARNING|INFO", stdout)
    for number, name in enumerate(names, 1):
        for epoch in range(1, EPOCHS + 1):
            assert len(re.findall(rf"^\[{number}/4\] {name}  epoch {epoch}/{EPOCHS}  loss ", stdout, re.M)) == 1
    progress, header, rest = re.split(r"^( *job +name +status .*)$", stdout, maxsplit=1, flags=re.M)
    assert header and "epoch" not in rest and not re.search(r"^ *job +name", rest, re.M)
    rows = rest.split("\n\n")[0].split("\n")[1:]
    assert [row.split()[:3] for row in rows] == [[str(n), name, "FINISHED"] for n, name in enumerate(names, 1)]
    for row, name in zip(rows, names, strict=True):
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
    assert [row["name"] for row in rows] == list(sweep.data.names)
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
        assert params["optimizer.learning_rate"] == OPTIMIZERS[params["optimizer.name"]]
        assert (params["data.name"], params["training.epochs"], params["training.batch_size"], params["seed"]) == (
            sweep.data.name,
            str(EPOCHS),
            "32",
            "0",
        )
