"""Sets of images that are too large for memory stay in their file: the same results on every backend, to the bit."""

from __future__ import annotations

import json
from pathlib import Path

import program
import pytest
from PIL import Image

from cifar_exp.data import datasets
from cifar_exp.data.schema import DataConfig
from cifar_exp.importing import is_installed
from cifar_exp.training.runtime import BACKENDS

RUN = (
    *("data=folder", "data.dir=photos", "data.size=[20,24]", "data.duplicates=allow", "augmentation=flip_crop"),
    "model.layers=[{Conv2D:{filters:4,kernel_size:3}},MaxPooling2D,Flatten,{Dropout:{rate:0.3}},{Dense:{units:10}}]",
    *("model=dense", "training.epochs=2", "training.deterministic=true", "training.device=cpu"),
    *("training.early_stopping.patience=2", "tracking.system_metrics=false"),
)
CLOCK = {"train/seconds", "train/epoch_seconds", "train/images_per_second"}


def write_photos(folder: Path) -> None:
    """650 digits: more than one process decodes."""
    digits = datasets.load(DataConfig("digits", validation="test")).training
    for number, (pixels, label) in enumerate(zip(digits.images[:650], digits.labels, strict=False)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / str(label) / f"{number:04}.png")


@pytest.mark.parametrize("backend", BACKENDS)
def test_images_in_a_file_train_to_the_same_bits_as_in_memory(backend: str, tmp_path: Path) -> None:
    if not is_installed(backend):
        pytest.skip(f"{backend} is not installed: pip install 'cifar-exp[{backend}]'")
    write_photos(tmp_path / "photos")
    runs = [(1 << 28, [*RUN, "name=in_memory"]), (0, [*RUN, "name=in_a_file"])]
    variables = {"KERAS_BACKEND": backend, "CIFAR_EXP_CACHE": str(tmp_path / "cache")}
    done = program.execute([*program.TRAIN_MAPPED, json.dumps(runs)], tmp_path, variables)
    assert done.returncode == 0, done.stderr + done.stdout
    stored = [line for line in done.stdout.splitlines() if line.startswith("stored as")]
    assert stored == ["stored as ndarray", "stored as MappedImages"]
    assert done.stdout.count("decoding 650 images") == 1
    client = program.client(tmp_path)
    in_memory, in_a_file = program.runs(client)
    measured = sorted(set(in_memory.data.metrics) - CLOCK)
    assert {"train/loss", "val/loss", "test/loss", "test/accuracy"} <= set(measured)
    for name in measured:
        points = [program.points(client, run.info.run_id, name) for run in (in_memory, in_a_file)]
        assert points[0] == points[1], name
    probabilities = [
        program.artifact(client, run.info.run_id, "evaluation/predictions.parquet", tmp_path / run.info.run_name)
        for run in (in_memory, in_a_file)
    ]
    assert probabilities[0].read_bytes() == probabilities[1].read_bytes()
