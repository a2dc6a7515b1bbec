"""A sweep of four runs on the handwritten digits."""

from __future__ import annotations

from pathlib import Path

import checks
import program
import pytest
from checks import Sweep

from cifar_exp import data
from cifar_exp.config import DataConfig

DIGITS = checks.Data(
    "digits",
    classes=tuple("0123456789"),
    sizes={"training": 1293, "validation": 144, "test": 360},  # 1,797: a fifth for the test, a tenth of the rest
)
each_run = pytest.mark.parametrize("name", checks.NAMES)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    folder = tmp_path_factory.mktemp("digits")
    done = program.run(
        folder, "-m", "model=large,bn", "optimizer=sgd,adam", "data=digits", f"training.epochs={checks.EPOCHS}"
    )
    return Sweep.read(folder, done, DIGITS)


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
    checks.metrics_are_whole(sweep, name)


@each_run
def test_tags_are_whole(sweep: Sweep, name: str) -> None:
    checks.tags_are_whole(sweep, name)


@each_run
def test_datasets_are_recorded(sweep: Sweep, name: str) -> None:
    checks.datasets_are_recorded(sweep, name)


@each_run
def test_artifacts_are_whole(sweep: Sweep, name: str) -> None:
    checks.artifacts_are_whole(sweep, name)


@each_run
def test_evaluation_agrees_with_itself(sweep: Sweep, name: str) -> None:
    checks.evaluation_agrees_with_itself(sweep, name)


@each_run
def test_model_is_packaged(sweep: Sweep, name: str) -> None:
    checks.model_is_packaged(sweep, name)


def test_logged_models_predict_the_same_in_a_fresh_process(sweep: Sweep, tmp_path: Path) -> None:
    images = data.load(DataConfig(name="digits")).test.images
    checks.fresh_process_predicts_the_same(sweep, images, tmp_path, *checks.NAMES)


def test_datasets_name_a_source_that_mlflow_can_read(sweep: Sweep) -> None:
    import mlflow.data

    for run in sweep.children.values():
        for entry in run.inputs.dataset_inputs:
            assert mlflow.data.get_source(entry.dataset).to_dict()
