"""Tests of runs that start from other weights, that diverge, and that stay at chance."""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path

import h5py
import numpy as np
import program
import pytest
from receiver import SECRET, receiving

MODEL = ("model=dense", "model.layers=[Flatten,{Dense:{units:10}}]")
QUICK = ("data=digits", *MODEL, "optimizer=sgd", "training.epochs=2")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a finished run named `first`."""
    folder = tmp_path_factory.mktemp("first")
    done = program.run(folder, "name=first", *QUICK)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_run_starts_from_the_weights_of_another_and_links_to_it(first: Path) -> None:
    done = program.run(first, "name=second", "training.start_from=first", "note=as a test", *QUICK)
    assert (done.returncode, done.stderr) == (0, "")
    client = program.client(first)
    before, after = (next(run for run in program.runs(client) if run.info.run_name == n) for n in ("first", "second"))
    assert f"second  goes on from run 'first' ({before.info.run_id})" in done.stdout
    assert after.data.tags["cifar_exp.start_from"] == before.info.run_id
    assert after.data.params["training.start_from"] == "first"
    assert after.data.tags["cifar_exp.fingerprint"] != before.data.tags["cifar_exp.fingerprint"]
    note = after.data.tags["mlflow.note.content"]
    assert "It went on from [first](" in note and before.info.run_id in note and "\n\nas a test\n\n" in note

    losses = {run.info.run_name: program.points(client, run.info.run_id, "train/loss") for run in (before, after)}
    assert losses["second"][1] < losses["first"][1]
    assert after.data.metrics["train/seconds"] >= sum(
        program.points(client, after.info.run_id, "train/epoch_seconds").values()
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["training.start_from=frist"], "no finished run 'frist' in experiment 'cifar10'"),
        (["training.start_from=weights.keras"], "no such file: weights.keras"),
        (["training.start_from=first", "model.layers=[Flatten,{Dense:{units:9}},{Dense:{units:10}}]"], "layer 'dense'"),
    ],
)
def test_missing_or_unsuitable_weights_are_refused(first: Path, arguments: list[str], says: str) -> None:
    done = program.run(first, *QUICK, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("cifar_exp: training.start_from: ") and done.stderr.count("\n") == 1
    assert says in done.stderr


def test_a_job_of_a_sweep_can_start_from_an_earlier_one(tmp_path: Path) -> None:
    short = ("data=digits", "data.train_images=100", "data.validation=test", "training.epochs=1", MODEL[1])
    refused = program.run(tmp_path, "-m", "experiment=s1_subset,s1_bn", *short)
    assert refused.returncode == 2
    assert refused.stderr.startswith("cifar_exp: job 1 of 2 (experiment=s1_subset ")
    assert list(tmp_path.iterdir()) == []

    done = program.run(tmp_path, "-m", "experiment=s1_bn,s1_subset", *short)
    assert done.returncode == 0, done.stdout
    _, bn, subset = program.runs(program.client(tmp_path))
    assert subset.data.tags["cifar_exp.start_from"] == bn.info.run_id


def test_a_nan_loss_stops_its_run_in_that_epoch_and_no_other_run(tmp_path: Path) -> None:
    with receiving() as receiver:
        command = ("optimizer.learning_rate=1e38,0.01", "-m", *QUICK)  # Hydra itself takes -m on one side only
        done = program.run(tmp_path, *command, CIFAR_EXP_NOTIFY=receiver.address)
    assert (done.returncode, done.stderr) == (1, "")
    assert "FAILED: diverged in epoch 1: train/loss is" in done.stdout and "Traceback" not in done.stdout
    client = program.client(tmp_path)
    parent, diverged, other = program.runs(client)
    sweep = parent.data.tags["cifar_exp.sweep"]
    failed, ended = receiver.messages
    assert failed[0] == f"Run {diverged.info.run_name} of sweep {sweep} failed" and "diverged in epoch 1" in failed[1]
    assert ended[0] == f"Sweep {sweep} has failed" and ended[1].startswith("1 of 2 finished.\nBest test accuracy: 0.")
    assert not any(SECRET in file.read_text("latin-1") for file in tmp_path.rglob("*") if file.is_file())
    assert (diverged.info.status, diverged.data.tags["cifar_exp.outcome"]) == ("FAILED", "diverged")
    assert (other.info.status, other.data.tags["cifar_exp.outcome"]) == ("FINISHED", "completed")
    points = program.points(client, diverged.info.run_id, "train/loss")
    assert list(points) == [1] and not math.isfinite(points[1])
    assert list(program.points(client, diverged.info.run_id, "train/accuracy")) == [1]
    assert {"logs/run.log", "config/config.yaml", "model/summary.txt"} <= program.artifacts(
        client, diverged.info.run_id
    )


def test_diverged_single_run_says_so_in_one_line(tmp_path: Path) -> None:
    done = program.run(tmp_path, "optimizer.learning_rate=1e38", *QUICK)
    assert done.returncode == 1
    assert done.stderr.startswith("cifar_exp: failed: diverged in epoch 1: ") and done.stderr.count("\n") == 1


def test_a_run_that_stays_at_chance_is_reported_as_collapsed(tmp_path: Path) -> None:
    nowhere = "model.layers=[Flatten,{Dense:{units:10,kernel_initializer:zeros}}]"
    with receiving() as receiver:
        command = (*QUICK, nowhere, "optimizer.learning_rate=1e-46")
        done = program.run(tmp_path, *command, CIFAR_EXP_NOTIFY=f"json://127.0.0.1:9 {receiver.address}")
    assert done.returncode == 0
    assert receiver.titles == ["Run dense-sgd collapsed"]
    assert "Collapsed: it ended with the accuracy of chance" in done.stdout
    run = program.only_run(tmp_path)
    assert (run.info.status, run.data.tags["cifar_exp.outcome"]) == ("FINISHED", "collapsed")
    assert "Collapsed: " in run.data.tags["mlflow.note.content"]


def test_whitening_filters_are_in_the_model_that_is_logged(tmp_path: Path) -> None:
    few = ("model.filters=[16,8,8,8,8]", "data=digits", "data.train_images=100", "training.epochs=2")
    done = program.run(tmp_path, "experiment=speedrun", *few)
    assert (done.returncode, done.stderr) == (0, "")
    (saved,) = (tmp_path / "outputs").rglob("*.keras")
    with zipfile.ZipFile(saved) as model, h5py.File(io.BytesIO(model.read("model.weights.h5"))) as weights:
        kernels: list[np.ndarray] = []
        weights.visititems(lambda name, node: kernels.append(node[()]) if name.endswith("conv2d/vars/0") else None)
    (first,) = (kernel for kernel in kernels if kernel.shape == (3, 3, 3, 16))
    assert np.abs(first).max() > 0
    np.testing.assert_array_equal(first[..., 8:], -first[..., :8])
