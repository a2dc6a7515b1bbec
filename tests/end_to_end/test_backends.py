"""Tests of the same runs on every backend of Keras, each in its own processes."""

from __future__ import annotations

import importlib.util
import json
import math
import re
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import program
import pytest
from mlflow.entities import Run

from cifar_exp.training.runtime import BACKENDS

SMALL = ("data=digits", "data.train_images=200", "training.device=cpu", "tracking.system_metrics=false")
MAIN = ("model=bn", "augmentation=cutmix", *SMALL, "training.epochs=1", "training.batch_size=50")
DENSE = (*SMALL, "model=dense", "model.layers=[Flatten,{Dropout:{rate:0.3}},{Dense:{units:10}}]")
SCHEDULES = (
    *("-m", "optimizer/schedule=inverse_time,one_cycle", *DENSE),
    *("training.epochs=2", "training.precision=mixed_bfloat16", "hydra/launcher=parallel", "sweep.name=schedules"),
)
# The learning rate is too high: the first epoch is the best, and early stopping restores its weights.
STOPPING = (
    *(*DENSE, "training.deterministic=true", "optimizer=sgd", "optimizer.learning_rate=0.5", "training.epochs=8"),
    *("training.batch_size=200", "training.early_stopping.patience=3", "training.early_stopping.monitor=val/loss"),
)
METRICS = ("train/loss", "train/accuracy", "val/loss", "val/accuracy", "train/learning_rate")
ARTIFACTS = {
    "config/config.yaml", "model/summary.txt", "figures/curves.png", "evaluation/predictions.parquet", "logs/run.log",
}  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """Results of a backend: the folder of the store, and the runs of each command."""

    backend: str
    folder: Path
    main: Run
    schedules: list[Run]
    stopped_early: Run

    def program(self, *arguments: str, folder: Path | None = None, backend: str | None = None) -> program.Done:
        return execute(folder or self.folder, backend or self.backend, *program.PROGRAM, *arguments)


def execute(folder: Path, backend: str, *command: str) -> program.Done:
    done = program.execute([*command], folder, {"KERAS_BACKEND": backend})
    assert done.returncode == 0, done.stderr + done.stdout
    return done


