"""Which images train, validate and test: a function of labels, groups and settings, the same on every machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cifar_exp.errors import UserError
from cifar_exp.importing import importing

if TYPE_CHECKING:
    from cifar_exp.data.schema import DataConfig

Indices = npt.NDArray[np.intp]
Names = npt.NDArray[np.str_]


def assign(labels: Names, given: Sequence[str], groups: Sequence[str], config: DataConfig) -> Names:
    """Assign each image to a split.

    Args:
        labels: (N,) classes of the images.
        given: split of each image as the folders or a column say; empty if nothing says so.
        groups: of the images; empty if there are none. A group is in one split only.
        config: its `validation`, shares, folds and `split_seed` decide the rest.

    Returns:
        (N,) of `"training"`, `"validation"` and `"test"`.

    Raises:
        UserError: if a class has too few images, a group would be in two splits, or folds would not be used.
    """
    splits = np.array(given, dtype="<U10") if given else np.full(len(labels), "training", "<U10")
    group_of = np.array(groups) if groups else None
    validation_is_given = config.validation == "given" and "validation" in splits
    if not validation_is_given:
        splits[splits == "validation"] = "training"
    tests_are_given = "test" in splits
    if tests_are_given:
        _check_folds(config, validation_is_given)
    elif config.folds is not None:
        splits[_fold(labels, splits, group_of, config)] = "test"
    else:
        test = _share(labels, splits, group_of, config.test_share, config.split_seed, "test_share")
        splits[test] = "test"
    if tests_are_given and config.folds is not None:
        splits[_fold(labels, splits, group_of, config)] = "validation"
    elif not validation_is_given and config.validation != "test":
        rest = np.flatnonzero(splits == "training")
        if config.validation == "last":
            held_out = rest[last(len(rest), config.validation_share) :]
        else:
            held_out = _share(labels, splits, group_of, config.validation_share, config.split_seed, "validation_share")
        splits[held_out] = "validation"
    if group_of is not None:
        _check_groups(splits, group_of)
    return splits


def _check_folds(config: DataConfig, validation_is_given: bool) -> None:
    """Refuse folds of a data set that has test images if others than those of the fold would validate.

    Raises:
        UserError: naming the settings.
    """
    if config.folds is not None and (validation_is_given or config.validation == "test"):
        which = "validation images are given" if validation_is_given else "the test images validate"
        raise UserError(
            f"data.folds={config.folds}: {which} (data.validation={config.validation}), so no fold is used; leave it "
            "out, or set data.validation=stratified"
        )


def stratified(labels: npt.NDArray[np.generic], share: float, seed: int, setting: str) -> tuple[Indices, Indices]:
    """Divide images so that each class has the same share in both parts.

    Args:
        labels: (N,) classes of the images.
        share: of the second part, between 0 and 1.
        seed: decides which images it has.
        setting: of the share, for the message of a refusal.

    Returns:
        Indices of the rest and of the share, both ascending.

    Raises:
        UserError: if a class has too few images.
    """
    with importing("sklearn"):
        from sklearn.model_selection import train_test_split

    try:
        rest, held_out = train_test_split(np.arange(len(labels)), test_size=share, stratify=labels, random_state=seed)
    except ValueError as error:
        few = [str(label) for label, count in Counter(labels.tolist()).items() if count < 2]
        of_classes = f" (one image only of class {', '.join(few[:10])})" if few else ""
        raise UserError(f"data.{setting}={share} of {len(labels)} images: {error}{of_classes}") from None
    return np.sort(rest), np.sort(held_out)


def last(images: int, share: float) -> int:
    """Index of the first image of the last share, rounded as Keras's `validation_split` does.

    Raises:
        UserError: if there is none before it, or none from it on.
    """
    first = int(images * (1 - share))
    if not 0 < first < images:
        raise UserError(f"data.validation_share={share} of {images} images leaves none to train or none to validate")
    return first


def folds(
    labels: npt.NDArray[np.generic],
    groups: npt.NDArray[np.generic] | None,
    count: int,
    fold: int,
    seed: int,
    setting: str = "",
) -> Indices:
    """The images of one of `count` parts of about equal size, which have the same share of each class.

    Args:
        labels: (N,) classes of the images.
        groups: (N,) of the images, each of which is in one part only; or `None`.
        count: number of parts.
        fold: number of the part, from 0.
        seed: decides which images a part has.
        setting: that asks for the parts, with its value, for the message of a refusal; `data.folds` by default.

    Returns:
        Indices of the images of the part, ascending.

    Raises:
        UserError: if there are too few images or groups.
    """
    with importing("sklearn"):
        from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    of_class = Counter(labels.tolist())
    if groups is None:
        kind, enough = StratifiedKFold, {f"images of class {label}": images for label, images in of_class.items()}
    else:  # scikit-learn takes rare classes, but not only such
        kind = StratifiedGroupKFold
        most = max(of_class.values(), default=0)
        enough = {"groups": len(set(groups.tolist())), "images of the largest class": most}
    what, fewest = min(enough.items(), key=lambda item: item[1], default=("images that are not test images", 0))
    if fewest < count:
        where = setting or f"data.folds={count}"
        raise UserError(f"{where}: {count} parts of {fewest} {what}, expected at least as many as parts")
    parts = kind(count, shuffle=True, random_state=seed).split(np.zeros(len(labels)), labels, groups)
    for number, (_, held_out) in enumerate(parts):
        if number == fold:
            return np.sort(held_out)
    raise UserError(f"data.fold: got {fold}, expected below data.folds, {count}")


def _share(labels: Names, splits: Names, groups: Names | None, share: float, seed: int, setting: str) -> Indices:
    """Images to be moved out of the training images: about this share, of each class and whole groups."""
    rest = np.flatnonzero(splits == "training")
    if groups is None:
        return rest[stratified(labels[rest], share, seed, setting)[1]]
    if share > 0.5:
        raise UserError(f"data.{setting}={share}: expected at most 0.5 with data.group")
    return rest[folds(labels[rest], groups[rest], round(1 / share), 0, seed, f"data.{setting}={share}")]


def _fold(labels: Names, splits: Names, groups: Names | None, config: DataConfig) -> Indices:
    assert config.folds is not None
    rest = np.flatnonzero(splits == "training")
    in_group = None if groups is None else groups[rest]
    return rest[folds(labels[rest], in_group, config.folds, config.fold, config.split_seed)]


def _check_groups(splits: Names, groups: Names) -> None:
    of_group: dict[str, str] = {}
    for split, group in zip(splits.tolist(), groups.tolist(), strict=True):
        if of_group.setdefault(group, split) != split:
            raise UserError(
                f"group {group!r} is in the {of_group[group]} and the {split} images, expected one of them; leave the "
                "splits to data.group alone, or correct the given splits"
            )
