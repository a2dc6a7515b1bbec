"""The images that a logged model is evaluated on: those of its own run, or of another data set with its classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cifar_exp.config.composition import plan
from cifar_exp.data import datasets
from cifar_exp.data.schema import FILES, DataConfig
from cifar_exp.data.splits import Labels, Split, Splits, label_type
from cifar_exp.errors import UserError, did_you_mean
from cifar_exp.experiment import reproduce
from cifar_exp.review.logged_model import Classifier
from cifar_exp.review.run_predictions import test_digest
from cifar_exp.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run


@dataclass(frozen=True)
class ChosenImages:
    """Images with labels that count the classes of a model.

    Attributes:
        split: the images and labels.
        data: name of their data set.
        part: `test`, `validation`, `training` or `all`.
        source: where they come from.
        own: whether they are images that the run was tested on; None if the run has not logged which these are.
    """

    split: Split
    data: str
    part: str
    source: str
    own: bool | None

    @property
    def words(self) -> str:
        """What they are, for the user: `360 test images of digits`."""
        return f"{len(self.split):,} {'' if self.part == 'all' else f'{self.part} '}images of {self.data}"

    def limited(self, count: int | None) -> ChosenImages:
        """This number of them, at random, the same ones each time; all of them if there are not more."""
        if count is None or count >= len(self.split):
            return self
        chosen = np.random.default_rng(0).choice(len(self.split), count, replace=False)
        return replace(self, split=self.split.take(np.sort(chosen)))


def choose(
    store: Store, run: Run, classifier: Classifier, data: str | None, overrides: Sequence[str], part: str
) -> ChosenImages:
    """Load the images.

    Args:
        store: contains the run.
        run: that logged the model.
        classifier: the model.
        data: name of another data set; None: the one of the run.
        overrides: settings of the data, such as `data.dir=...`.
        part: `test`, `validation`, `training` or `all`.

    Raises:
        UserError: if images are missing, or if they have other classes or another shape than the model takes.
    """
    for override in overrides:
        if not override.startswith("data."):
            raise UserError(f"{override}: only settings of the images can be changed here, such as data.dir=...")
    config = _config(store, run, data, overrides)
    described, shape = datasets.describe(config), classifier.config.data.image_shape
    labels = _labels_of(described.class_names, classifier)
    if described.image_shape != shape:
        got, expected = (" x ".join(map(str, one)) for one in (described.image_shape, shape))
        remedy = f"; data.size=[{shape[0]},{shape[1]}] resizes them" if config.name in FILES else ""
        raise UserError(f"data={config.name}: the images are {got}, and {classifier.name} takes {expected}{remedy}")
    splits = datasets.load(config)
    split = _part(splits, part)
    chosen = replace(split, labels=labels[split.labels])
    logged = test_digest(run)
    own = None if logged is None else chosen.sha256.startswith(logged)
    return ChosenImages(chosen, config.name, part, splits.source, own)


def _config(store: Store, run: Run, data: str | None, overrides: Sequence[str]) -> DataConfig:
    if data is None:
        return reproduce.read(store, run.info.run_id, overrides).config.data
    # A model that takes images of any shape: only the data is used.
    (config,) = plan([f"data={data}", "model=dense", *overrides], multirun=False).jobs
    return config.data


def _labels_of(classes: Sequence[str], classifier: Classifier) -> Labels:
    """The label that the model has for each class of a data set."""
    known = {name: label for label, name in enumerate(classifier.classes)}
    if unknown := [name for name in classes if name not in known]:
        hint = did_you_mean(unknown[0], known)
        what = f"class {unknown[0]!r} is not one of {classifier.name}{hint}"
        raise UserError(f"{what}: the classes of data and model must be the same ({_first(classifier.classes)})")
    if missing := [name for name in known if name not in classes]:
        what = f"there are no images of class {missing[0]!r} of {classifier.name}"
        raise UserError(f"{what}: the classes of data and model must be the same ({_first(classifier.classes)})")
    labels: Labels = np.array([known[name] for name in classes], label_type(len(known)))
    return labels


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")


def _part(splits: Splits, part: str) -> Split:
    if part != "all":
        chosen: Split = getattr(splits, part)
        return chosen
    validation = [] if splits.validation.sha256 == splits.test.sha256 else [splits.validation]
    parts = [splits.training, *validation, splits.test]
    images = np.concatenate([np.asarray(one.images) for one in parts])
    return Split(images, np.concatenate([one.labels for one in parts]))
