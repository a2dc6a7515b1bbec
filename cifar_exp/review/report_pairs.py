"""Pairwise comparison of runs on the same test images, as data for the report page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from cifar_exp.data.splits import Images
from cifar_exp.evaluation.pictures import as_rgb
from cifar_exp.review import paired, run_predictions
from cifar_exp.review.run_predictions import Correct
from cifar_exp.review.run_results import RunResults

_IMAGES_PER_LIST = 6


def pairwise(names: Sequence[str], results: Sequence[RunResults], images: Images | None) -> dict[str, Any]:
    """Compare every two runs.

    Args:
        names: of the runs.
        results: of the same runs; all have predictions for the same images.
        images: the test images (N, H, W, C) uint8, or `None` if they are not available.

    Returns:
        JSON-compatible data:

        - classes: class names;
        - runs: name, accuracy and confusion matrix of each run, null of too many classes to be shown;
        - pairs: by `"0,1"` (positions of A and B): sentences that compare B with A and A with B, corrected for the
          number of pairs (`words`), how many images only A or only B classifies correctly (`only_a`, `only_b`), and the
          indices of some of them (`a`, `b`), first those on which the other run is most confident;
        - labels, answers, images: of the listed test images, by index: the true class, each run's predicted class and
          its probability, and the image as a PNG data URL.
    """
    frames = [result.predictions for result in results]
    assert all(frame is not None for frame in frames)
    correct_masks = [run_predictions.correct(frame) for frame in frames if frame is not None]
    answers = [_Answers(result) for result in results]
    pairs: dict[str, Any] = {}
    positions = list(combinations(range(len(names)), 2))
    tests = [paired.compare(correct_masks[a], correct_masks[b], names[a], names[b]) for a, b in positions]
    for (a, b), test in zip(positions, paired.corrected(tests), strict=True):
        pairs[f"{a},{b}"] = {
            "words": [test.words, test.swapped().words],
            "only_a": test.only_a,
            "only_b": test.only_b,
            "a": _instructive_images(correct_masks[a], correct_masks[b], answers[b]),
            "b": _instructive_images(correct_masks[b], correct_masks[a], answers[a]),
        }
    shown = sorted({index for pair in pairs.values() for side in "ab" for index in pair[side]})
    return {
        "classes": results[0].classes,
        "runs": [
            {"name": name, "accuracy": float(correct.mean()), "matrix": answer.matrix}
            for name, correct, answer in zip(names, correct_masks, answers, strict=True)
        ],
        "pairs": pairs,
        "labels": {index: int(answers[0].labels[index]) for index in shown},
        "answers": {
            index: [[int(answer.predicted[index]), round(float(answer.confidence[index]), 3)] for answer in answers]
            for index in shown
        },
        "images": {index: _png(images[index]) for index in shown} if images is not None else {},
    }


class _Answers:
    """Labels, predicted classes with their probabilities, and confusion matrix of a run."""

    def __init__(self, result: RunResults) -> None:
        frame = result.predictions
        assert frame is not None
        self.labels = frame["label"].to_numpy().astype(int)
        self.predicted = frame["predicted"].to_numpy().astype(int)
        probabilities = frame[[f"p_{name}" for name in result.classes]].to_numpy()
        self.confidence: npt.NDArray[np.float64] = probabilities[np.arange(len(frame)), self.predicted].astype(float)
        matrix = run_predictions.confusion_matrix(frame)
        self.matrix = matrix and matrix[1]


def _instructive_images(correct: Correct, other_correct: Correct, other_answers: _Answers) -> list[int]:
    """Indices of images that only the first run classifies correctly, by falling confidence of the other run."""
    indices = np.flatnonzero(correct & ~other_correct)
    order = np.argsort(-other_answers.confidence[indices], kind="stable")
    return [int(index) for index in indices[order][:_IMAGES_PER_LIST]]


def _png(image: npt.NDArray[np.uint8]) -> str:
    """Encode an image as a PNG data URL."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(as_rgb(image)).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
