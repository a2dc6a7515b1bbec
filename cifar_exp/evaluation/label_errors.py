"""Which labels look wrong, by confident learning (Northcutt, Jiang and Chuang, 2021), as cleanlab computes it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cifar_exp.errors import UserError
from cifar_exp.importing import importing

_EXTRA = "pip install 'cifar-exp[mislabeled]'"


def find(
    labels: npt.NDArray[Any], probabilities: npt.NDArray[np.floating[Any]]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Score each label, and flag those that look wrong.

    Args:
        labels: given classes, (N,) integers.
        probabilities: predicted for images that the models did not train on, (N, C).

    Returns:
        The probability of each given label (cleanlab's `self_confidence`), (N,), low where it looks wrong; and which
        labels look wrong, (N,) bool: as many as the confident joint says of each pair of classes
        (`prune_by_noise_rate`).

    Raises:
        UserError: if cleanlab is not installed, or the labels are of one class.
    """
    if len(np.unique(labels)) < 2:
        raise UserError(f"all {len(labels):,} labels are of one class, expected at least two classes")
    try:
        with importing("cleanlab"):
            from cleanlab.filter import find_label_issues
            from cleanlab.rank import get_label_quality_scores
    except ImportError as error:
        raise UserError(f"confident learning needs cleanlab: {_EXTRA}") from error
    labels = labels.astype(np.int64)
    scores = get_label_quality_scores(labels, probabilities, method="self_confidence")
    return scores, find_label_issues(labels, probabilities, n_jobs=1)  # more processes would import all of this again
