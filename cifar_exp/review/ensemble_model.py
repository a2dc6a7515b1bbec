"""The MLflow model of an ensemble: the weights and configs of its members, and how to average them.

It holds data only. MLflow loads it with `_load_pyfunc` of this module, so cifar_exp must be installed where it is
served. Each network is rebuilt from its config, which can only name layers, and its weights are loaded into it.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cifar_exp.config.schema import Config
from cifar_exp.data.splits import Images
from cifar_exp.errors import UserError
from cifar_exp.evaluation import predict
from cifar_exp.experiment import reproduce
from cifar_exp.review import ensemble
from cifar_exp.tracking import fetch
from cifar_exp.tracking.environment import requirements
from cifar_exp.tracking.store import Store, import_mlflow
from cifar_exp.tracking.untrusted import YAML_BYTES, parse_json
from cifar_exp.training import runtime

if TYPE_CHECKING:
    import keras
    from mlflow.entities import Run

_DATA = "ensemble"  # folder of the data
_ROOT = f"data/{_DATA}"  # where MLflow puts it
_RECIPE, _CONFIG, _WEIGHTS = "ensemble.json", "config.yaml", "model.keras"
_MOST = 1000  # members, and weight of one


@dataclass(frozen=True)
class Recipe:
    """How the members of an ensemble are averaged.

    Attributes:
        mean: as in `ensemble.log_mean`.
        weights: of each member, from 1 to 1,000.
        classes: class names in the order of the probabilities.
    """

    mean: str
    weights: tuple[int, ...]
    classes: tuple[str, ...]

    @classmethod
    def parse(cls, content: str, where: str) -> Recipe:
        """Parse a logged recipe.

        Raises:
            UserError: if it is not one.
        """
        try:
            values = parse_json(content)
            recipe = cls(values["mean"], tuple(values["weights"]), tuple(values["classes"]))
            weights_fit = all(type(weight) is int and 0 < weight <= _MOST for weight in recipe.weights)
            if recipe.mean not in ensemble.MEANS or not weights_fit or not 0 < len(recipe.weights) <= _MOST:
                raise ValueError(f"expected a mean and up to {_MOST:,} weights from 1 to {_MOST:,}")
            if not recipe.classes or not all(isinstance(name, str) for name in recipe.classes):
                raise ValueError("expected class names")
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{where}: {_RECIPE} is not the recipe of an ensemble: {error}") from error
        return recipe

    def mean_of(self, members: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        """Average the probabilities of the members, each (N, C); return (N, C) float32."""
        return np.exp(ensemble.log_mean(members, self.weights, self.mean)).astype(np.float32)


def save(store: Store, runs: Sequence[Run], recipe: Recipe, folder: Path) -> None:
    """Save the MLflow model of an ensemble, with the weights and the configs of its members.

    Args:
        store: contains the members.
        runs: the members.
        recipe: how to average them.
        folder: target folder; an existing one is replaced.

    Raises:
        UserError: if a member has no model or no valid config.
    """
    import_mlflow()
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) / _DATA
        for number, run in enumerate(runs):
            target = root / str(number)
            weights = fetch.keras_file(store, fetch.model_id(run), target)
            if weights != target / _WEIGHTS:
                shutil.move(weights, target / _WEIGHTS)
            config = fetch.file(store, run, reproduce.CONFIG, YAML_BYTES)
            (target / _CONFIG).write_bytes(config)
        (root / _RECIPE).write_text(json.dumps(asdict(recipe), indent=2), encoding="utf-8")
        image_shape = _config(root, 0).data.image_shape
        shutil.rmtree(folder, ignore_errors=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*input example was not provided")  # the signature is known
            mlflow.pyfunc.save_model(
                str(folder),
                loader_module=__name__,
                data_path=str(root),
                signature=ModelSignature(
                    Schema([TensorSpec(np.dtype(np.uint8), (-1, *image_shape))]),
                    Schema([TensorSpec(np.dtype(np.float32), (-1, len(recipe.classes)))]),
                ),
                # Without them MLflow would load the model in another process to infer them.
                pip_requirements=requirements("mlflow", "keras", runtime.backend_name(), "numpy", "cifar-exp"),
                metadata={"classes": list(recipe.classes)},
            )


def read(store: Store, model_id: str) -> tuple[Recipe, Config]:
    """Read what is needed to prepare images for a logged ensemble: its recipe, and the config of its first member.

    Raises:
        UserError: if the model cannot be read or is not an ensemble.
    """
    where = f"model {model_id} of {store.uri}"
    recipe = Recipe.parse(fetch.model_text(store, model_id, f"{_ROOT}/{_RECIPE}", YAML_BYTES), where)
    return recipe, _member(store, model_id, recipe, 0)


def probabilities(store: Store, model_id: str, recipe: Recipe, images: Images) -> npt.NDArray[np.float32]:
    """Predict class probabilities with a logged ensemble, one member at a time.

    Args:
        store: contains the model.
        model_id: id of the logged model.
        recipe: from `read`.
        images: (N, H, W, C) uint8.

    Returns:
        Class probabilities (N, C) float32.

    Raises:
        UserError: if a member cannot be read.
    """
    predicted = []
    for number in range(len(recipe.weights)):
        where, config = f"model {model_id} of {store.uri}, member {number}", _member(store, model_id, recipe, number)
        with tempfile.TemporaryDirectory() as folder:
            weights = fetch.keras_file(store, model_id, Path(folder), f"{_ROOT}/{number}/{_WEIGHTS}")
            predicted.append(predict.probabilities(config, weights, where, images))
    return recipe.mean_of(predicted)


def _member(store: Store, model_id: str, recipe: Recipe, number: int) -> Config:
    """The config of a member, which classifies what the ensemble does."""
    where = f"model {model_id} of {store.uri}, member {number}"
    content = fetch.model_text(store, model_id, f"{_ROOT}/{number}/{_CONFIG}", YAML_BYTES)
    config = reproduce.parse_config(content, where)
    if config.data.classes != len(recipe.classes):
        raise UserError(f"{where} has {config.data.classes} classes, and the ensemble {len(recipe.classes)}")
    return config


class _Served:
    """An ensemble in memory, as MLflow serves it."""

    def __init__(self, recipe: Recipe, members: Sequence[keras.Model]) -> None:
        self._recipe, self._members = recipe, members

    def predict(self, images: Images, params: Mapping[str, Any] | None = None) -> npt.NDArray[np.float32]:
        """Predict class probabilities (N, C) float32 of images (N, H, W, C) uint8."""
        return self._recipe.mean_of([member.predict(images, verbose=0) for member in self._members])


def _load_pyfunc(path: str) -> _Served:
    """Load an ensemble from its data. MLflow calls it; the name is MLflow's."""
    root = Path(path)
    recipe = Recipe.parse((root / _RECIPE).read_text(encoding="utf-8"), path)
    folders = [root / str(number) for number in range(len(recipe.weights))]
    members = [predict.classifier(_config(root, int(one.name)), one / _WEIGHTS, str(one)) for one in folders]
    return _Served(recipe, members)


def _config(root: Path, number: int) -> Config:
    file = root / str(number) / _CONFIG
    return reproduce.parse_config(file.read_text(encoding="utf-8"), f"member {number}")
