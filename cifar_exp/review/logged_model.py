"""Prediction with logged models, given by their run or model URI.

A model from a shared server is treated as data. The files by which MLflow loads a model can name any code, so they are
not used. The network is rebuilt from the config that its run logged, which can only name layers, and its weights are
loaded into it.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cifar_exp.config.schema import Config, PredictionConfig
from cifar_exp.data.datasets import describe
from cifar_exp.data.schema import FILES
from cifar_exp.data.splits import Images
from cifar_exp.errors import UserError
from cifar_exp.evaluation import calibration, predict
from cifar_exp.experiment import reproduce
from cifar_exp.review import ensemble_model, promotion_records
from cifar_exp.tracking import fetch, run_tags
from cifar_exp.tracking.store import Store
from cifar_exp.tracking.untrusted import parse_json

if TYPE_CHECKING:
    import keras
    from mlflow.entities import Run

_MODEL_ID = r"m-[0-9a-f]{32}"
_MATRIX, _MATRIX_BYTES = "evaluation/confusion_matrix.json", 1 << 24
_URI_FORMATS = "models:/NAME@ALIAS, models:/NAME/VERSION, models:/m-... or runs:/RUN/model"


@dataclass(frozen=True)
class Classifier:
    """A logged model.

    Attributes:
        name: description for the user.
        run_id: of the run that logged the model.
        model_id: MLflow's id of the logged model.
        config: of that run; of an ensemble, that of its first member.
        classes: class names in the order of the probabilities.
        recipe: of an ensemble.
    """

    name: str
    run_id: str
    model_id: str
    config: Config
    classes: tuple[str, ...]
    recipe: ensemble_model.Recipe | None = None


def from_run(store: Store, run: Run) -> Classifier:
    """Find the model that a run logged.

    Raises:
        UserError: if the run logged no model, or if its config is not valid.
    """
    return _classifier(store, fetch.model_id(run), run, "")


def from_uri(store: Store, uri: str) -> Classifier:
    """Find a model by its MLflow URI.

    Args:
        store: contains the model.
        uri: models:/NAME@ALIAS, models:/NAME/VERSION, models:/m-... or runs:/RUN/model.

    Raises:
        UserError: if there is no such model, or if it was not logged by a run of cifar_exp.
    """
    if match := re.fullmatch(r"runs:/([0-9a-f]{32})/model", uri):
        with store.connected() as client:
            return from_run(store, client.get_run(match[1]))
    if match := re.fullmatch(rf"models:/({_MODEL_ID})", uri):
        return _from_model_id(store, match[1], "")
    with store.connected() as client:
        if match := re.fullmatch(r"models:/([^/@]+)@([^/@]+)", uri):
            current = promotion_records.current_version(client, match[1], match[2])
            if current is None:
                raise UserError(promotion_records.no_version_message(store, match[1], match[2]))
            version = current
        elif match := re.fullmatch(r"models:/([^/@]+)/(\d+)", uri):
            version = client.get_model_version(match[1], match[2])
        else:
            raise UserError(f"{uri!r} is not a model URI: expected {_URI_FORMATS}")
    source = re.fullmatch(rf"models:/({_MODEL_ID})", version.source or "")
    if source is None:
        raise UserError(
            f"{uri} was registered from {version.source}, not from the model of a run: use a model that "
            "cifar-exp promote registered"
        )
    return _from_model_id(store, source[1], f"{uri}, version {version.version}: ")


def _from_model_id(store: Store, model_id: str, prefix: str) -> Classifier:
    with store.connected() as client:
        run_id = client.get_logged_model(model_id).source_run_id
        if not run_id:
            raise UserError(f"model {model_id} was not logged by a run, so there is no config to build it from")
        run = client.get_run(run_id)
    return _classifier(store, model_id, run, prefix)


def _classifier(store: Store, model_id: str, run: Run, prefix: str) -> Classifier:
    run_id = run.info.run_id
    if run.data.tags.get(run_tags.KIND) == run_tags.ENSEMBLE_KIND:
        recipe, config = ensemble_model.read(store, model_id)
        name = f"{prefix}run {run.info.run_name} ({run_id})"
        return Classifier(name, run_id, model_id, config, recipe.classes, recipe)
    logged = reproduce.read(store, run_id)
    classes = _class_names(store, run, logged.config)
    return Classifier(f"{prefix}run {logged.name} ({run_id})", run_id, model_id, logged.config, classes)


def _class_names(store: Store, run: Run, config: Config) -> tuple[str, ...]:
    """Those of the data set; for image files, which need not be on this machine, those that the run logged."""
    if config.data.name not in FILES:
        return describe(config.data).class_names
    content = fetch.text(store, run, _MATRIX, _MATRIX_BYTES)
    try:
        names = parse_json(content, _MATRIX_BYTES)["classes"]
        if len(names) != config.data.classes or not all(isinstance(name, str) for name in names):
            raise ValueError(f"expected {config.data.classes} class names")
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"run {run.info.run_id}, {_MATRIX}: {error}") from error
    return tuple(names)


def temperature(store: Store, classifier: Classifier) -> float:
    """Return the temperature that calibrates a model's probabilities, as its run fitted it on the validation images.

    Raises:
        UserError: if the run has logged none.
    """
    with store.connected() as client:
        logged = client.get_run(classifier.run_id).data.metrics.get("val/temperature")
    if logged is None or not 0 < logged < math.inf:
        raise UserError(f"{classifier.name} has no val/temperature: it was logged before runs were calibrated")
    return float(logged)


def rebuild(store: Store, classifier: Classifier, precision: str | None = None) -> keras.Model:
    """Rebuild a logged model on the CPU.

    Args:
        store: contains the model.
        classifier: the model.
        precision: to compute with, if not that of the run. The weights are float32 in any case.

    Returns:
        Model from images (N, H, W, C) uint8 to class probabilities (N, C) float32.

    Raises:
        UserError: as `load`.
    """
    return _load(store, classifier, "cpu", precision or classifier.config.training.precision)[1]


def load(
    store: Store, classifier: Classifier, prediction: PredictionConfig | None = None
) -> tuple[keras.Model, keras.Model]:
    """Load a logged model on the device of this machine.

    Args:
        store: contains the model.
        classifier: the model.
        prediction: the views of each image whose probabilities are averaged; None: as its run did.

    Returns:
        The model, which returns logits (N, C), and its classifier, which returns probabilities (N, C).

    Raises:
        UserError: if it is an ensemble, or if the weights cannot be read or do not fit the network that the run's
            config describes.
    """
    return _load(store, classifier, "auto", classifier.config.training.precision, prediction)


def _load(
    store: Store, classifier: Classifier, device: str, precision: str, prediction: PredictionConfig | None = None
) -> tuple[keras.Model, keras.Model]:
    if classifier.recipe:
        raise UserError(f"{classifier.name} is an ensemble of several networks: name one of its members")
    training = replace(classifier.config.training, device=device, precision=precision)
    with _weights(store, classifier) as (file, where):
        return predict.load(replace(classifier.config, training=training), file, where, prediction)


@contextmanager
def _weights(store: Store, classifier: Classifier) -> Iterator[tuple[Path, str]]:
    """The .keras file of a model, and where it is from; it is there until the context ends."""
    with tempfile.TemporaryDirectory() as folder:
        file = fetch.keras_file(store, classifier.model_id, Path(folder))
        yield file, f"model {classifier.model_id} of {store.uri}"


def probabilities(
    store: Store, classifier: Classifier, images: Images, temperature: float = 1.0
) -> npt.NDArray[np.float32]:
    """Predict class probabilities with a logged model.

    Args:
        store: contains the model.
        classifier: the model.
        images: (N, H, W, C) uint8, of the shape in its config.
        temperature: to scale the probabilities by.

    Returns:
        Class probabilities (N, C) float32.

    Raises:
        UserError: if the weights cannot be read, or do not fit the network that the run's config describes.
    """
    if classifier.recipe:
        predicted = ensemble_model.probabilities(store, classifier.model_id, classifier.recipe, images)
    else:
        with _weights(store, classifier) as (file, where):
            predicted = predict.probabilities(classifier.config, file, where, images)
    if temperature == 1.0:
        return predicted
    return np.exp(calibration.scale(calibration.logarithms(predicted), temperature)).astype(np.float32)
