"""Tests of the same runs on every backend of Keras, each in its own processes."""

from __future__ import annotations

import json
import math
import re
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import program
import pytest
from mlflow.entities import Run

from cifar_exp.importing import is_installed
from cifar_exp.training.runtime import BACKENDS

SMALL = ("data=digits", "data.train_images=200", "training.device=cpu", "tracking.system_metrics=false", "model=dense")
CONVOLVED = (
    "model.layers=[{Conv2D:{filters:4,kernel_size:3,strides:2}},BatchNormalization,{Activation:{activation:relu}},"
    "MaxPooling2D,Flatten,{Dropout:{rate:0.3}},{Dense:{units:10}}]"
)
SWEEP = (
    *(
        "-m",
        "optimizer/schedule=inverse_time,one_cycle",
        *SMALL,
        CONVOLVED,
        "augmentation=cutmix",
        "prediction.shift=1",
    ),
    *("training.epochs=2", "training.precision=mixed_bfloat16", "prediction.shift=1", "hydra/launcher=parallel"),
)
NORMALIZED = (*SMALL, "model.layers=[Flatten,BatchNormalization,{Dropout:{rate:0.3}},{Dense:{units:10}}]")
DENSE = (*SMALL, "model.layers=[Flatten,{Dropout:{rate:0.3}},{Dense:{units:10}}]")
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
    """Results of a backend: the folder of the store, and its runs."""

    backend: str
    folder: Path
    swept: list[Run]
    resumed: Run
    """Stopped early, after it was killed and started again."""
    told: str
    """Output of its second start."""

    def program(self, *command: str) -> program.Done:
        return execute(self.folder, self.backend, *command)


def execute(folder: Path, backend: str, *command: str) -> program.Done:
    done = program.execute([*command], folder, {"KERAS_BACKEND": backend})
    assert done.returncode == 0, done.stderr + done.stdout
    return done


