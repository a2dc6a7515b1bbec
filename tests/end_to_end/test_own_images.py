"""A user's own images: the digits as a built-in data set, as folders of PNG files, as a CSV and as a Parquet file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import program
import pytest
import requests
import server_process
from mlflow.entities import Run
from PIL import Image

from cifar_exp.data import datasets, image_files
from cifar_exp.data.schema import DataConfig

TRAINING = (
    *(
        "model=dense",
        "model.layers=[Flatten,{Dense:{units:${data.classes}}}]",
        "training.epochs=2",
        "training.device=cpu",
    ),
    *("training.deterministic=true", "data.validation=stratified", "tracking.system_metrics=false"),
)
MEASURED = ("train/loss", "train/accuracy", "val/loss", "val/accuracy", "test/loss", "test/accuracy")
FORMS = {
    "digits": ("data=digits",),
    "folder": ("data=folder", "data.dir=photos"),
    "csv": ("data=csv", "data.file=labels.csv", "data.dir=images", "data.split_column=split"),
    "parquet": ("data=parquet", "data.file=digits.parquet", "data.split_column=split"),
    "my_set": ("--config-dir", "my_conf", "data=my_set"),
}
MY_SET = """
defaults: [folder]
dir: photos
size: [20, 24]
color_mode: grayscale
split_seed: 7
"""


def write_images(folder: Path) -> None:
    """Every digit three times: photos/<split>/<class>/<number>.png, images/<number>.png, and in a Parquet file."""
    digits = datasets.load(DataConfig("digits", validation="test"))
    rows = []
    for split, part in (("train", digits.training), ("test", digits.test)):
        for pixels, label in zip(part.images, part.labels, strict=True):
            name = f"{len(rows):05}.png"
            for file in (folder / "photos" / split / str(label) / name, folder / "images" / name):
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(file)
            content = (folder / "images" / name).read_bytes()
            rows.append({"id": name, "label": f"{label}", "split": split, "image": {"bytes": content, "path": name}})
    frame = pd.DataFrame(rows)
    frame[["id", "label", "split"]].to_csv(folder / "labels.csv", index=False)
    frame[["image", "label", "split"]].to_parquet(folder / "digits.parquet", index=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the images, and a finished run on each form of them."""
    folder = tmp_path_factory.mktemp("own_images")
    write_images(folder)
    my_set = folder / "my_conf" / "data" / "my_set.yaml"
    my_set.parent.mkdir(parents=True)
    my_set.write_text(MY_SET)
    for name, data in FORMS.items():
        cache = {"CIFAR_EXP_CACHE": str(folder / "cache")}
        allowed = () if name == "digits" else ("data.duplicates=allow",)
        done = program.run(folder, *data, *allowed, *TRAINING, f"name={name}", **cache)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        # A user's own images are warned of; an official data set cannot be changed.
        assert ("Images that look the same as training images: " in done.stdout) == (name != "digits")
    return folder


@pytest.fixture(scope="module")
def runs(folder: Path) -> dict[str, Run]:
    return {run.info.run_name: run for run in program.runs(program.client(folder))}


@pytest.mark.parametrize("form", ["folder", "csv", "parquet"])
def test_the_same_images_in_files_train_to_the_same_bits(form: str, folder: Path, runs: dict[str, Run]) -> None:
    client = program.client(folder)
    for name in MEASURED:
        points = [program.points(client, runs[run].info.run_id, name) for run in ("digits", form)]
        assert points[0] == points[1] != {}, name


@pytest.mark.parametrize("form", ["folder", "csv", "parquet"])
def test_the_split_of_every_image_is_logged(form: str, folder: Path, runs: dict[str, Run]) -> None:
    file = program.artifact(program.client(folder), runs[form].info.run_id, "data/splits.parquet", folder / form)
    frame = pd.read_parquet(file)
    assert sorted(frame["split"].unique()) == ["test", "training", "validation"]
    assert len(frame) == 1797 and set(frame["label"]) == set("0123456789")


