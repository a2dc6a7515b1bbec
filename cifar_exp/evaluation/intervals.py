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


def of_accuracy(accuracy: float | None, images: int | None) -> tuple[float, float] | None:
    """Wilson's interval of a logged accuracy; None if it is no share, or the number of images is unknown."""
    if accuracy is None or not images or not 0 <= accuracy <= 1:
        return None
    return wilson(round(accuracy * images), images)
