"""Confidence intervals of accuracies."""

from __future__ import annotations

CONFIDENCE = 0.95  # of all intervals


def wilson(correct: int, images: int) -> tuple[float, float]:
    """Wilson's 95 % confidence interval of an accuracy.

    Args:
        correct: number of images that were classified correctly.
        images: number of images, at least 1.
    """
    from scipy import stats

    found = stats.binomtest(correct, images).proportion_ci(CONFIDENCE, "wilson")
    return float(found.low), float(found.high)
