"""A process that trains on all cores computes a shard of each batch on every one of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from program import execute

from cifar_exp import runtime

PROGRAM = """
import sys
from cifar_exp import __main__, runtime
code = __main__.main()
print("shards:", runtime.shards())
sys.exit(code)
"""
SETTINGS = ("data=digits", "training.epochs=1", "training.device=cpu", f"training.batch_size={16 * runtime.cores()}")


@pytest.mark.skipif(runtime.cores() == 1, reason="one core has nobody to share with")
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
    unset = {"TF_NUM_INTRAOP_THREADS": "", "TF_NUM_INTEROP_THREADS": "", "KERAS_BACKEND": "tensorflow"}
    done = execute([sys.executable, "-c", PROGRAM, *command, *SETTINGS], tmp_path, unset)
    assert done.returncode == 0, done.stderr
    assert f"shards: {expected}" in done.stdout
