"""A process that trains on all cores computes a shard of each batch on every one of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from program import client, execute, runs

from cifar_exp.training import runtime

PROGRAM = """
import sys
from cifar_exp import __main__
from cifar_exp.training import runtime
code = __main__.main()
print("shards:", runtime.shards())
sys.exit(code)
"""
NEEDS_TWO_CORES = pytest.mark.skipif(runtime.cores() == 1, reason="one core has nobody to share with")
SETTINGS = ("data=digits", "training.epochs=1", "training.device=cpu", f"training.batch_size={16 * runtime.cores()}")


def said(folder: Path, *command: str, threads: str = "") -> str:
    """What the program and then this test's own line say, with TensorFlow's threads set so, or not."""
    variables = {"TF_NUM_INTRAOP_THREADS": threads, "TF_NUM_INTEROP_THREADS": "", "KERAS_BACKEND": "tensorflow"}
    done = execute([sys.executable, "-c", PROGRAM, *command, *SETTINGS], folder, variables)
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
    assert f"shards: {expected}" in said(tmp_path, *command)


def test_threads_that_the_user_has_set_are_left(tmp_path: Path) -> None:
    assert "shards: 1" in said(tmp_path, "model=dense", threads="1")


@NEEDS_TWO_CORES
def test_a_worker_of_several_cores_shares_them_as_a_run_alone_does(tmp_path: Path) -> None:
    """To the last bit: what is not shared differs by rounding."""
    alone, beside = tmp_path / "alone", tmp_path / "beside"
    for folder in (alone, beside):
        folder.mkdir()
    sharing = ("hydra/launcher=parallel", f"hydra.launcher.cpus_per_job={runtime.cores()}")
    said(alone, "model=baseline")
    said(beside, "-m", "model=bn,baseline", *sharing)
    assert loss_of_baseline(alone) == loss_of_baseline(beside)


def loss_of_baseline(folder: Path) -> float:
    (run,) = (run for run in runs(client(folder)) if run.data.params.get("model.name") == "baseline")
    return float(run.data.metrics["train/loss"])
