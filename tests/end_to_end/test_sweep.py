"""Tests of a sweep of four runs on the handwritten digits, and on CIFAR-10 with few training and 10,000 test images."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import checks
import numpy as np
import program
import pytest
import run_checks
from checks import DIGITS, Data, Sweep

from cifar_exp.data import datasets
from cifar_exp.data.schema import DataConfig

CIFAR10 = Data(
    "cifar10",
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    sizes={"training": 1_000, "validation": 1_000, "test": 10_000},
    weights={"one_conv": 462_410, "bn": 685_354},
)
RUNS = [(data.name, name) for data in (DIGITS, CIFAR10) for name in data.names]
each_run = pytest.mark.parametrize(("sweep", "name"), RUNS, indirect=["sweep"])


@pytest.fixture(scope="module")
def folder() -> Path:
    """Folder of the CIFAR-10 images."""
    named = Path(os.environ.get("CIFAR_EXP_DATA") or "nowhere")
    for folder in (named / "cifar-10-batches-bin", named):
        if (folder / "test_batch.bin").exists():
            return folder.resolve()
    pytest.skip("CIFAR_EXP_DATA names no folder with CIFAR-10 images")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    place = tmp_path_factory.mktemp("digits")
    return Sweep.read(place, program.run(place, *DIGITS.sweep), DIGITS)


@pytest.fixture(scope="module")
def cifar10(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    place = tmp_path_factory.mktemp("cifar10")
    validated = ("data.verify=size", "data.validation_share=0.02")
    done = program.run(place, *CIFAR10.sweep, *validated, CIFAR_EXP_DATA=str(folder))
    return Sweep.read(place, done, CIFAR10)


@pytest.fixture(scope="module", params=["digits", "cifar10"])
def sweep(request: pytest.FixtureRequest) -> Sweep:
    found: Sweep = request.getfixturevalue(request.param)
    return found


def test_four_runs_finish_under_one_parent(sweep: Sweep) -> None:
    checks.sweep_is_complete(sweep)


def test_terminal_shows_progress_then_one_table_then_the_address(sweep: Sweep) -> None:
    checks.terminal_tells_the_story(sweep)


def test_parent_holds_the_results_of_its_jobs(sweep: Sweep) -> None:
    checks.parent_holds_the_results(sweep)


def test_parameters_have_the_same_keys_in_every_run(sweep: Sweep) -> None:
    checks.parameters_line_up(sweep)


@each_run
def test_metrics_are_whole(sweep: Sweep, name: str) -> None:
    run_checks.metrics_are_whole(sweep, name)


@each_run
def test_tags_are_whole(sweep: Sweep, name: str) -> None:
    run_checks.tags_are_whole(sweep, name)


@each_run
def test_datasets_are_recorded(sweep: Sweep, name: str) -> None:
    run_checks.datasets_are_recorded(sweep, name)


@each_run
def test_artifacts_are_whole(sweep: Sweep, name: str) -> None:
    run_checks.artifacts_are_whole(sweep, name)


@each_run
def test_evaluation_agrees_with_itself(sweep: Sweep, name: str) -> None:
    run_checks.evaluation_agrees_with_itself(sweep, name)


@each_run
def test_model_is_packaged(sweep: Sweep, name: str) -> None:
    run_checks.model_is_packaged(sweep, name)


def test_logged_models_predict_the_same_in_a_fresh_process(digits: Sweep, tmp_path: Path) -> None:
    images = datasets.load(DataConfig(name="digits")).test.images
    run_checks.fresh_process_predicts_the_same(digits, images, tmp_path, *DIGITS.names)


def test_datasets_name_a_source_that_mlflow_can_read(sweep: Sweep) -> None:
    import mlflow.data

    for run in sweep.children.values():
        for entry in run.inputs.dataset_inputs:
            assert mlflow.data.get_source(entry.dataset).to_dict()


def _test_images(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read test images and labels from the file: one label byte, then the red, green and blue planes."""
    records = np.fromfile(folder / "test_batch.bin", np.uint8).reshape(10_000, 3073)
    return np.ascontiguousarray(records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), records[:, 0].copy()


def test_a_model_of_real_images_predicts_the_same_in_a_fresh_process(
    cifar10: Sweep, folder: Path, tmp_path: Path
) -> None:
    run_checks.fresh_process_predicts_the_same(cifar10, _test_images(folder)[0], tmp_path, "bn-sgd")


def test_logged_labels_equal_those_of_the_file(cifar10: Sweep, folder: Path) -> None:
    assert np.array_equal(cifar10.predictions("one_conv-adam")["label"], _test_images(folder)[1])


def test_the_logged_digest_is_that_of_the_file_and_unofficial_images_are_named_so(cifar10: Sweep, folder: Path) -> None:
    (dataset,) = (
        entry.dataset
        for entry in cifar10.children["one_conv-sgd"].inputs.dataset_inputs
        if entry.dataset.name == "cifar10-test"
    )
    images, labels = _test_images(folder)
    assert json.loads(dataset.profile)["sha256"] == hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    official = (folder / "md5sums.txt").exists()  # left by unpacking the official archive
    assert ("not the official release" in dataset.source) != official
