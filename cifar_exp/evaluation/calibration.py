"""Calibration: whether the probabilities of a classifier can be believed.

Of a calibrated classifier, 80 % of the predictions with a confidence of 0.8 are right. The confidence of a prediction
is the probability of the predicted class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp

from cifar_exp.data.splits import Labels

BINS = 15
_LOG_TEMPERATURES = (np.log(0.01), np.log(100.0))
_COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Reliability:
    """Confidence and accuracy of predictions in B bins of their confidence; 0 in a bin without predictions.

    Attributes:
        edges: lowest confidence of each bin, and the highest one of the last, (B + 1,).
        counts: number of predictions, (B,).
        confidence: mean confidence, (B,).
        accuracy: share of right predictions, (B,).
    """

    edges: Floats
    counts: npt.NDArray[np.int64]
    confidence: Floats
    accuracy: Floats

    @property
    def error(self) -> float:
        """Expected calibration error: mean over the predictions of |accuracy - confidence| of their bin, in 0..1."""
        return float(np.average(np.abs(self.accuracy - self.confidence), weights=self.counts))

    def rows(self) -> list[dict[str, float]]:
        """The bins that have predictions, for JSON."""
        columns = (self.edges[:-1], self.edges[1:], self.counts, self.confidence, self.accuracy)
        names = ("from", "to", "count", "confidence", "accuracy")
        rows = [dict(zip(names, row, strict=True)) for row in zip(*(one.tolist() for one in columns), strict=True)]
        return [row for row in rows if row["count"]]


def reliability(labels: Labels, probabilities: Floats, adaptive: bool = False) -> Reliability:
    """Sort predictions into 15 bins by their confidence (Guo et al., 2017, On calibration of modern neural networks).

    Args:
        labels: (N,) int.
        probabilities: (N, C), rows sum to 1.
        adaptive: bins with as many predictions each (Nguyen and O'Connor, 2015), instead of bins of equal width.
    """
    confidence, right = confidences(labels, probabilities)
    order = np.argsort(confidence, kind="stable")
    if adaptive:
        at = np.empty(len(order), np.int64)
        at[order] = np.arange(len(order)) * min(BINS, len(order)) // len(order)
        starts = np.searchsorted(at[order], np.arange(at.max() + 1))
        edges = np.append(confidence[order[starts]], confidence.max())
    else:  # a bin contains its upper edge, as in the paper
        edges = np.linspace(0, 1, BINS + 1)
        at = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, BINS - 1)
    bins = len(edges) - 1
    counts = np.bincount(at, minlength=bins)
    filled = np.maximum(counts, 1)
    means = [np.bincount(at, weights=values, minlength=bins) / filled for values in (confidence, right)]
    return Reliability(edges, counts, *means)


def confidences(labels: Labels, probabilities: Floats) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return the probability of each predicted class, (N,) float64, and whether the prediction is right, (N,) bool."""
    return probabilities.max(axis=1).astype(np.float64), probabilities.argmax(axis=1) == labels


def scores(labels: Labels, probabilities: Floats, log_probabilities: Floats) -> dict[str, float]:
    """Compute the scores of probabilities by name.

    Args:
        labels: (N,) int.
        probabilities: (N, C), rows sum to 1.
        log_probabilities: their natural logarithms, (N, C), finite.

    Returns:
        `nll`: mean negative log-likelihood of the labels, in nats; the same as the loss. `brier`: mean over the images
        of the squared distance between the probabilities and the one-hot label, in 0..2 (Brier, 1950). `ece` and
        `ece_adaptive`: expected calibration error in 15 bins of equal width, and of equal numbers of predictions.
    """
    of_label = np.arange(len(labels)), labels
    distances = np.square(probabilities, dtype=np.float64).sum(axis=1) - 2.0 * probabilities[of_label] + 1
    return {
        "nll": float(-log_probabilities[of_label].mean(dtype=np.float64)),
        "brier": float(distances.mean()),
        "ece": reliability(labels, probabilities).error,
        "ece_adaptive": reliability(labels, probabilities, adaptive=True).error,
    }


def fit_temperature(labels: Labels, log_probabilities: Floats) -> float:
    """Fit the temperature that probabilities need: the one with the highest likelihood of the labels, in 0.01..100.

    Args:
        labels: of validation images, (N,) int.
        log_probabilities: (N, C), finite.

    Returns:
        Above 1 for an overconfident classifier, below 1 for one that is too cautious.
    """
    logits = log_probabilities.astype(np.float64)
    of_label = logits[np.arange(len(labels)), labels]

    def loss(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        return float(np.mean(logsumexp(logits * scale, axis=1) - of_label * scale))

    return float(np.exp(minimize_scalar(loss, bounds=_LOG_TEMPERATURES, method="bounded").x))


def scale(log_probabilities: Floats, temperature: float) -> Floats:
    """Divide logits or logarithms of probabilities, (N, C), by a temperature; return logarithms, rows normalized."""
    scaled: Floats = log_softmax(log_probabilities.astype(np.float64) / temperature, axis=1)
    return scaled


def logarithms(probabilities: Floats) -> Floats:
    """Return the natural logarithms of probabilities, finite where one has underflowed to 0."""
    found: Floats = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
    return found


def accuracy_at_coverage(labels: Labels, probabilities: Floats) -> dict[str, float]:
    """Accuracy among the most confident predictions, by their share of all: what is left if the others go to a person.

    Returns:
        Share, such as `"0.9"` -> accuracy of that many predictions.
    """
    confidence, right = confidences(labels, probabilities)
    sure_first = right[np.argsort(-confidence, kind="stable")]
    return {str(share): float(sure_first[: max(1, round(share * len(labels)))].mean()) for share in _COVERAGES}