@pytest.fixture(scope="module", params=BACKENDS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    backend = str(request.param)
    if not is_installed(backend):
        pytest.skip(f"{backend} is not installed: pip install 'cifar-exp[{backend}]'")
    folder = tmp_path_factory.mktemp(backend)
    killed = program.run_until(folder, "epoch 2/8", signal.SIGKILL, *STOPPING, KERAS_BACKEND=backend)
    assert killed.returncode == -signal.SIGKILL
    if backend != "tensorflow":  # which is always installed: a checkpoint of one backend is not continued on another
        other = shutil.copytree(folder, tmp_path_factory.mktemp("other") / "killed")
        program.run_until(other, "epoch 1/8", signal.SIGKILL, *STOPPING, KERAS_BACKEND="tensorflow")
    told = execute(folder, backend, *program.PROGRAM, *STOPPING).stdout
    resumed = program.only_run(folder)
    execute(folder, backend, *program.PROGRAM, *SWEEP)
    swept = [run for run in program.runs(program.client(folder)) if "mlflow.parentRunId" in run.data.tags]
    return Trained(backend, folder, swept, resumed, told)


def history(folder: Path, run: Run) -> dict[str, dict[int, float]]:
    """Metrics per epoch that do not depend on time."""
    return {name: program.points(program.client(folder), run.info.run_id, name) for name in METRICS}


def test_the_runs_finish_with_everything_logged(trained: Trained) -> None:
    assert len(trained.swept) == 2
    for run in (*trained.swept, trained.resumed):
        assert (run.info.status, run.data.tags["cifar_exp.outcome"]) in (
            ("FINISHED", "completed"),
            ("FINISHED", "collapsed"),
        )
        assert run.data.tags["cifar_exp.backend"].startswith(f"{trained.backend} ")
        assert all(math.isfinite(value) for value in run.data.metrics.values())
        assert program.artifacts(program.client(trained.folder), run.info.run_id) >= ARTIFACTS
    assert max(history(trained.folder, trained.resumed)["train/accuracy"].values()) > 0.25


def test_each_schedule_changes_the_learning_rate_as_documented(trained: Trained) -> None:
    last = {run.data.params["optimizer.schedule.name"]: run.data.metrics for run in trained.swept}
    assert set(last) == {"inverse_time", "one_cycle"}
    for metrics in last.values():
        assert 0 <= metrics["train/learning_rate"] < 0.001


def test_the_logged_models_give_the_stored_probabilities_and_the_best_weights(trained: Trained) -> None:
    runs = [*trained.swept, trained.resumed]
    command = (*program.LOAD_MODELS, *(run.info.run_id for run in runs))
    store = {"MLFLOW_TRACKING_URI": "sqlite:///mlflow.db", "KERAS_BACKEND": trained.backend}
    done = program.execute(command, trained.folder, store)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    for run in runs:
        half = run.data.params["training.precision"] != "float32"
        assert answers[run.info.run_id][0] <= (0.02 if half else 1e-5)
    losses = history(trained.folder, trained.resumed)["val/loss"]
    assert losses[max(losses)] > min(losses.values())  # otherwise restoring the best weights would change nothing
    assert answers[trained.resumed.info.run_id][1] == pytest.approx(min(losses.values()), rel=1e-3)


def test_a_killed_and_resumed_run_is_reproduced_without_interruption_to_the_last_bit(trained: Trained) -> None:
    resumed = trained.resumed
    assert "goes on after epoch" in trained.told
    assert "Equal to the last bit." in trained.program(*program.COMMAND, "reproduce", resumed.info.run_id).stdout
    again = program.runs(program.client(trained.folder))[-1]
    assert again.data.tags["cifar_exp.reproduces"] == resumed.info.run_id
    assert history(trained.folder, again) == history(trained.folder, resumed)
    assert again.data.metrics["test/loss"] == resumed.data.metrics["test/loss"]
    assert again.data.tags["cifar_exp.fingerprint"] == resumed.data.tags["cifar_exp.fingerprint"]


def test_two_runs_of_a_notebook_do_not_disturb_each_other(trained: Trained, tmp_path: Path) -> None:
    done = execute(tmp_path, trained.backend, *program.TRAIN_TWICE, *NORMALIZED, "training.epochs=1")
    answer = json.loads(done.stdout.splitlines()[-1])
    assert len({*answer["runs"]} - {None}) == 2
    assert answer["losses"][0] == pytest.approx(answer["losses"][1], rel=1e-5)
    assert answer["error"] < 1e-4
    assert answer["environment_is_as_before"]


def test_a_logged_model_is_evaluated_attacked_corrupted_explained_and_exported(trained: Trained) -> None:
    client, run = program.client(trained.folder), trained.swept[0]
    asked = ("evaluate", run.info.run_id, "--attack", "--epsilons", "8", "--corrupt", "--json")
    measured = json.loads(trained.program(*program.COMMAND, *asked).stdout)["metrics"]
    accuracy = measured["evaluation/accuracy"]
    assert accuracy == pytest.approx(run.data.metrics["test/accuracy"], abs=0.01)  # in half precision
    assert measured["attack/accuracy/pgd_8"] < accuracy and measured["attack/accuracy/fgsm_8"] < accuracy
    assert measured["robustness/clean_error"] == pytest.approx(1 - accuracy, abs=0.01)

    trained.program(*program.COMMAND, "explain", run.info.run_id, "--images", "3,wrong")
    (explanation,) = (one for one in program.runs(client) if "cifar_exp.explains" in one.data.tags)
    pictures = [name for name in program.artifacts(client, explanation.info.run_id) if name.endswith(".png")]
    assert pictures

    exported = trained.program(*program.COMMAND, "export", run.info.run_id, "--json").stdout
    differences = {file["format"]: file["max_difference"] for file in json.loads(exported)["files"]}
    assert differences["keras"] <= 1e-4


def test_another_backend_reads_the_finished_model(trained: Trained, tmp_path: Path) -> None:
    from PIL import Image

    from cifar_exp.config.composition import plan
    from cifar_exp.data import datasets

    another = BACKENDS[BACKENDS.index(trained.backend) - 1]
    if not is_installed(another):
        pytest.skip(f"{another} is not installed: pip install 'cifar-exp[{another}]'")
    images = datasets.load(plan(["data=digits"], multirun=False).jobs[0].data).test.images
    Image.fromarray(images[0]).save(trained.folder / "digit.png")
    run_id = trained.resumed.info.run_id
    predict = ("predict", "digit.png", "--json", "--run", run_id)
    done = execute(trained.folder, another, *program.COMMAND, *predict)
    (predicted,) = json.loads(done.stdout)["images"]
    client = program.client(trained.folder)
    file = program.artifact(client, run_id, "evaluation/predictions.parquet", tmp_path)
    stored = pd.read_parquet(file).iloc[0]
    of_class = {label: stored[f"p_{label}"] for label in predicted["probabilities"]}
    assert len(of_class) == 10 and predicted["probabilities"] == pytest.approx(of_class, abs=1e-5)


def test_on_jax_an_epoch_is_one_program(tmp_path: Path) -> None:
    if not is_installed("jax"):
        pytest.skip("jax is not installed: pip install 'cifar-exp[jax]'")
    folder = program.ROOT / "tests" / "training"
    resumed = "test_interrupted_twice_it_comes_to_the_very_same_and_tells_what_is_new"
    case = "dropout, augmentation, mixed images, focal loss, momentum, inverse time"
    tests = (f"{folder}/test_epoch.py", f"{folder}/test_fit_resumed.py::{resumed}[{case}]")
    # Passes of LLVM that only make programs faster take half of the time to compile them.
    variables = {"KERAS_BACKEND": "jax", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)
    done = program.execute(command, tmp_path, variables)
    assert done.returncode == 0, done.stderr + done.stdout
    assert re.search(r"^\d+ passed", done.stdout, re.M) and "skipped" not in done.stdout


def test_an_unknown_backend_is_refused(tmp_path: Path) -> None:
    backend = "jacks"
    done = program.execute([*program.PROGRAM, *STOPPING], tmp_path, {"KERAS_BACKEND": backend})
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"KERAS_BACKEND={backend} is not a backend of Keras; set it to one of tensorflow, jax, torch" in done.stderr
    assert not (tmp_path / "mlflow.db").exists()
