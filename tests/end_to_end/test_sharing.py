"""Tests of splitting each batch between the cores of a process."""

from __future__ import annotations

from pathlib import Path

import pytest
from program import SHOW_SHARDS, client, execute, runs

from cifar_exp.training import runtime

NEEDS_TWO_CORES = pytest.mark.skipif(runtime.cores() == 1, reason="one core has nobody to share with")
PLAIN, NORMALIZED = "[Flatten,{Dense:{units:10}}]", "[Flatten,BatchNormalization,{Dense:{units:10}}]"
SETTINGS = (
    *("data=digits", "data.train_images=320", "training.epochs=1", "training.device=cpu", "model=dense"),
    f"training.batch_size={16 * runtime.cores()}",
)


def output_of(folder: Path, models: str, *command: str, threads: str = "") -> str:
    """Output of a command and of an added line that reports the shards, with the given number of TensorFlow threads."""
    variables = {"TF_NUM_INTRAOP_THREADS": threads, "TF_NUM_INTEROP_THREADS": "", "KERAS_BACKEND": "tensorflow"}
    done = execute([*SHOW_SHARDS, *command, *SETTINGS, f"model.layers={models}"], folder, variables)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A single run, and its output."""
    folder = tmp_path_factory.mktemp("alone")
    return folder, output_of(folder, PLAIN)


@NEEDS_TWO_CORES
def test_a_run_shares_the_cores(alone: tuple[Path, str]) -> None:
    assert f"shards: {runtime.cores()}" in alone[1]


@NEEDS_TWO_CORES
@pytest.mark.parametrize(
    ("models", "expected"),
    [(f"{PLAIN},{PLAIN}", runtime.cores()), (f"{PLAIN},{NORMALIZED}", 1)],
    ids=["sweep", "sweep with normalization over a batch"],
)
def test_a_process_shares_its_cores_if_all_of_its_runs_can(tmp_path: Path, models: str, expected: int) -> None:
    assert f"shards: {expected}" in output_of(tmp_path, models, "-m")


@NEEDS_TWO_CORES
def test_the_number_of_threads_that_the_user_set_is_kept(alone: tuple[Path, str], tmp_path: Path) -> None:
    assert "shards: 1" in output_of(tmp_path, PLAIN, threads="1")
    assert loss(tmp_path) != loss(alone[0])  # by rounding


@NEEDS_TWO_CORES
def test_a_worker_with_several_cores_splits_batches_as_a_single_run_does(
    alone: tuple[Path, str], tmp_path: Path
) -> None:
    """The losses are equal to the last bit, even after a job that cannot share: it had a process of its own."""
    sharing = ("-m", "hydra/launcher=parallel", f"hydra.launcher.cpus_per_job={runtime.cores()}")
    output_of(tmp_path, f"{NORMALIZED},{PLAIN}", *sharing)
    assert loss(tmp_path) == loss(alone[0])


def loss(folder: Path) -> float:
    """Test loss of the last run, in float64."""
    return float(runs(client(folder))[-1].data.metrics["test/loss"])
