"""How a classifier stands up to corrupted images."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cifar_exp.data.splits import Images, Split
from cifar_exp.evaluation import corruptions
from cifar_exp.training import runtime

if TYPE_CHECKING:
    import keras

_BLOCK_VALUES, _BLOCK_IMAGES = 500 * 32 * 32 * 3, 32  # corrupted and predicted at once: as many values, or images


@dataclass(frozen=True)
class Robustness:
    """Errors of a classifier on corrupted images.

    Attributes:
        images: number of images.
        clean_error: share of the uncorrupted images that are classified wrongly.
        errors: the same under each corruption of `corruptions.NAMES` at each severity, (15, 5).
    """

    images: int
    clean_error: float
    errors: npt.NDArray[np.float64]

    @property
    def mean_error(self) -> float:
        """Mean corruption error: mean over all corruptions and severities, without a reference model."""
        return float(self.errors.mean())

    @property
    def relative_error(self) -> float:
        """Mean corruption error minus the error on the uncorrupted images: what the corruptions cost."""
        return self.mean_error - self.clean_error

    def metrics(self) -> dict[str, float]:
        """Metrics by logged name."""
        by_corruption = zip(corruptions.NAMES, self.errors.mean(axis=1).tolist(), strict=True)
        return {
            "robustness/mce": self.mean_error,
            "robustness/relative_mce": self.relative_error,
            "robustness/clean_error": self.clean_error,
            **{f"robustness/error/{name}": error for name, error in by_corruption},
        }

    def table(self) -> pd.DataFrame:
        """Errors with one row per corruption: its name, severities 1 to 5, and their mean."""
        frame = pd.DataFrame(self.errors, columns=[str(severity) for severity in corruptions.SEVERITIES])
        frame.insert(0, "corruption", corruptions.NAMES)
        return frame.assign(mean=self.errors.mean(axis=1))

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        errors = dict(zip(corruptions.NAMES, self.errors.tolist(), strict=True))
        return {
            "images": self.images,
            "clean_error": self.clean_error,
            "mce": self.mean_error,
            "relative_mce": self.relative_error,
            "errors": errors,
        }


def measure(classifier: keras.Model, split: Split, clean_error: float) -> Robustness:
    """Classify the images under every corruption at every severity.

    Images are corrupted in threads while others are classified. The result does not depend on the number of threads:
    what is random follows from corruption, severity and the block of images.

    Args:
        classifier: returns probabilities (N, C).
        split: images (N, H, W, C) uint8 and labels (N,).
        clean_error: error on the uncorrupted images.
    """
    size = max(_BLOCK_IMAGES, _BLOCK_VALUES // math.prod(split.images.shape[1:]))
    wrong = np.zeros((len(corruptions.NAMES), len(corruptions.SEVERITIES)))

    def tasks() -> Iterator[tuple[tuple[int, int], slice, Callable[[], Images]]]:
        for start in range(0, len(split), size):
            block = slice(start, start + size)
            images = np.asarray(split.images[block])
            for row, name in enumerate(corruptions.NAMES):
                for column, severity in enumerate(corruptions.SEVERITIES):
                    # Bound now, called later in a thread.
                    yield (row, column), block, _Corruption(images, name, severity, start)

    for cell, block, images in _ahead(tasks(), runtime.cores()):
        predicted = np.asarray(classifier.predict_on_batch(images)).argmax(axis=1)
        wrong[cell] += np.sum(predicted != split.labels[block])
    return Robustness(len(split), clean_error, wrong / len(split))


@dataclass(frozen=True)
class _Corruption:
    images: Images
    name: str
    severity: int
    seed: int

    def __call__(self) -> Images:
        return corruptions.corrupt(self.images, self.name, self.severity, self.seed)


def _ahead(
    tasks: Iterator[tuple[tuple[int, int], slice, Callable[[], Images]]], threads: int
) -> Iterator[tuple[tuple[int, int], slice, Images]]:
    """Yield the results of tasks in their order; threads work on those that come next."""
    waiting: deque[tuple[tuple[int, int], slice, Future[Images]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for cell, block, task in tasks:
            waiting.append((cell, block, pool.submit(task)))
            if len(waiting) > 2 * threads:
                cell, block, done = waiting.popleft()
                yield cell, block, done.result()
        for cell, block, done in waiting:
            yield cell, block, done.result()
