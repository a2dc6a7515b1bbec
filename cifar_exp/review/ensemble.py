"""Ensembles of classifiers, computed from stored probabilities: mean, greedy selection, diversity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

PROBABILITIES, LOGITS = "probabilities", "logits"
MEANS = (PROBABILITIES, LOGITS)
ROUNDS = 25  # of the greedy selection: the most members that it takes, counted with their repetitions

Floats = npt.NDArray[np.floating[Any]]

_ROUNDING = 1e-9  # nats; a smaller gain is one of rounding
_TINY = float(np.finfo(np.float32).tiny)  # stored probabilities are float32 and may underflow to 0


def log_mean(members: Sequence[Floats], weights: Sequence[int], mean: str) -> npt.NDArray[np.float64]:
    """Average the predictions of several classifiers.

    Args:
        members: probabilities of each, (N, C), rows sum to 1.
        weights: of each, at least 0, not all 0.
        mean: `PROBABILITIES`: the arithmetic mean. `LOGITS`: the softmax of the mean logits. It needs no logits: those
            of an image are the logarithms of its probabilities up to a constant, which the softmax removes.

    Returns:
        Logarithms of the probabilities of the ensemble, (N, C), finite.
    """
    total = np.zeros(members[0].shape)
    for member, weight in zip(members, weights, strict=True):
        if weight:
            total += weight * _term(member, mean)
    return _log_probabilities(total / sum(weights), mean)


def select(members: Sequence[Floats], labels: npt.NDArray[np.integer[Any]], mean: str) -> tuple[int, ...]:
    """Choose members greedily, with replacement (Caruana et al., 2004, Ensemble selection from libraries of models).

    In each round, the member is added that gives the ensemble the lowest mean cross-entropy; a member may be added
    again. Of the ensembles after each round, the best is taken, the smallest of equals.

    Args:
        members: probabilities of each for the validation images, (N, C).
        labels: of these images, (N,) int.
        mean: as in `log_mean`.

    Returns:
        How often each member was added: its weight.
    """
    of_label = np.arange(len(labels)), labels
    terms = [_term(member, mean) for member in members]
    total = np.zeros_like(terms[0])
    counts, best, lowest = np.zeros(len(members), int), np.zeros(len(members), int), np.inf
    for size in range(1, ROUNDS + 1):
        losses = [_loss((total + term) / size, of_label, mean) for term in terms]
        added = int(np.argmin(losses))
        counts[added] += 1
        total += terms[added]
        if losses[added] < lowest - _ROUNDING:
            lowest, best = losses[added], counts.copy()
    return tuple(best.tolist())


def _term(probabilities: Floats, mean: str) -> npt.NDArray[np.float64]:
    """What is added up: probabilities, or their logarithms."""
    wide = probabilities.astype(np.float64)
    return np.log(np.maximum(wide, _TINY)) if mean == LOGITS else wide


def _log_probabilities(averaged: npt.NDArray[np.float64], mean: str) -> npt.NDArray[np.float64]:
    from scipy.special import log_softmax

    if mean == LOGITS:
        normalized: npt.NDArray[np.float64] = log_softmax(averaged, axis=1)
        return normalized
    return np.log(np.maximum(averaged, _TINY))


def _loss(averaged: npt.NDArray[np.float64], of_label: tuple[Any, ...], mean: str) -> float:
    """Mean cross-entropy of the labels. Of probabilities, only those of the labels need a logarithm."""
    if mean == LOGITS:
        largest = averaged.max(axis=1)
        normalizer = largest + np.log(np.exp(averaged - largest[:, np.newaxis]).sum(axis=1))
        return float(np.mean(normalizer - averaged[of_label]))
    return float(-np.log(np.maximum(averaged[of_label], _TINY)).mean())


@dataclass(frozen=True)
class Diversity:
    """How much the members differ on the test images.

    Attributes:
        disagreement: share of the images for which two members predict different classes, (M, M).
        error_correlation: correlation (phi) of the errors of two members, (M, M); NaN for a member that makes no
            errors, or only errors.
    """

    disagreement: npt.NDArray[np.float64]
    error_correlation: npt.NDArray[np.float64]

    @property
    def mean_disagreement(self) -> float | None:
        """Mean over all pairs; None for a single member."""
        return _mean_of_pairs(self.disagreement)

    @property
    def mean_error_correlation(self) -> float | None:
        """Mean over all pairs that have one; None if there are none."""
        return _mean_of_pairs(self.error_correlation)


def diversity(predicted: Sequence[npt.NDArray[np.integer[Any]]], labels: npt.NDArray[np.integer[Any]]) -> Diversity:
    """Measure how much classifiers differ.

    Args:
        predicted: classes that each predicts, (N,) int.
        labels: true classes, (N,) int.
    """
    answers = np.stack(predicted)
    disagreement = np.stack([(answers != own).mean(axis=1) for own in answers])
    with np.errstate(invalid="ignore", divide="ignore"):  # a member without errors has no correlation
        correlation = np.corrcoef(answers != labels).reshape(len(answers), len(answers))
    return Diversity(disagreement, correlation)


def _mean_of_pairs(matrix: npt.NDArray[np.float64]) -> float | None:
    values = matrix[np.triu_indices(len(matrix), 1)]
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None
