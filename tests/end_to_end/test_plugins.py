"""A package that adds a data set and a layer: both are used by name; without it, its runs say what they need."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import program
import pytest
from mlflow.tracking import MlflowClient

PLUGIN = Path(__file__).parents[1] / "plugin"
LAYERS = "model.layers=[{Scale:{initial:2.0}},Flatten,{Dense:{units:'${data.classes}'}}]"
QUICK = ("model=dense", "training.epochs=2", "tracking.system_metrics=false", "training.device=cpu")
PREDICT = """
import sys, mlflow, numpy as np, pandas as pd
run = mlflow.get_run(sys.argv[1])
model = mlflow.pyfunc.load_model(f"models:/{run.outputs.model_outputs[0].model_id}")
answers = model.predict(np.zeros((2, 12, 16, 1), np.uint8))
print(model.metadata.signature.inputs.inputs[0].shape, np.asarray(answers).shape)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed package."""
    folder, source = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("source") / "flowers"
    shutil.copytree(PLUGIN, source)  # the build leaves files beside it
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", folder, "--no-deps"]
    subprocess.run([*install, "--no-build-isolation", source], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def trained(site: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder and the id of a run that uses the package."""
    folder = tmp_path_factory.mktemp("trained")
    done = run(folder, "cifar_exp", "data=flowers", LAYERS, *QUICK, site=site)
    assert done.returncode == 0, done.stderr
    assert "(chance 0.3333)" in done.stdout
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    (found,) = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    return folder, found.info.run_id


def run(folder: Path, module: str, *arguments: str, site: Path | None = None) -> subprocess.CompletedProcess[str]:
    return program.execute([sys.executable, "-m", module, *arguments], folder, paths(site), seconds=600)


def paths(site: Path | None) -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join(map(str, filter(None, [program.ROOT, site])))}


def test_a_run_uses_its_data_set_and_its_layer(trained: tuple[Path, str]) -> None:
    folder, run_id = trained
    logged = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").get_run(run_id)
    packages = {"cifar_exp.datasets/flowers": "flowers 1.2", "cifar_exp.layers/Scale": "flowers 1.2"}
    assert json.loads(logged.data.tags["cifar_exp.packages"]) == packages
    assert logged.data.metrics["test/support/tulip"] == 10
    assert logged.data.metrics["model/parameters"] == 1 + 12 * 16 * 3 + 3


def test_its_logged_model_takes_its_images(trained: tuple[Path, str], site: Path) -> None:
    folder, run_id = trained
    variables = paths(site) | {"MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}
    command = [sys.executable, "-c", f"import flowers.layers\n{PREDICT}", run_id]
    done = program.execute(command, folder, variables, seconds=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("(-1, 12, 16, 1) (2, 3)")


def test_a_wrong_argument_of_its_layer_is_refused_before_keras_is_imported(site: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "cifar_exp", "data=flowers", LAYERS.replace("initial", "inital"), *QUICK, site=site)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "layer 1 (Scale): no argument 'inital'; did you mean 'initial'?" in done.stderr


def test_its_values_are_explained_by_its_name(site: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "cifar_exp", "data=flowers", "--explain-config", "-p", "data.name", site=site)
    assert (done.returncode, done.stderr) == (0, "")
    assert "name: flowers  # flowers 1.2" in done.stdout


def test_without_the_package_a_reproduction_says_which_it_needs(trained: tuple[Path, str]) -> None:
    folder, run_id = trained
    done = run(folder, "cifar_exp.cli", "reproduce", run_id)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert (
        "needs the data set 'flowers' of flowers 1.2, which is not installed here: pip install flowers" in done.stderr
    )
    unknown = run(folder, "cifar_exp", "data=flowers", *QUICK)
    assert unknown.returncode == 2 and "data 'flowers' not found" in unknown.stderr
