"""Tests that a sweep logged to the server is as complete as one logged to a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import checks
import pytest
import run_checks
from checks import Sweep
from stack import Stack, User

from cifar_exp.config.schema import LONGEST_NAME
from cifar_exp.data import datasets
from cifar_exp.data.schema import DataConfig
from cifar_exp.evaluation.scores import metric_names
from cifar_exp.tracking.run import Run
from cifar_exp.tracking.store import Store


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


def test_the_longest_texts_are_kept(server: Stack, ann: User, tmp_path: Path) -> None:
    long_and_wide = ["L" * 255, "日" * 255]
    with server.client(ann) as client:
        run = Run.start(Store(server.url, "ä" * LONGEST_NAME), tmp_path, "ö" * 300, {}, {"note": "ü" * 2000})
        metrics = {f"test/precision/{name}": 0.5 for name in metric_names(long_and_wide)}
        run.log_metrics(metrics)
        run.finish("FINISHED")
        logged = client.get_run(run.id)
        assert client.get_experiment(logged.info.experiment_id).name == "ä" * LONGEST_NAME
    assert (logged.info.status, logged.info.run_name) == ("FINISHED", f"{'ö' * (LONGEST_NAME - 1)}…")
    assert (logged.data.params, logged.data.metrics) == ({"note": "ü" * 2000}, metrics)