@pytest.mark.parametrize("form", [form for form in FORMS if form != "my_set"])  # whose images have another shape
def test_each_run_logs_the_page_and_the_numbers_of_its_data(form: str, folder: Path, runs: dict[str, Run]) -> None:
    client = program.client(folder)
    names = ("data/report.json", "data/report.html")
    json_file, page = (program.artifact(client, runs[form].info.run_id, name, folder / form) for name in names)
    found, of_digits = json.loads(json_file.read_text()), datasets.load(DataConfig("digits"))
    assert (found["images"], found["shape"], found["classes"]) == (1797, [32, 32, 3], list("0123456789"))
    assert found["counts"] == {
        split: np.bincount(getattr(of_digits, split).labels).tolist() for split in ("training", "validation", "test")
    }
    assert found["near_duplicates"]["held_out"]["test"] > 0
    assert (found["files"] and found["files"]["formats"]) == (None if form == "digits" else {"PNG": 1797})
    assert "1,797 images of 32 x 32 x 3 in 10 classes" in page.read_text()


def test_a_run_on_a_folder_is_used_as_any_other(folder: Path, runs: dict[str, Run]) -> None:
    command = (*program.COMMAND, "predict", "images/00000.png", "--json", "--run", runs["folder"].info.run_id)
    done = program.execute([*command], folder)
    assert done.returncode == 0, done.stderr
    again = (*program.COMMAND, "reproduce", runs["folder"].info.run_id)
    refused = program.execute([*again], folder)
    assert refused.returncode == 2 and "data.dir=PATH" in refused.stderr
    reproduced = program.execute([*again, "data.dir=photos"], folder)
    assert reproduced.returncode == 0, reproduced.stderr
    assert "Equal to the last bit." in reproduced.stdout


def test_a_choice_of_ones_own_is_what_it_says(folder: Path, runs: dict[str, Run]) -> None:
    params = runs["my_set"].data.params
    assert (params["data.name"], params["data.dir"], params["data.split_seed"]) == ("folder", "photos", "7")
    said = program.execute([*program.PROGRAM, "--config-dir", "my_conf", "data=my_sett"], folder)
    assert said.returncode == 2 and "did you mean 'my_set'?" in said.stderr


def test_mlflow_serves_a_model_of_another_image_shape(
    folder: Path, runs: dict[str, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIFAR_EXP_CACHE", str(folder / "cache"))
    (output,) = runs["my_set"].outputs.model_outputs
    client = program.client(folder)
    logged = pd.read_parquet(
        program.artifact(client, runs["my_set"].info.run_id, "evaluation/predictions.parquet", tmp_path)
    )
    import mlflow.pyfunc

    loaded = mlflow.pyfunc.load_model(f"models:/{output.model_id}")
    (given,) = loaded.metadata.signature.inputs
    assert (given.type, given.shape) == (np.dtype("uint8"), (-1, 20, 24, 1))
    splits = image_files.load(DataConfig("folder", dir=str(folder / "photos"), size=(20, 24), color_mode="grayscale"))
    images = splits.images[np.flatnonzero(np.array(splits.listing.splits) == "test")[:3]]
    wrong = images[:, :, :20]
    with server_process.scoring(f"models:/{output.model_id}", client.tracking_uri, tmp_path) as uri:
        answers = [
            requests.post(f"{uri}/invocations", json={"inputs": given.tolist()}, timeout=60)
            for given in (images, wrong)
        ]
    served = np.array(answers[0].json()["predictions"])
    assert np.allclose(served, logged.filter(like="p_").to_numpy()[:3], atol=1e-5)
    assert answers[1].status_code == 400 and "(-1, 20, 24, 1)" in answers[1].text


def test_a_changed_image_is_noticed(folder: Path, runs: dict[str, Run]) -> None:
    file = (
        folder
        / "photos"
        / "train"
        / "0"
        / sorted(path.name for path in (folder / "photos" / "train" / "0").iterdir())[0]
    )
    Image.fromarray(255 - np.asarray(Image.open(file))).save(file)
    cache = {"CIFAR_EXP_CACHE": str(folder / "cache")}
    again = program.run(folder, *FORMS["folder"], "data.duplicates=allow", *TRAINING, "name=changed", **cache)
    assert again.returncode == 0, again.stderr
    (changed,) = (run for run in program.runs(program.client(folder)) if run.info.run_name == "changed")
    assert changed.data.tags["cifar_exp.fingerprint"] != runs["folder"].data.tags["cifar_exp.fingerprint"]
