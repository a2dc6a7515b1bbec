"""Weights of the classes in the training loss, for classes of different sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cifar_exp.data.splits import no_class
from cifar_exp.errors import UserError
from cifar_exp.importing import importing

NONE, BALANCED = "none", "balanced"

Weights = npt.NDArray[np.float32]  # (classes,)


def class_weights(setting: Any, labels: npt.NDArray[Any], class_names: Sequence[str]) -> Weights | None:
    """The weight of each class in the training loss, or `None` if all count the same.

    Args:
        setting: `data.class_weights`: `"none"`, `"balanced"` or class name -> weight; classes without one weigh 1.
        labels: of the training images, (N,).
        class_names: in the order of the labels.

    Returns:
        `(classes,)` float32. Balanced weights are those of `sklearn.utils.class_weight.compute_class_weight`: the mean
        weight of the training images is 1. A class without training images weighs 1.

    Raises:
        UserError: if the setting is none of these.
    """
    if setting == NONE:
        return None
    weights = np.ones(len(class_names), np.float32)
    if setting == BALANCED:
        with importing("sklearn"):
            from sklearn.utils.class_weight import compute_class_weight

        present = np.unique(labels)
        weights[present] = compute_class_weight(BALANCED, classes=present, y=labels)
        return weights
    if not isinstance(setting, Mapping):
        raise UserError(f"data.class_weights: got {setting!r}, expected none, balanced or {{class: weight}}")
    for name, weight in setting.items():
        if str(name) not in class_names:
            raise UserError(f"data.class_weights: {no_class(str(name), class_names)}")
        is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not is_number or not math.isfinite(weight) or weight < 0:
            raise UserError(f"data.class_weights.{name}: got {weight!r}, expected a number of at least 0")
        weights[class_names.index(str(name))] = weight
    if not weights[np.unique(labels)].any():
        raise UserError("data.class_weights: got 0 for every class that has training images")
    return weights
