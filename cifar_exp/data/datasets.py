"""Data sets as uint8 arrays, split for training, validation and test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import lru_cache
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from cifar_exp import plugins
from cifar_exp.data import corrections, splitting
from cifar_exp.data.catalog import OFFICIAL
from cifar_exp.data.listing import Listing
from cifar_exp.data.schema import DATA_SETS, FILES, USED_BY, DataConfig
from cifar_exp.data.splits import UNASSIGNED, Description, Labels, Split, Splits, check_arrays, label_type
from cifar_exp.data.weights import class_weights
from cifar_exp.errors import UserError, did_you_mean, reason
from cifar_exp.setting import MISSING

if TYPE_CHECKING:
    from cifar_exp.data.image_files import ImageFiles

T = TypeVar("T")

_DIGITS_SHAPE = (32, 32, 3)
_IN_MEMORY = 1 << 28  # bytes of image files that are read into memory; an epoch takes a few times as much


@lru_cache(maxsize=2)  # most jobs of a sweep use the same images
def load(config: DataConfig) -> Splits:
    """Load and split a data set.

    Args:
        config: selects the data set, its folder, the split and the lists of wrong labels.

    Returns:
        The three splits. Loading an equal config again returns the same arrays.

    Raises:
        UserError: if the files are missing or altered, if there are too few images for the split, or if the config
            states another shape or number of classes than the data has.
    """
    description = describe(config)
    for setting, own in (("image_shape", description.image_shape), ("classes", len(description.class_names))):
        if (stated := getattr(config, setting)) not in (MISSING, own):
            raise UserError(f"data.{setting}: got {stated}, expected {own}: it follows from data={config.name}")
    splits = _load(config, description)
    check_arrays(splits, description, config.name)
    return _adjusted(splits, config)


def _adjusted(splits: Splits, config: DataConfig) -> Splits:
    """The splits with the lists of wrong labels, and as many training images as the config says."""
    splits = corrections.apply(splits, config)
    if empty := next((name for name in ("training", "validation", "test") if not len(getattr(splits, name))), None):
        raise UserError(f"data.exclude: got all {empty} images, expected some to be left")
    if config.train_images is not None:
        training = _first_of_each_class(splits.training, config.train_images, len(splits.classes))
        splits = replace(splits, training=training)
    class_weights(config.class_weights, splits.training.labels, splits.classes)  # refuses an unknown class
    return splits


def _load(config: DataConfig, description: Description) -> Splits:
    if config.name in FILES:
        return _image_files(config)
    if official := OFFICIAL.get(config.name):
        with readable(config.name):
            folder, source = official.release().find(config.dir, config.verify)
            train = _numbered(Split(*official.read(folder, config, False)), 0)
            test = _numbered(Split(*official.read(folder, config, True)), len(train))
    elif config.name == "digits":
        source = "scikit-learn load_digits, upscaled to 32x32x3"
        train, test = _digits()
    else:
        entry = plugins.installed(plugins.DATASETS)[config.name]
        return _instance(plugins.load(entry).load(config), Splits, entry)
    training, validation = _split(train, test, config)
    return Splits(training, validation, test, description.class_names, source)


@contextmanager
def readable(name: str) -> Iterator[None]:
    """Context manager that refuses files of an official release in one line if they cannot be read.

    Args:
        name: of the data set.

    Raises:
        UserError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"data={name}: {reason(error)}") from error


def describe(config: DataConfig) -> Description:
    """Describe a data set. This is cheap: every composition of a config asks for it.

    Args:
        config: selects the data set. Its `image_shape` and `classes` are not used.

    Raises:
        UserError: if there is no such data set.
    """
    _check_settings(config)
    return _describe(replace(config, image_shape=MISSING, classes=MISSING))


def forget() -> None:
    """Forget what was described and loaded: files may have changed since."""
    load.cache_clear()
    _describe.cache_clear()


@lru_cache(maxsize=256)
def _describe(config: DataConfig) -> Description:
    if official := OFFICIAL.get(config.name):
        return Description(official.image_shape, official.class_names(config), official.images)
    if config.name in FILES:
        return Description(*_own().describe(config))
    if config.name == "digits":
        return Description(_DIGITS_SHAPE, tuple("0123456789"), 1_437)
    installed = plugins.installed(plugins.DATASETS)
    if entry := installed.get(config.name):
        return _instance(plugins.load(entry).describe(config), Description, entry)
    names = sorted({*DATA_SETS, *installed})
    hint = did_you_mean(config.name, names)
    raise UserError(f"data.name: got {config.name!r}, expected one of {', '.join(names)}{hint}")


def _check_settings(config: DataConfig) -> None:
    """Refuse settings that the data set does not use: the user expects another data set, or another split.

    Raises:
        UserError: naming the setting and the data sets that use it.
    """
    for field in fields(config):
        value = getattr(config, field.name)
        if value == field.default:
            continue
        if (choices := field.metadata.get("choices")) and value not in choices:
            hint = did_you_mean(str(value), choices)
            raise UserError(f"data.{field.name}: got {value!r}, expected one of {', '.join(choices)}{hint}")
        used_by = USED_BY.get(field.name, (config.name,))
        if config.name in DATA_SETS and config.name not in used_by:
            raise UserError(f"data.{field.name}: data={config.name} does not use it; of use for {', '.join(used_by)}")
    if config.fold and config.folds is None:
        raise UserError(f"data.fold: got {config.fold}, which needs data.folds, the number of parts")


