"""Tests of classifying image files with logged models, of which only the weights are used."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import program
import pytest
import yaml
from PIL import Image

from cifar_exp.data import datasets
from cifar_exp.data.schema import DataConfig
from cifar_exp.errors import UserError
from cifar_exp.evaluation import pictures
from cifar_exp.review import logged_model, promotion
from cifar_exp.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

LogTrained = Callable[..., "Run"]

DIGITS = datasets.load(DataConfig(name="digits")).test


def artifact(run: Run, name: str) -> Path:
    """Local path of an artifact."""
    return Path(run.info.artifact_uri.removeprefix("file://")) / name


def model_file(store: Store, run: Run) -> Path:
    model = store.client.get_logged_model(run.outputs.model_outputs[0].model_id)
    return Path(model.artifact_location.removeprefix("file://")) / "data" / "model.keras"


def rewrite(path: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    """Change one part of a zip file."""
    with zipfile.ZipFile(path) as old:
        parts = {part: old.read(part) for part in old.namelist()}
    parts[name] = change(parts[name])
    with zipfile.ZipFile(path, "w") as new:
        for part, content in parts.items():
            new.writestr(part, content)


@pytest.mark.parametrize("name", ["strong", "averaged"])
def test_the_probabilities_are_those_that_the_run_logged(own_store: Store, log_trained: LogTrained, name: str) -> None:
    import pandas as pd

    run = log_trained(name)
    probabilities = logged_model.probabilities(own_store, logged_model.from_run(own_store, run), DIGITS.images)
    logged = pd.read_parquet(artifact(run, "evaluation/predictions.parquet"))
    assert probabilities.dtype == np.float32
    assert np.allclose(probabilities, logged.filter(like="p_").to_numpy(), atol=1e-6)


def test_a_model_is_named_by_alias_version_id_and_run(own_store: Store, log_trained: LogTrained) -> None:
    run = log_trained("weak")
    model_id = run.outputs.model_outputs[0].model_id
    promotion.promote(own_store, run, "named", "champion", "bob", even_though="a test")
    for uri in ("models:/named@champion", "models:/named/1", f"models:/{model_id}", f"runs:/{run.info.run_id}/model"):
        classifier = logged_model.from_uri(own_store, uri)
        assert (classifier.run_id, classifier.model_id) == (run.info.run_id, model_id)
        assert classifier.classes == tuple("0123456789")
    assert logged_model.from_uri(own_store, "models:/named@champion").name == (
        f"models:/named@champion, version 1: run weak ({run.info.run_id})"
    )
    for wrong in ("models:/named@other", "models:/other/1", "models:/m-" + "0" * 32, "file:///tmp/model", "named"):
        with pytest.raises(UserError):
            logged_model.from_uri(own_store, wrong)


def test_a_version_without_a_run_is_refused(own_store: Store, log_trained: LogTrained) -> None:
    client = own_store.client
    client.create_registered_model("foreign")
    client.create_model_version("foreign", "https://example.org/model")
    with pytest.raises(UserError, match=r"was registered from https://example\.org/model, not from the model of a run"):
        logged_model.from_uri(own_store, "models:/foreign/1")


def test_code_in_a_model_does_not_run(
    own_store: Store, log_trained: LogTrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file by which MLflow and Keras would load the model is replaced; none of them is read."""
    monkeypatch.chdir(tmp_path)
    run = log_trained("weak")
    expected = logged_model.probabilities(own_store, logged_model.from_run(own_store, run), DIGITS.images[:8])
    file = model_file(own_store, run)
    evil = {"module": "os", "class_name": "system", "config": {"command": "touch pwned"}, "registered_name": "x"}
    rewrite(file, "config.json", lambda _: json.dumps(evil).encode())
    folder = file.parent.parent
    (folder / "python_model.pkl").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    packaged = yaml.safe_load((folder / "MLmodel").read_text())
    packaged["flavors"]["python_function"] = {"loader_module": "evil", "code": "code", "env": {}}
    (folder / "MLmodel").write_text(yaml.safe_dump(packaged))
    (folder / "code").mkdir()
    (folder / "code" / "evil.py").write_text("open('pwned', 'w')")
    actual = logged_model.probabilities(own_store, logged_model.from_run(own_store, run), DIGITS.images[:8])
    assert np.array_equal(actual, expected)
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([{"Lambda": {"function": "os.system"}}], "Lambda"),
        (["Flatten", {"os.system": {}}, {"Dense": {"units": 10}}], "os.system"),
        (["Flatten", {"Dense": {"units": 8}}, {"Dense": {"units": 10}}], "does not fit: weight 0 of layer 'dense'"),
        (
            ["Flatten", {"Dense": {"units": 10**8}}, {"Dense": {"units": 10}}],
            r"does not fit: the model needs 1,\d{3},\d{3},\d{3},\d{3} bytes of weights",  # refused before it is built
        ),
    ],
)
def test_a_changed_config_is_refused(
    own_store: Store, log_trained: LogTrained, layers: list[object], message: str
) -> None:
    run = log_trained("weak")
    path = artifact(run, "config/config.yaml")
    content = yaml.safe_load(path.read_text())
    content["model"]["layers"] = layers
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=message) as refused:
        logged_model.probabilities(own_store, logged_model.from_run(own_store, run), DIGITS.images[:1])
    assert "\n" not in str(refused.value)


def test_images_that_no_memory_holds_are_refused(own_store: Store, log_trained: LogTrained) -> None:
    run = log_trained("weak")
    path = artifact(run, "config/config.yaml")
    content = yaml.safe_load(path.read_text())
    content["data"]["image_shape"] = [2**20, 2**20, 3]
    content["model"]["layers"] = ["GlobalAveragePooling2D", {"Dense": {"units": 10}}]
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match="a layer needs 13,194,139,533,312 bytes for one image, expected at most the"):
        logged_model.probabilities(own_store, logged_model.from_run(own_store, run), DIGITS.images[:1])


