"""Every two of a few runs, on the same test images: which is better, and on which images one alone is right."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from cifar_exp.data.datasets import Images
from cifar_exp.review import paired
from cifar_exp.review.paired import Right
from cifar_exp.review.run_results import RunResults

_SHOWN = 6  # images of each kind, of each two runs


def of(names: Sequence[str], details: Sequence[RunResults], images: Images | None) -> dict[str, Any]:
    """For the page, as JSON.

    Args:
        names: of the runs.
        details: of the same, each with predictions, all of the same images.
        images: those, (N, 32, 32, 3) uint8, if there are any.

    Returns:
        classes; runs: name, accuracy and confusion matrix of each; pairs, "0,1": words of B beside A and the other way
        round, and the images that A, or B, alone is right on, those first that the other is surest of; of these images
        labels, answers (class and its probability, by run) and images (PNG).
    """
    frames = [detail.predictions for detail in details]
    assert all(frame is not None for frame in frames)
    rights = [paired.right(frame) for frame in frames if frame is not None]
    answers = [_Answers(detail) for detail in details]
    pairs: dict[str, Any] = {}
    for a, b in combinations(range(len(names)), 2):
        test = paired.compare(rights[a], rights[b], names[a], names[b])
        pairs[f"{a},{b}"] = {
            "words": [test.words, test.turned().words],
            "only_a": test.only_a,
            "only_b": test.only_b,
            "a": _instructive(rights[a], rights[b], answers[b]),
            "b": _instructive(rights[b], rights[a], answers[a]),
        }
    shown = sorted({index for pair in pairs.values() for side in "ab" for index in pair[side]})
    return {
        "classes": details[0].classes,
        "runs": [
            {"name": name, "accuracy": float(right.mean()), "matrix": one.matrix.tolist()}
            for name, right, one in zip(names, rights, answers, strict=True)
        ],
        "pairs": pairs,
        "labels": {index: int(answers[0].labels[index]) for index in shown},
        "answers": {
            index: [[int(one.predicted[index]), round(float(one.sure[index]), 3)] for one in answers] for index in shown
        },
        "images": {index: _png(images[index]) for index in shown} if images is not None else {},
    }


class _Answers:
    """What a run said of each image."""

    def __init__(self, detail: RunResults) -> None:
        frame = detail.predictions
        assert frame is not None
        size = len(detail.classes)
        self.labels = frame["label"].to_numpy().astype(int)
        self.predicted = frame["predicted"].to_numpy().astype(int)
        probabilities = frame[[f"p_{name}" for name in detail.classes]].to_numpy()
        self.sure: npt.NDArray[np.float64] = probabilities[np.arange(len(frame)), self.predicted].astype(float)
        self.matrix: npt.NDArray[np.int64] = np.bincount(
            self.labels * size + self.predicted, minlength=size * size
        ).reshape(size, size)


def _instructive(right: Right, other: Right, wrong: _Answers) -> list[int]:
    """Images that this one is right on and the other is not, those first that the other is surest of."""
    found = np.flatnonzero(right & ~other)
    order = np.argsort(-wrong.sure[found], kind="stable")
    return [int(index) for index in found[order][:_SHOWN]]


def _png(image: npt.NDArray[np.uint8]) -> str:
    """As a data: address."""
    from PIL import Image

    written = io.BytesIO()
    Image.fromarray(image).save(written, "PNG")
    return f"data:image/png;base64,{base64.b64encode(written.getvalue()).decode()}"
