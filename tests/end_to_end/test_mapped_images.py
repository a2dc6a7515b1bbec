"""Sets of images that are too large for memory stay in their file: the same results on every backend, to the bit."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import program
import pytest
from PIL import Image

from cifar_exp.data import datasets
from cifar_exp.data.schema import DataConfig
from cifar_exp.training.runtime import BACKENDS

RUN = (
    *("data=folder", "data.dir=photos", "data.size=[20,24]", "data.duplicates=allow", "augmentation=flip_crop"),
    "model.layers=[{Conv2D:{filters:4,kernel_size:3}},MaxPooling2D,Flatten,{Dropout:{rate:0.3}},{Dense:{units:10}}]",
    *("model=dense", "training.epochs=2", "training.deterministic=true", "training.device=cpu"),
    *("training.early_stopping.patience=2", "tracking.system_metrics=false"),
)
# Runs of the program in one process, each with so many bytes of images at most in memory.
PROGRAM = """
import json, sys
from cifar_exp.__main__ import main
from cifar_exp.data import datasets

read = datasets._image_files

def told(config):
    splits = read(config)
    print("stored as", *{type(part.images).__name__ for part in (splits.training, splits.validation, splits.test)})
    return splits

if __name__ == "__main__":
    datasets._image_files = told
    for datasets._IN_MEMORY, arguments in json.loads(sys.argv[1]):
        datasets.load.cache_clear()
        sys.argv = ["cifar_exp", *arguments]
        if code := main():
            sys.exit(code)
"""
CLOCK = {"train/seconds", "train/epoch_seconds", "train/images_per_second"}


def write_photos(folder: Path) -> None:
    """650 digits: more than one process decodes."""
    digits = datasets.load(DataConfig("digits", validation="test")).training
    for number, (pixels, label) in enumerate(zip(digits.images[:650], digits.labels, strict=False)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / str(label) / f"{number:04}.png")


@pytest.mark.parametrize("backend", BACKENDS)
def test_images_in_a_file_train_to_the_same_bits_as_in_memory(backend: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed: pip install 'cifar-exp[{backend}]'")
    write_photos(tmp_path / "photos")
    (tmp_path / "runs.py").write_text(PROGRAM)
    runs = [(1 << 28, [*RUN, "name=in_memory"]), (0, [*RUN, "name=in_a_file"])]
    variables = {"KERAS_BACKEND": backend, "CIFAR_EXP_CACHE": str(tmp_path / "cache")}
    done = program.execute([sys.executable, "runs.py", json.dumps(runs)], tmp_path, variables)
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
