"""Tests of hydra.job.chdir=true: store, journal and relative paths stay where the command was started."""

from __future__ import annotations

import re
from pathlib import Path

import program
import pytest


@pytest.mark.parametrize("more", [[], ["-m", "seed=shuffle(range(1,3))", "sweep.name=s"]], ids=["run", "sweep"])
def test_paths_are_relative_to_where_the_command_started(tmp_path: Path, more: list[str]) -> None:
    own = ["training.epochs=1", "hydra.job.chdir=true", "hydra.job.name=moved"]
    done = program.run(tmp_path, *more, *program.REPEATABLE, *own)
    assert done.returncode == 0, done.stderr
    runs = program.runs(program.client(tmp_path))
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db", "mlartifacts", "outputs"}
    assert len(list(tmp_path.rglob("mlflow.db"))) == 1
    jobs = list(tmp_path.glob("outputs/sweeps/s/[01]" if more else "outputs/runs/*"))
    assert len(jobs) == (2 if more else 1)
    for job in jobs:
        assert (job / "journal.jsonl").exists() and not (job / "outputs").exists()
        assert "chdir: true" in (job / ".hydra" / "hydra.yaml").read_text()


def test_values_are_read_without_the_assertions_of_python(tmp_path: Path) -> None:
    done = program.run(tmp_path, "-m", "seed=shuffle(range(1,3))", "training.epochs=0", PYTHONOPTIMIZE="1")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.match(r"cifar_exp: job 1 of 2 \(seed=[12] training\.epochs=0\): training\.epochs: got 0", done.stderr)
    assert done.stderr.count("\n") == 1
