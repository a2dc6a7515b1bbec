"""Tests of splitting each batch between the cores of a process."""

from __future__ import annotations

from pathlib import Path

import pytest
from program import SHOW_SHARDS, client, execute, runs

from cifar_exp.training import runtime

NEEDS_TWO_CORES = pytest.mark.skipif(runtime.cores() == 1, reason="one core has nobody to share with")
SETTINGS = (
    *("data=digits", "data.train_images=320", "training.epochs=1", "training.device=cpu"),
    f"training.batch_size={16 * runtime.cores()}",
)


def output_of(folder: Path, *command: str, threads: str = "") -> str:
    """Output of a command and of an added line that reports the shards, with the given number of TensorFlow threads."""
    variables = {"TF_NUM_INTRAOP_THREADS": threads, "TF_NUM_INTEROP_THREADS": "", "KERAS_BACKEND": "tensorflow"}
    done = execute([*SHOW_SHARDS, *command, *SETTINGS], folder, variables)
    assert done.returncode == 0, done.stderr
    return done.stdout


@NEEDS_TWO_CORES
@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("model=baseline",), runtime.cores()),
        (("-m", "model=baseline", "seed=0,1"), runtime.cores()),
        (("-m", "model=baseline,bn"), 1),
    ],
    ids=["run", "sweep", "sweep with normalization over a batch"],
)
def test_a_process_shares_its_cores_if_all_of_its_runs_can(
    tmp_path: Path, command: tuple[str, ...], expected: int
) -> None:
    assert f"shards: {expected}" in output_of(tmp_path, *command)


def test_the_number_of_threads_that_the_user_set_is_kept(tmp_path: Path) -> None:
    assert "shards: 1" in output_of(tmp_path, "model=dense", threads="1")


@NEEDS_TWO_CORES
def test_a_worker_with_several_cores_splits_batches_as_a_single_run_does(tmp_path: Path) -> None:
    """The losses are equal to the last bit; without splitting they would differ by rounding."""
    alone, beside = tmp_path / "alone", tmp_path / "beside"
    for folder in (alone, beside):
        folder.mkdir()
    sharing = ("hydra/launcher=parallel", f"hydra.launcher.cpus_per_job={runtime.cores()}")
    output_of(alone, "model=baseline")
    output_of(beside, "-m", "model=bn,baseline", *sharing)
    assert loss_of_baseline(alone) == loss_of_baseline(beside)


def loss_of_baseline(folder: Path) -> float:
    (run,) = (run for run in runs(client(folder)) if run.data.params.get("model.name") == "baseline")
    return float(run.data.metrics["train/loss"])
