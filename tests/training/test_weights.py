"""Weights of a .keras file: they fit to the layer or are refused by its name, and nothing else of the file counts."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from cifar_exp.config.layers import parse
from cifar_exp.config.schema import ModelConfig, PredictionConfig
from cifar_exp.errors import UserError
from cifar_exp.training import models


def built(layers: list[Any]) -> keras.Model:
    keras.utils.clear_session()  # as in a run, whose layers are the first of their process
    return models.build(ModelConfig("m", parse(layers, "m"), {}), (32, 32, 3))[0]


def saved(folder: Path, layers: list[Any]) -> Path:
    file = folder / "saved.keras"
    models.classifier(built(layers)).save(file)
    return file


SMALL = [{"Conv2D": {"filters": 2, "kernel_size": 3}}, "BatchNormalization", "Flatten", {"Dense": {"units": 10}}]


@pytest.fixture(scope="module")
def small() -> keras.Model:
    return built(SMALL)


@pytest.fixture(scope="module")
def saved_small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("small"), SMALL)


@pytest.mark.parametrize("prediction", [PredictionConfig(), PredictionConfig(flip=True), PredictionConfig(shift=1)])
def test_weights_come_back_from_every_classifier(tmp_path: Path, prediction: PredictionConfig) -> None:
    trained = built(SMALL)
    trained.compile("adam", "mse")  # as a model that was trained, which is saved with its optimizer's state
    trained.optimizer.build(trained.trainable_variables)
    models.classifier(trained, prediction).save(tmp_path / "saved.keras")
    weights, model = trained.get_weights(), built(SMALL)
    models.load_weights(model, tmp_path / "saved.keras", "here")
    assert all(np.array_equal(one, other) for one, other in zip(weights, model.get_weights(), strict=True))


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        (
            [{"Conv2D": {"filters": 2, "kernel_size": 5}}, *SMALL[1:]],
            "weight 0 of layer 'conv2d' is 5 x 5 x 3 x 2 in the file and 3 x 3 x 3 x 2 in the model",
        ),
        (
            [*SMALL[:-1], {"Dense": {"units": 10, "use_bias": False}}],
            "weight 1 of layer 'dense' is missing in the file and 10",
        ),
        (
            [*SMALL[:-1], {"Dense": {"units": 1800}}, SMALL[-1]],
            "weight 0 of layer 'dense' is 1800 x 1800 in the file and 1800",
        ),
        (
            [*SMALL[:2], {"Conv2D": {"filters": 2, "kernel_size": 3, "padding": "same"}}, *SMALL[2:]],
            "weight 0 of layer 'conv2d_1' is 3 x 3 x 2 x 2 in the file and missing in the model",
        ),
        ([SMALL[0], *SMALL[2:]], "weight 0 of layer 'batch_normalization' is missing in the file and 2 in the model"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_the_name_of_their_layer(
    small: keras.Model, tmp_path: Path, layers: list[Any], says: str
) -> None:
    file = saved(tmp_path, layers)
    before = small.get_weights()
    with pytest.raises(UserError, match=f"^here does not fit: {says}") as refused:
        models.load_weights(small, file, "here")
    assert "\n" not in str(refused.value)
    assert all(np.array_equal(one, other) for one, other in zip(before, small.get_weights(), strict=True))


def test_weights_of_branches_are_loaded_too(tmp_path: Path) -> None:
    block = {"Residual": {"layers": [{"Dense": {"units": 5}}], "shortcut": [{"Dense": {"units": 5}}]}}
    layers = ["Flatten", block, "BatchNormalization", {"Dense": {"units": 10}}]
    keras.utils.set_random_seed(1)
    file = saved(tmp_path, layers)
    keras.utils.set_random_seed(1)
    expected = built(layers).get_weights()
    model = built(layers)
    models.load_weights(model, file, "here")
    assert all(np.array_equal(one, other) for one, other in zip(expected, model.get_weights(), strict=True))


@pytest.mark.parametrize("content", [b"", b"no zip file", None])
def test_a_damaged_file_of_weights_is_refused(
    small: keras.Model, saved_small: Path, tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "damaged.keras"
    file.write_bytes(saved_small.read_bytes()[:-100] if content is None else content)
    with pytest.raises(UserError, match=r"^here is not a complete \.keras file: "):
        models.load_weights(small, file, "here")


def external(vars_of_dense: h5py.Group, shape: tuple[int, ...], folder: Path) -> None:
    (folder / "secret").write_bytes(bytes(100_000))
    vars_of_dense.create_dataset("0", shape, "f4", external=[(str(folder / "secret"), 0, 100_000)])


def virtual(vars_of_dense: h5py.Group, shape: tuple[int, ...], folder: Path) -> None:
    layout = h5py.VirtualLayout(shape, "f4")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "x", shape)
    vars_of_dense.create_virtual_dataset("0", layout)


def text(vars_of_dense: h5py.Group, shape: tuple[int, ...], folder: Path) -> None:
    vars_of_dense.create_dataset("0", data=np.full(shape, b"abc"))


@pytest.mark.parametrize("replaced", [external, virtual, text])
def test_weights_that_are_not_numbers_in_the_file_are_refused_in_one_line(
    small: keras.Model, saved_small: Path, tmp_path: Path, replaced: Callable[[h5py.Group, tuple[int, ...], Path], None]
) -> None:
    with zipfile.ZipFile(saved_small) as zipped:
        (tmp_path / "weights.h5").write_bytes(zipped.read("model.weights.h5"))
    with h5py.File(tmp_path / "weights.h5", "r+") as weights:
        vars_of_dense = weights["layers/dense/vars"]
        shape = vars_of_dense["0"].shape
        del vars_of_dense["0"]
        replaced(vars_of_dense, shape, tmp_path)
    with zipfile.ZipFile(file := tmp_path / "forged.keras", "w") as zipped:
        zipped.write(tmp_path / "weights.h5", "model.weights.h5")
    with pytest.raises(UserError, match=r"^here has weights that cannot be loaded: ") as refused:
        models.load_weights(small, file, "here")
    assert "\n" not in str(refused.value) and "A total of" not in str(refused.value)


def test_an_encrypted_file_of_weights_is_refused(small: keras.Model, saved_small: Path, tmp_path: Path) -> None:
    content = bytearray(saved_small.read_bytes())
    for start, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = -1
        while (at := content.find(start, at + 1)) != -1:
            content[at + flags] |= 1
    (tmp_path / "encrypted.keras").write_bytes(content)
    with pytest.raises(UserError, match=r"^here is not a complete \.keras file: .* is encrypted"):
        models.load_weights(small, tmp_path / "encrypted.keras", "here")


def test_the_config_in_a_file_of_weights_is_never_read(
    saved_small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile(saved_small) as zipped:
        weights = zipped.read("model.weights.h5")
    with zipfile.ZipFile(file := tmp_path / "forged.keras", "w") as zipped:
        zipped.writestr("model.weights.h5", weights)
        zipped.writestr("config.json", '{"module": "os", "class_name": "system", "config": "touch pwned"}')
    models.load_weights(built(SMALL), file, "here")
    assert [path.name for path in tmp_path.iterdir()] == ["forged.keras"]
