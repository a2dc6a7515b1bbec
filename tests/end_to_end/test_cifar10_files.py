"""CIFAR-10 unpacked to PNG files, and packed into a Parquet file, trains as the official files do, to the bit."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import program
import pytest
from PIL import Image

from cifar_exp.data import datasets
from cifar_exp.data.schema import DataConfig

IMAGES = 500  # to train on
RUN = (
    "model=dense",
    "model.layers=[{Conv2D:{filters:4,kernel_size:3,strides:2}},Flatten,{Dropout:{rate:0.3}},{Dense:{units:10}}]",
    *("augmentation=flip_crop", "data.validation=test", f"data.train_images={IMAGES}", "training.epochs=2"),
    *("training.deterministic=true", "training.device=cpu", "tracking.system_metrics=false"),
)
CLOCK = {"train/seconds", "train/epoch_seconds", "train/images_per_second"}


@pytest.fixture(scope="module")
def official() -> Path:
    """Folder of CIFAR-10's official files, or of a copy in their layout."""
    folder = os.environ.get("CIFAR_EXP_DATA")
    if not folder or not (Path(folder) / "cifar-10-batches-bin").exists():
        pytest.skip("CIFAR_EXP_DATA names no folder with cifar-10-batches-bin: no real images")
    return Path(folder)


@pytest.fixture(scope="module")
def folder(official: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the images in files, numbered in the official order, and a finished run on each form of them."""
    folder = tmp_path_factory.mktemp("cifar10_files")
    config = DataConfig("cifar10", dir=str(official), verify="size", validation="test", train_images=IMAGES)
    splits = datasets.load(config)
    rows = []
    for split, part in (("train", splits.training), ("test", splits.test)):
        for pixels, label in zip(part.images, part.labels, strict=True):
            name = splits.classes[label]
            file = folder / "photos" / split / name / f"{len(rows):05}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(file, compress_level=1)
            image = {"bytes": file.read_bytes(), "path": file.name}
            rows.append({"image": image, "label": name, "split": split})
    pd.DataFrame(rows).to_parquet(folder / "cifar10.parquet", index=False)
    forms = {
        "official": ("data=cifar10", f"data.dir={official}", "data.verify=size"),
        "folder": ("data=folder", "data.dir=photos"),
        "parquet": ("data=parquet", "data.file=cifar10.parquet", "data.split_column=split"),
    }
    for name, data in forms.items():
        done = program.run(folder, *data, *RUN, f"name={name}", CIFAR_EXP_CACHE=str(folder / "cache"))
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return folder


@pytest.mark.parametrize("form", ["folder", "parquet"])
def test_every_metric_is_the_same_to_the_last_bit(form: str, folder: Path) -> None:
    client = program.client(folder)
    runs = {run.info.run_name: run for run in program.runs(client)}
    measured = sorted(set(runs["official"].data.metrics) - CLOCK)
    assert {"train/loss", "val/accuracy", "test/loss", "test/f1/ship"} <= set(measured)
    assert runs["official"].data.metrics["test/accuracy"] > 0.15  # of ten classes
    for name in measured:
        official, files = (program.points(client, runs[run].info.run_id, name) for run in ("official", form))
        assert official == files, name
