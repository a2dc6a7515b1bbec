"""A logged model, found by its run or its MLflow address, and what it says of images.

A model that comes from a shared server is data. What MLflow would load by could name any code; so the network is built
anew from the config that its run logged, which can name layers alone, and is given the weights.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cifar_exp.config.schema import Config
from cifar_exp.data.datasets import Images, class_names
from cifar_exp.errors import UserError
from cifar_exp.evaluation import predict
from cifar_exp.experiment import reproduce
from cifar_exp.review import promotion
from cifar_exp.tracking import fetch
from cifar_exp.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

_ID = r"m-[0-9a-f]{32}"
_FORMS = "models:/NAME@ALIAS, models:/NAME/VERSION, models:/m-... or runs:/RUN/model"


@dataclass(frozen=True)
class Classifier:
    """A logged model."""

    name: str
    """For a person."""
    run_id: str
    model_id: str
    config: Config
    """Of its run."""

    @property
    def classes(self) -> tuple[str, ...]:
        """In the order of the probabilities."""
        return class_names(self.config.data.name)


def of_run(store: Store, run: Run) -> Classifier:
    """The model that a run logged.

    Raises:
        UserError: if it logged none, or its config is none that could have been logged.
    """
    if not run.outputs or not run.outputs.model_outputs:
        raise UserError(f"run {run.info.run_id} ({run.info.status}) logged no model")
    return _classifier(store, run.outputs.model_outputs[-1].model_id, run.info.run_id, "")


def of_uri(store: Store, uri: str) -> Classifier:
    """The model of an MLflow address.

    Raises:
        UserError: if there is none, or it was not made by a run of cifar_exp.
    """
    if found := re.fullmatch(r"runs:/([0-9a-f]{32})/model", uri):
        with store.asked() as client:
            return of_run(store, client.get_run(found[1]))
    if found := re.fullmatch(rf"models:/({_ID})", uri):
        return _of_logged(store, found[1], "")
    with store.asked() as client:
        if found := re.fullmatch(r"models:/([^/@]+)@([^/@]+)", uri):
            holds = promotion.holder(client, found[1], found[2])
            if holds is None:
                raise UserError(f"nothing is {found[1]}@{found[2]} in {store.uri}: cifar-exp promote RUN makes it so")
            version = holds
        elif found := re.fullmatch(r"models:/([^/@]+)/(\d+)", uri):
            version = client.get_model_version(found[1], found[2])
        else:
            raise UserError(f"{uri!r} is no address of a model: expected {_FORMS}")
    source = re.fullmatch(rf"models:/({_ID})", version.source or "")
    if source is None:
        raise UserError(f"{uri} was registered from {version.source}, not from the model of a run: promote a run")
    return _of_logged(store, source[1], f"{uri}, version {version.version}: ")


def _of_logged(store: Store, model_id: str, prefix: str) -> Classifier:
    with store.asked() as client:
        run_id = client.get_logged_model(model_id).source_run_id
    if not run_id:
        raise UserError(f"model {model_id} is of no run, whose config would say how to build it")
    return _classifier(store, model_id, run_id, prefix)


def _classifier(store: Store, model_id: str, run_id: str, prefix: str) -> Classifier:
    logged = reproduce.read(store, run_id)
    return Classifier(f"{prefix}run {logged.name} ({run_id})", run_id, model_id, logged.config)


def probabilities(store: Store, classifier: Classifier, images: Images) -> npt.NDArray[np.float32]:
    """Class probabilities (N, C) of images (N, 32, 32, 3) uint8.

    Raises:
        UserError: if the weights cannot be had or are not those of the network that its run's config describes.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = fetch.keras_file(store, classifier.model_id, Path(folder))
        where = f"model {classifier.model_id} of {store.uri}"
        return predict.probabilities(classifier.config, file, where, images)
