"""Tests that a sweep logged to the server is as complete as one logged to a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import checks
import pytest
import run_checks
from checks import Sweep
from stack import Stack, User

from cifar_exp.data import datasets
from cifar_exp.data.schema import DataConfig


@pytest.mark.parametrize(
    "check",
    [
        checks.sweep_is_complete,
        checks.parent_holds_the_results,
        checks.parameters_line_up,
    ],
)
def test_the_sweep_is_whole(sweep: Sweep, check: Callable[[Sweep], None]) -> None:
    check(sweep)


@pytest.mark.parametrize("name", checks.NAMES)
@pytest.mark.parametrize(
    "check",
    [
        run_checks.metrics_are_whole,
        run_checks.tags_are_whole,
        run_checks.datasets_are_recorded,
        run_checks.artifacts_are_whole,
        run_checks.evaluation_agrees_with_itself,
        run_checks.model_is_packaged,
    ],
)
def test_each_run_is_whole(sweep: Sweep, name: str, check: Callable[[Sweep, str], None]) -> None:
    check(sweep, name)


@pytest.mark.parametrize("number", range(4))
def test_artifacts_come_back_byte_for_byte(sweep: Sweep, number: int) -> None:
    (written,) = sweep.folder.glob(f"outputs/sweeps/*/{number}/artifacts")
    run = sweep.children[checks.NAMES[number]]
    files = {path.relative_to(written).as_posix(): path for path in written.rglob("*") if path.is_file()}
    assert files.keys() >= run_checks.ARTIFACTS
    for name, path in files.items():
        assert sweep.artifact(run, name).read_bytes() == path.read_bytes(), name


def test_the_logged_model_comes_back_byte_for_byte(sweep: Sweep, tmp_path: Path) -> None:
    from mlflow.artifacts import download_artifacts

    (written,) = sweep.folder.glob("outputs/sweeps/*/0/model")
    (output,) = sweep.children[checks.NAMES[0]].outputs.model_outputs
    back = Path(download_artifacts(f"models:/{output.model_id}", dst_path=str(tmp_path)))
    weights = next(written.rglob("*.keras")).relative_to(written)
    assert (back / weights).read_bytes() == (written / weights).read_bytes()


def test_a_colleague_predicts_the_same(sweep: Sweep, server: Stack, ann: User, tmp_path: Path) -> None:
    images = datasets.load(DataConfig(name="digits")).test.images
    run_checks.fresh_process_predicts_the_same(sweep, images, tmp_path, "bn-adam", **server.environment(ann))


def test_the_program_prints_the_address_of_the_sweep(sweep: Sweep, server: Stack) -> None:
    assert server.url in sweep.done.stdout
    assert sweep.done.stderr == ""


def test_the_runs_belong_to_the_user_who_logged_in(sweep: Sweep, ann: User) -> None:
    assert {run.data.tags["mlflow.user"] for run in (sweep.parent, *sweep.children.values())} == {ann.name}
