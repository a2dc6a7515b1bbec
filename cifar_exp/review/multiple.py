"""Several tests at once: p-values corrected for their number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for the number of tests by Holm's step-down method.

    The smallest of m p-values is multiplied by m, the next one by m - 1, and so on; none becomes smaller than one
    before it, or larger than 1. If all differences are due to chance, one of them comes out below 0.05 in at most one
    of 20 such families of tests, however the tests depend on each other.

    Source: S. Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics, 1979.

    Args:
        p_values: of m tests, in any order.

    Returns:
        The m corrected p-values, in the same order.
    """
    raw = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(raw, kind="stable")
    corrected = np.empty_like(raw)
    corrected[order] = np.minimum(np.maximum.accumulate(raw[order] * np.arange(len(raw), 0, -1)), 1)
    result: list[float] = corrected.tolist()
    return result
