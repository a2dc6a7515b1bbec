"""Test of a disk that fills up during training: the run fails with one line and can be resumed later."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import program
import pytest

EPOCHS = 15
RUN = (
    "data=digits",
    "model=dense",
    "model.layers=[Flatten,{Dense:{units:10}}]",
    f"training.epochs={EPOCHS}",
    "hydra.run.dir=small/run",
)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """Folder on its own disk of 8 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]).returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return filler
    raise AssertionError("the disk has no end")


def test_a_full_disk_fails_the_run_in_one_line_and_no_complete_epoch_is_lost(small: Path, tmp_path: Path) -> None:
    process = program.popen([*program.PROGRAM, *RUN], tmp_path)
    assert process.stdout is not None
    next(line for line in process.stdout if "epoch  3/" in line)
    filler = fill(small)
    _, errors = process.communicate(timeout=program.TIMEOUT)
    assert process.returncode == 1
    assert errors.startswith("cifar_exp: failed: ") and "No space left on device" in errors and errors.count("\n") == 1
    client, run = program.client(tmp_path), program.only_run(tmp_path)
    assert (run.info.status, run.data.tags["cifar_exp.outcome"]) == ("FAILED", "failed")
    assert "logs/traceback.txt" in program.artifacts(client, run.info.run_id)
    steps = list(program.points(client, run.info.run_id, "train/loss"))
    assert len(steps) >= 3 and steps == list(range(1, len(steps) + 1))

    filler.unlink()
    done = program.run(tmp_path, *RUN)
    assert (done.returncode, done.stderr) == (0, "")
    assert "goes on after epoch" in done.stdout
    run = program.only_run(tmp_path)
    assert run.info.status == "FINISHED"
    points = client.get_metric_history(run.info.run_id, "train/loss")
    assert [point.step for point in points] == list(range(1, EPOCHS + 1))