def test_weights_that_are_cut_short_are_refused(own_store: Store, log_trained: LogTrained) -> None:
    run = log_trained("weak")
    file = model_file(own_store, run)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"is not a complete \.keras file"):
        logged_model.probabilities(own_store, logged_model.from_run(own_store, run), DIGITS.images[:1])
    file.write_bytes(whole)
    rewrite(file, "model.weights.h5", lambda content: content[:2000])
    with pytest.raises(
        UserError, match=r"does not fit: the model needs 122,920 bytes of weights, and it holds \d,\d{3}$"
    ):
        logged_model.probabilities(own_store, logged_model.from_run(own_store, run), DIGITS.images[:1])


def test_an_image_of_the_right_size_is_unchanged_and_others_are_scaled(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(picture).save(tmp_path / "same.png")
    assert np.array_equal(pictures.read(tmp_path / "same.png", (32, 32, 3)), picture)
    red = np.zeros((300, 200, 3), np.uint8)
    red[..., 0] = 255
    red[:150, :, 1] = 255  # the upper half is yellow
    for name in ("large.png", "large.jpg", "large.webp", "large.bmp"):
        Image.fromarray(red).save(tmp_path / name)
        read = pictures.read(tmp_path / name, (32, 32, 3)).astype(int)
        assert read.shape == (32, 32, 3)
        assert abs(read[:14] - [255, 255, 0]).max() < 12 and abs(read[18:] - [255, 0, 0]).max() < 12
    exif = Image.Exif()
    exif[0x0112] = 3  # taken upside down
    Image.fromarray(red).save(tmp_path / "turned.jpg", exif=exif)
    assert pictures.read(tmp_path / "turned.jpg", (32, 32, 3))[-1, 0, 1] > 240


def test_grey_deep_and_transparent_pictures_are_read(tmp_path: Path) -> None:
    grey = np.tile(np.linspace(0, 255, 32).astype(np.uint8), (32, 1))
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    for name in ("grey.png", "deep.png"):
        assert np.array_equal(pictures.read(tmp_path / name, (32, 32, 3)), np.repeat(grey[..., np.newaxis], 3, axis=-1))
    clear = np.zeros((32, 32, 4), np.uint8)
    clear[:16] = 255, 0, 0, 255
    Image.fromarray(clear).save(tmp_path / "clear.png")
    read = pictures.read(tmp_path / "clear.png", (32, 32, 3))
    assert (read[:16] == [255, 0, 0]).all() and (read[16:] == 255).all()


def test_a_file_that_is_not_an_image_is_named(tmp_path: Path) -> None:
    Image.fromarray(DIGITS.images[0]).save(tmp_path / "whole.png")
    content = (tmp_path / "whole.png").read_bytes()
    wrong = {
        "cut.png": content[:80],
        "text.png": b"hello",
        "empty.jpg": b"",
        "page.png": b"%PDF-1.4",
        "eps.png": b"%!PS",
    }
    wrong |= {f"damaged{place}.png": content[:place] + b"\xff\xff" + content[place + 2 :] for place in (20, 45, 60)}
    for name, written in wrong.items():
        (tmp_path / name).write_bytes(written)
        with pytest.raises(UserError, match=name) as refused:
            pictures.read(tmp_path / name, (32, 32, 3))
        assert "\n" not in str(refused.value)
    for name, message in (("gone.png", "No such file"), ("", "Is a directory")):
        with pytest.raises(UserError, match=message):
            pictures.read(tmp_path / name, (32, 32, 3))
    bomb = Image.new("1", (20_000, 20_000))
    bomb.save(tmp_path / "bomb.png")
    with pytest.raises(UserError, match=r"bomb.png: more than [\d,]+ pixels, the limit of Pillow"):
        pictures.read(tmp_path / "bomb.png", (32, 32, 3))


def test_the_command_classifies_readable_files_and_names_the_others(log_trained: LogTrained, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    right = DIGITS.images[:3], DIGITS.labels[:3]
    for number, image in enumerate(right[0]):
        Image.fromarray(image).save(tmp_path / f"{number}.png")

    def cli(*arguments: str) -> tuple[int, str, str]:
        done = program.execute([*program.COMMAND, "predict", *arguments, "--uri", uri], tmp_path)
        return done.returncode, done.stdout, done.stderr

    code, out, err = cli("gone.png")
    assert (code, out, err) == (2, "", "cifar_exp: gone.png: No such file or directory\n")
    code, out, err = cli("0.png")
    assert code == 2 and err.startswith("cifar_exp: tracking store sqlite://") and err.count("\n") == 1
    run = log_trained("strong", Store(uri, "cifar10"))
    code, out, err = cli("0.png")
    assert code == 2 and "cifar10" in err and err.count("\n") == 1
    promotion.promote(Store(uri, "cifar10"), run, "cifar10", "champion", "bob", even_though="a test")
    code, out, err = cli("0.png", "gone.png", "1.png", "2.png", "--json")
    assert (code, err) == (2, "cifar_exp: gone.png: No such file or directory\n")
    answer = json.loads(out)
    assert answer["model"]["run_id"] == run.info.run_id
    assert [image["image"] for image in answer["images"]] == ["0.png", "1.png", "2.png"]
    for image in answer["images"]:
        assert sum(image["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert image["class"] == max(image["probabilities"], key=image["probabilities"].__getitem__)
    code, out, err = cli("0.png", "--run", "strong")
    assert (code, err) == (0, "") and f"\n0.png: {answer['images'][0]['class']}\n" in out
