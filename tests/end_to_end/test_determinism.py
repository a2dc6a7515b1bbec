"""Tests of training.deterministic=true: only the seed decides the results of a run."""

from __future__ import annotations

from pathlib import Path

import program
import pytest

# Weights, dropout, shuffling and augmentation all draw from the seed.
SETTINGS = (
    "model=dense",
    "model.layers=[{Conv2D:{filters:8,kernel_size:3}},BatchNormalization,MaxPooling2D,Flatten,{Dropout:{rate:0.3}},"
    "{Dense:{units:10}}]",
    "data=digits",
    "data.train_images=500",
    "augmentation=flip_shift",
    "training.epochs=2",
    "training.deterministic=true",
)
CLOCK = {"train/seconds", "train/epoch_seconds", "train/images_per_second"}

Measured = dict[str, dict[int, float]]


def measured(folder: Path, *arguments: str) -> list[Measured]:
    """Run a command and return the metrics of its runs, in order, without those that depend on time."""
    folder.mkdir()
    done = program.run(folder, *arguments, *SETTINGS)
    assert done.returncode == 0, done.stderr
    client = program.client(folder)
    return [
        {
            name: program.points(client, run.info.run_id, name)
            for name in run.data.metrics
            if name not in CLOCK and not name.startswith("system/")
        }
        for run in program.runs(client)
        if "cifar_exp.kind" not in run.data.tags
    ]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """Metrics of a run with seed 0 in its own process."""
    (run,) = measured(tmp_path_factory.mktemp("alone") / "run", "seed=0")
    assert {"train/loss", "val/loss", "test/loss"} <= run.keys()
    return run


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> list[Measured]:
    """Metrics of a sweep in one process, with another seed first and seed 0 second."""
    return measured(tmp_path_factory.mktemp("swept") / "sweep", "-m", "seed=1,0")


def test_another_seed_gives_other_results(alone: Measured, swept: list[Measured]) -> None:
    first, _ = swept
    assert first.keys() == alone.keys()
    assert all(first[name] != alone[name] for name in ("train/loss", "val/loss", "test/loss"))


def test_same_seed_gives_the_same_bits_in_another_process_after_another_run(
    alone: Measured, swept: list[Measured]
) -> None:
    _, second = swept
    assert second == alone