def _instance(made: object, expected: type[T], entry: EntryPoint) -> T:
    """What a function of an installed package has returned.

    Raises:
        UserError: if it is of another type.
    """
    if not isinstance(made, expected):
        where = f"data={entry.name} of {plugins.package(entry)}"
        raise UserError(f"{where}: got {type(made).__name__}, expected cifar_exp.data.splits.{expected.__name__}")
    return made


def test_images(config: DataConfig) -> Split | None:
    """Load the test images of a data set without downloading anything.

    Args:
        config: selects the data set. Any copy of the official files is accepted.

    Returns:
        The test split, or `None` if the data set is unknown or not on this machine.

    Raises:
        UserError: if a file is truncated, or cannot be read.
    """
    if config.name == "digits":
        return _digits()[1]
    official = OFFICIAL.get(config.name)
    if official is None:
        return None
    with readable(config.name):
        if not official.release().is_available(config.dir):
            return None
        return Split(*official.read(official.release().find(config.dir, "size").folder, config, True))


def _digits() -> tuple[Split, Split]:
    """The 1,797 digits of scikit-learn, 8x8 in 0..16 enlarged to 32x32x3 in 0..255; a fifth of each class is test."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = np.round(digits.images * (255 / 16)).astype(np.uint8)
    factor = _DIGITS_SHAPE[0] // grey.shape[1]
    enlarged = grey.repeat(factor, axis=1).repeat(factor, axis=2)
    all_digits = Split(np.repeat(enlarged[..., np.newaxis], _DIGITS_SHAPE[2], axis=-1), digits.target.astype(np.uint8))
    return _stratified(_numbered(all_digits, 0), share=0.2, seed=0)


def _numbered(split: Split, first: int) -> Split:
    return replace(split, numbers=np.arange(first, first + len(split)))


def _image_files(config: DataConfig) -> Splits:
    found = _own().load(config)
    parts = _parts(found)
    if found.images.nbytes <= _IN_MEMORY:
        parts = {name: replace(part, images=np.asarray(part.images)) for name, part in parts.items()}
    return _splits(found, parts, config)


def _parts(found: ImageFiles) -> dict[str, Split]:
    """Split -> its images; all under `"unassigned"` if they have none."""
    of_class = {name: label for label, name in enumerate(found.classes)}
    labels: Labels = np.array([of_class[name] for name in found.listing.labels]).astype(label_type(len(of_class)))
    everything = _numbered(Split(found.images, labels), 0)
    if not found.listing.splits:
        return {UNASSIGNED: everything}
    assigned = np.array(found.listing.splits)
    return {name: everything.take(np.flatnonzero(assigned == name)) for name in ("training", "validation", "test")}


def _splits(found: ImageFiles, parts: Mapping[str, Split], config: DataConfig) -> Splits:
    validation = parts["test" if config.validation == "test" else "validation"]
    return Splits(parts["training"], validation, parts["test"], found.classes, found.source, found.listing)


def inspect(config: DataConfig) -> tuple[dict[str, Split], tuple[str, ...], str, Listing, list[str]]:
    """Load what can be read of a user's own images.

    Args:
        config: selects the images: `data=folder`, `csv` or `parquet`.

    Returns:
        Split -> images and labels, all under `"unassigned"` if they cannot be split; the class names; the source; the
        files; and why a run would be refused.

    Raises:
        UserError: if nothing can be read, or if labels or files are missing.
    """
    found, refusals = _own().inspect(config)
    parts = _parts(found)
    if UNASSIGNED not in parts:
        try:
            _adjusted(_splits(found, parts, config), config)
        except UserError as error:
            refusals.append(str(error))
    return (
        {name: part for name, part in parts.items() if len(part)},
        found.classes,
        found.source,
        found.listing,
        refusals,
    )


def _own() -> ModuleType:
    from cifar_exp.data import image_files  # imports Pillow

    return image_files


def _split(train: Split, test: Split, config: DataConfig) -> tuple[Split, Split]:
    if config.folds is not None:
        held_out = splitting.folds(train.labels, None, config.folds, config.fold, config.split_seed)
        return train.take(np.setdiff1d(np.arange(len(train)), held_out)), train.take(held_out)
    if config.validation == "test":
        return train, test
    if config.validation in ("stratified", "given"):
        return _stratified(train, config.validation_share, config.split_seed)
    first = splitting.last(len(train), config.validation_share)
    indices = np.arange(len(train))
    return train.take(indices[:first]), train.take(indices[first:])


def _stratified(split: Split, share: float, seed: int) -> tuple[Split, Split]:
    """Split off the same share of each class, as (rest, share); both keep the original order."""
    rest, held_out = splitting.stratified(split.labels, share, seed, "validation_share")
    return split.take(rest), split.take(held_out)


def _first_of_each_class(split: Split, count: int, classes: int) -> Split:
    """Select `count` images: the first `count / classes` of each class, in their original order."""
    per_class = count // classes
    indices_by_class = [np.flatnonzero(split.labels == label) for label in range(classes)]
    if (fewest := min(map(len, indices_by_class))) < per_class:
        raise UserError(
            f"data.train_images={count}: a class has only {fewest} training images; take at most {fewest * classes}"
        )
    return split.take(np.sort(np.concatenate([indices[:per_class] for indices in indices_by_class])))