@pytest.fixture(scope="module", params=BACKENDS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    backend = str(request.param)
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed: pip install 'cifar-exp[{backend}]'")
    folder = tmp_path_factory.mktemp(backend)
    found: list[list[Run]] = []
    for arguments in (MAIN, SCHEDULES, STOPPING):
        execute(folder, backend, *program.PROGRAM, *arguments)
        runs = program.runs(program.client(folder))
        known = {run.info.run_id for runs in found for run in runs}
        found.append([run for run in runs if run.info.run_id not in known])
    (main,), (stopped_early,) = found[0], found[2]
    schedules = [run for run in found[1] if "cifar_exp.kind" not in run.data.tags]
    return Trained(backend, folder, main, schedules, stopped_early)


def history(folder: Path, run: Run) -> dict[str, dict[int, float]]:
    """Metrics per epoch that do not depend on time."""
    return {name: program.points(program.client(folder), run.info.run_id, name) for name in METRICS}


def test_the_sweep_finishes_with_everything_logged(trained: Trained) -> None:
    assert len(trained.schedules) == 2
    for run in (trained.main, *trained.schedules, trained.stopped_early):
        assert (run.info.status, run.data.tags["cifar_exp.outcome"]) in (
            ("FINISHED", "completed"),
            ("FINISHED", "collapsed"),
        )
        assert run.data.tags["cifar_exp.backend"].startswith(f"{trained.backend} ")
        assert all(math.isfinite(value) for value in run.data.metrics.values())
        assert program.artifacts(program.client(trained.folder), run.info.run_id) >= ARTIFACTS
    assert max(history(trained.folder, trained.stopped_early)["train/accuracy"].values()) > 0.25


def test_each_schedule_changes_the_learning_rate_as_documented(trained: Trained) -> None:
    last = {run.data.params["optimizer.schedule.name"]: run.data.metrics for run in trained.schedules}
    assert set(last) == {"inverse_time", "one_cycle"}
    for metrics in last.values():
        assert 0 <= metrics["train/learning_rate"] < 0.001


def test_the_logged_models_give_the_stored_probabilities_and_the_best_weights(trained: Trained) -> None:
    runs = [trained.main, *trained.schedules, trained.stopped_early]
    command = (*program.LOAD_MODELS, *(run.info.run_id for run in runs))
    store = {"MLFLOW_TRACKING_URI": "sqlite:///mlflow.db", "KERAS_BACKEND": trained.backend}
    done = program.execute(command, trained.folder, store)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    for run in runs:
        half = run.data.params["training.precision"] != "float32"
        assert answers[run.info.run_id][0] <= (0.02 if half else 1e-5)
    losses = history(trained.folder, trained.stopped_early)["val/loss"]
    assert losses[max(losses)] > min(losses.values())  # otherwise restoring the best weights would change nothing
    assert answers[trained.stopped_early.info.run_id][1] == pytest.approx(min(losses.values()), rel=1e-3)


def test_a_killed_and_resumed_run_has_the_same_results_to_the_last_bit(trained: Trained, tmp_path: Path) -> None:
    killed = program.run_until(tmp_path, "epoch 2/8", signal.SIGKILL, *STOPPING, KERAS_BACKEND=trained.backend)
    assert killed.returncode == -signal.SIGKILL
    other = tmp_path / "other"
    shutil.copytree(tmp_path, other, ignore=shutil.ignore_patterns("other"))
    done = trained.program(*STOPPING, folder=tmp_path)
    assert "goes on after epoch" in done.stdout
    run = program.only_run(tmp_path)
    assert history(tmp_path, run) == history(trained.folder, trained.stopped_early)
    assert run.data.metrics["test/loss"] == trained.stopped_early.data.metrics["test/loss"]
    assert run.data.tags["cifar_exp.fingerprint"] == trained.stopped_early.data.tags["cifar_exp.fingerprint"]

    if trained.backend != "tensorflow":  # tensorflow, which is always installed
        done = trained.program(*STOPPING, folder=other, backend="tensorflow")
        assert "goes on after epoch" not in done.stdout  # a checkpoint of one backend is not continued on another


def test_a_logged_run_is_reproduced(trained: Trained) -> None:
    again = (*program.COMMAND, "reproduce", trained.stopped_early.info.run_id)
    assert "Equal to the last bit." in execute(trained.folder, trained.backend, *again).stdout


def test_two_runs_of_a_notebook_do_not_disturb_each_other(trained: Trained, tmp_path: Path) -> None:
    script = str(Path(__file__).with_name("train_twice.py"))
    done = execute(tmp_path, trained.backend, sys.executable, script, *DENSE, "training.epochs=1")
    answer = json.loads(done.stdout.splitlines()[-1])
    assert len({*answer["runs"]} - {None}) == 2
    assert answer["losses"][0] == pytest.approx(answer["losses"][1], rel=1e-5)
    assert answer["error"] < 1e-4
    assert answer["environment_is_as_before"]


def test_another_backend_reads_the_finished_model(trained: Trained) -> None:
    from PIL import Image

    from cifar_exp.config.composition import plan
    from cifar_exp.data import datasets

    another = BACKENDS[BACKENDS.index(trained.backend) - 1]
    if importlib.util.find_spec(another) is None:
        pytest.skip(f"{another} is not installed: pip install 'cifar-exp[{another}]'")
    images = datasets.load(plan(["data=digits"], multirun=False).jobs[0].data).test.images
    Image.fromarray(images[0]).save(trained.folder / "digit.png")
    answers = []
    for backend in (trained.backend, another):
        predict = ("predict", "digit.png", "--json", "--run", trained.stopped_early.info.run_id)
        done = execute(trained.folder, backend, *program.COMMAND, *predict)
        answers.append(json.loads(done.stdout)["images"][0]["probabilities"])
    assert answers[0] == pytest.approx(answers[1], abs=1e-5)


def test_on_jax_an_epoch_is_one_program(tmp_path: Path) -> None:
    if importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed: pip install 'cifar-exp[jax]'")
    tests = [program.ROOT / "tests" / "training" / name for name in ("test_epoch.py", "test_fit_resumed.py")]
    options = ("-q", "-p", "no:cacheprovider", "-k", "test_epoch or (every_epoch and momentum)")
    done = execute(tmp_path, "jax", sys.executable, "-m", "pytest", *options, *map(str, tests))
    assert re.search(r"^\d+ passed", done.stdout, re.M) and "skipped" not in done.stdout


def test_an_unknown_backend_is_refused(tmp_path: Path) -> None:
    backend = "jacks"
    done = program.execute([*program.PROGRAM, *STOPPING], tmp_path, {"KERAS_BACKEND": backend})
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"KERAS_BACKEND={backend} is not a backend of Keras; set it to one of tensorflow, jax, torch" in done.stderr
    assert not (tmp_path / "mlflow.db").exists()
