"""The weights that a run goes on from: found by every name they have, and refused in words."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from cifar_exp.config.architecture import parse
from cifar_exp.config.schema import ModelConfig
from cifar_exp.errors import UserError
from cifar_exp.tracking import initial_weights, package
from cifar_exp.tracking.run import Run
from cifar_exp.tracking.store import Store
from cifar_exp.training import models

LAYERS = ["Flatten", {"Dense": {"units": 4}}, {"Dense": {"units": 10}}]
CLASSES = tuple(f"class {number}" for number in range(10))


def built(layers: list[Any] = LAYERS) -> keras.Model:
    keras.utils.clear_session()  # as in a run, whose layers are the first of their process
    return models.build(ModelConfig("small", parse(layers, "small"), {}), (32, 32, 3))[0]


def saved(folder: Path, model: keras.Model) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "weights.keras"
    models.classifier(model).save(file)
    return file


def finished(store: Store, folder: Path, name: str, fingerprint: str, status: str = "FINISHED") -> str:
    """A run that logged a model, with the only weights that its fingerprint gives."""
    run = Run.start(store, folder, name, {"cifar_exp.fingerprint": fingerprint}, {"name": name})
    keras.utils.set_random_seed(int(fingerprint, 16) % 2**32)
    package.save(models.classifier(built()), "tensorflow", CLASSES, folder / "model")
    run.log_model({})
    run.finish(status)
    return run.id


@pytest.fixture(scope="module")
def own(store: Store) -> Store:
    return Store(store.uri, "origin")


@pytest.fixture(scope="module")
def runs(own: Store, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Ids: two finished runs of one name, the second later, then one that was killed."""
    root = tmp_path_factory.mktemp("runs")
    of = [("e", "a" * 16, "FINISHED"), ("e", "b" * 16, "FINISHED"), ("e", "c" * 16, "KILLED")]
    return [finished(own, root / str(n), *one) for n, one in enumerate(of)]


def test_a_run_is_found_by_its_id_its_fingerprint_and_the_latest_finished_by_its_name(
    own: Store, runs: list[str]
) -> None:
    first, second, killed = runs
    named = {first: first, killed: killed, "a" * 16: first, "b" * 16: second, "e": second}
    for name, run_id in named.items():
        found = initial_weights.find(own, name)
        assert found.run is not None
        assert found.run.info.run_id == run_id, name
        assert found.tags() == {"cifar_exp.start_from": run_id}
    assert initial_weights.find(own, "e").digest == "b" * 16
    assert own.run_address(second) in initial_weights.find(own, "e").link


def test_the_weights_of_a_run_are_those_that_it_logged(own: Store, runs: list[str], tmp_path: Path) -> None:
    weights = initial_weights.find(own, runs[0]).weights(tmp_path)
    keras.utils.set_random_seed(int("a" * 16, 16) % 2**32)
    expected, model = built(), built()
    models.load_weights(model, weights, "here")
    for one, other in zip(expected.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_file_is_what_its_bytes_are(own: Store, tmp_path: Path) -> None:
    file = saved(tmp_path, built())
    found = initial_weights.find(own, str(file))
    assert (found.digest, found.weights(tmp_path)) == (hashlib.sha256(file.read_bytes()).hexdigest(), file)
    assert found.tags() == {"cifar_exp.start_from": str(file)}


@pytest.mark.parametrize("name", ["f", "d" * 16, "d" * 32, "e' OR name != '", "", "../e"])
def test_what_is_not_there_is_refused(own: Store, runs: list[str], name: str) -> None:
    with pytest.raises(UserError, match=r"^training\.start_from: no finished run .* in experiment 'origin'"):
        initial_weights.find(own, name)


def test_asking_an_empty_folder_makes_no_store_in_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no finished run 'e'"):
        initial_weights.find(Store(f"sqlite:///{tmp_path / 'mlflow.db'}", "cifar10"), "e")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_there_is_refused(own: Store) -> None:
    with pytest.raises(UserError, match=r"^training\.start_from: no such file: gone\.keras$"):
        initial_weights.find(own, "gone.keras")


def test_a_run_without_a_model_is_refused(own: Store, tmp_path: Path) -> None:
    run = Run.start(own, tmp_path, "bare", {}, {"name": "bare"})
    run.finish("FINISHED")
    with pytest.raises(UserError, match="logged no model"):
        initial_weights.find(own, "bare")


def test_a_model_that_is_gone_is_refused(own: Store, tmp_path: Path) -> None:
    run_id = finished(own, tmp_path, "gone", "d" * 16)
    found = initial_weights.find(own, run_id)
    assert found.run is not None
    model = own.client.get_logged_model(found.run.outputs.model_outputs[0].model_id)
    (Path(model.artifact_location.removeprefix("file://")) / "data" / "model.keras").unlink()
    with pytest.raises(UserError, match=r"the model of run 'gone' \(.*\) cannot be had"):
        found.weights(tmp_path / "there")
