"""Tests of initial weights: all ways to name them, and the errors if they cannot be found."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from cifar_exp.config.layers import parse
from cifar_exp.config.schema import ModelConfig
from cifar_exp.errors import UserError
from cifar_exp.tracking import addresses, initial_weights, package
from cifar_exp.tracking.run import Run
from cifar_exp.tracking.store import Store
from cifar_exp.training import models

LAYERS = ["Flatten", {"Dense": {"units": 4}}, {"Dense": {"units": 10}}]
CLASSES = tuple(f"class {number}" for number in range(10))


def built(layers: list[Any] = LAYERS) -> keras.Model:
    keras.utils.clear_session()  # so that layers get the same names as in a new process
    return models.build(ModelConfig("small", parse(layers, "small"), {}), (32, 32, 3))[0]


def saved(folder: Path, model: keras.Model) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "weights.keras"
    models.classifier(model).save(file)
    return file


def finished(store: Store, folder: Path, name: str, fingerprint: str, status: str = "FINISHED") -> str:
    """Log a run with a model whose weights depend on its fingerprint; return its id."""
    run = Run.start(store, folder, name, {"cifar_exp.fingerprint": fingerprint}, {"name": name})
    keras.utils.set_random_seed(int(fingerprint, 16) % 2**32)
    package.save(models.classifier(built()), "tensorflow", CLASSES, 1.5, folder / "model")
    run.log_model({})
    run.finish(status)
    return run.id


@pytest.fixture(scope="module")
def own(store: Store) -> Store:
    return Store(store.uri, "origin")


@pytest.fixture(scope="module")
def runs(own: Store, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Ids of two finished runs with the same name, in the order of their start, and of a killed one."""
    root = tmp_path_factory.mktemp("runs")
    of = [("e", "a" * 16, "FINISHED"), ("e", "b" * 16, "FINISHED"), ("e", "c" * 16, "KILLED")]
    return [finished(own, root / str(n), *one) for n, one in enumerate(of)]


def test_a_run_is_found_by_id_and_fingerprint_and_the_latest_finished_one_by_name(own: Store, runs: list[str]) -> None:
    first, second, killed = runs
    named = {first: first, killed: killed, "a" * 16: first, "b" * 16: second, "e": second}
    for name, run_id in named.items():
        found = initial_weights.find(own, name)
        assert found.run is not None
        assert found.run.info.run_id == run_id, name
        assert found.tags() == {"cifar_exp.start_from": run_id}
    assert initial_weights.find(own, "e").digest == "b" * 16
    assert addresses.run(own, second) in initial_weights.find(own, "e").link


def test_weights_of_a_run_equal_those_of_its_logged_model(own: Store, runs: list[str], tmp_path: Path) -> None:
    weights = initial_weights.find(own, runs[0]).weights(tmp_path)
    keras.utils.set_random_seed(int("a" * 16, 16) % 2**32)
    expected, model = built(), built()
    models.load_weights(model, weights, "here")
    for one, other in zip(expected.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_digest_of_a_file_is_the_hash_of_its_content(own: Store, tmp_path: Path) -> None:
    file = saved(tmp_path, built())
    found = initial_weights.find(own, str(file))
    assert (found.digest, found.weights(tmp_path)) == (hashlib.sha256(file.read_bytes()).hexdigest(), file)
    assert found.tags() == {"cifar_exp.start_from": str(file)}


@pytest.mark.parametrize("name", ["f", "d" * 16, "d" * 32, "e' OR name != '", "", "../e"])
def test_unknown_names_are_refused(own: Store, runs: list[str], name: str) -> None:
    with pytest.raises(UserError, match=r"^training\.start_from: no finished run .* in experiment 'origin'"):
        initial_weights.find(own, name)


def test_search_in_a_folder_without_a_store_creates_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no finished run 'e'"):
        initial_weights.find(Store(f"sqlite:///{tmp_path / 'mlflow.db'}", "cifar10"), "e")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_refused(own: Store) -> None:
    with pytest.raises(UserError, match=r"^training\.start_from: no such file: gone\.keras$"):
        initial_weights.find(own, "gone.keras")


def test_a_run_without_a_model_is_refused(own: Store, tmp_path: Path) -> None:
    run = Run.start(own, tmp_path, "bare", {}, {"name": "bare"})
    run.finish("FINISHED")
    with pytest.raises(UserError, match="logged no model"):
        initial_weights.find(own, "bare")


def logged_weights(store: Store, found: initial_weights.InitialWeights) -> Path:
    assert found.run is not None
    model = store.client.get_logged_model(found.run.outputs.model_outputs[0].model_id)
    return Path(model.artifact_location.removeprefix("file://")) / "data" / "model.keras"


def test_a_model_that_unpacks_to_far_more_than_its_size_is_refused(own: Store, tmp_path: Path) -> None:
    found = initial_weights.find(own, finished(own, tmp_path, "bomb", "e" * 16))
    with zipfile.ZipFile(logged_weights(own, found), "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("model.weights.h5", bytes(50_000_000))
    with pytest.raises(UserError, match=r"unpacks from [\d,]+ to 50,000,000 bytes: refused"):
        found.weights(tmp_path / "there")


def test_a_model_whose_files_are_missing_is_refused(own: Store, tmp_path: Path) -> None:
    run_id = finished(own, tmp_path, "gone", "d" * 16)
    found = initial_weights.find(own, run_id)
    logged_weights(own, found).unlink()
    with pytest.raises(UserError, match=r"the model of run 'gone' \(.*\) cannot be downloaded"):
        found.weights(tmp_path / "there")
