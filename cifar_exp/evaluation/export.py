"""Exporting a classifier to other formats, each of which is loaded again, checked and timed."""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cifar_exp.data.splits import Images, Split
from cifar_exp.errors import UserError, reason
from cifar_exp.evaluation import export_formats
from cifar_exp.evaluation.export_formats import Format, Predict
from cifar_exp.training import runtime

if TYPE_CHECKING:
    import keras

TOLERANCE = 1e-4  # between probabilities of Keras and of an exported file
CHECKED = 32  # images on which they are compared
BATCHES = (1, 256)
_SECONDS = 0.3  # of timing a batch size
_CALIBRATION = 256  # images that decide on the ranges of int8
_BATCH = 256


@dataclass(frozen=True)
class Exported:
    """An exported file, or Keras itself.

    Attributes:
        format: name of the format; `"keras, not exported"` of the model in this process.
        file: that was written; `None` of the latter.
        size: of the file or of all files in the folder, in bytes.
        difference: largest absolute difference between its probabilities and those of Keras.
        milliseconds: batch size -> median time of a prediction.
        accuracy: on the test images; `None` if it was not measured.
    """

    format: str
    file: Path | None
    size: int | None
    difference: float
    milliseconds: Mapping[int, float]
    accuracy: float | None = None

    @property
    def agrees(self) -> bool:
        """Whether its probabilities are those of Keras; of int8, which rounds, nothing is asked."""
        return self.format == INT8 or self.difference <= TOLERANCE


INT8 = "tflite int8"
HERE = "keras, not exported"


def export(classifier: keras.Model, formats: Mapping[str, Format], folder: Path, images: Images) -> list[Exported]:
    """Export a classifier, and compare each file, in its own runtime, with Keras.

    Args:
        classifier: from `models.classifier`.
        formats: from `export_formats.chosen`.
        folder: for the files.
        images: (N, H, W, C) uint8, to compare the probabilities for.

    Returns:
        Keras itself, then a row for each format.

    Raises:
        UserError: if a format cannot hold the model, naming the layer.
    """
    rows = [measure(HERE, None, _of_keras(classifier), images, classifier)]
    for name, one in formats.items():
        path = folder / one.file
        _write(name, one.write, classifier, path)
        with _quiet():
            rows.append(measure(name, path, one.load(path), images, classifier))
    return rows


def export_int8(classifier: keras.Model, folder: Path, training: Split, test: Split) -> tuple[Exported, float]:
    """Export to TFLite in 8 bits, and measure what this costs.

    Args:
        classifier: from `models.classifier`.
        folder: for the file.
        training: some of its images decide on the ranges of the activations.
        test: to measure the accuracy.

    Returns:
        The file, and the accuracy of Keras on the test images.
    """
    path = folder / "model_int8.tflite"
    chosen = np.random.default_rng(0).permutation(len(training))[:_CALIBRATION]
    calibration = np.asarray(training.take(np.sort(chosen)).images)
    _write(INT8, lambda model, file: export_formats.write_int8(model, file, calibration), classifier, path)
    checked = np.asarray(test.images[:CHECKED])
    with _quiet():
        predict = export_formats.load_tflite(path)
        own = _accuracy(predict, test)
        return measure(INT8, path, predict, checked, classifier, own), _accuracy(_of_keras(classifier), test)


def measure(
    name: str,
    path: Path | None,
    predict: Predict,
    images: Images,
    classifier: keras.Model,
    accuracy: float | None = None,
) -> Exported:
    """Compare with Keras, weigh and time."""
    expected = _of_keras(classifier)(images)
    difference = float(np.abs(predict(images) - expected).max())
    batches = {size: np.resize(images, (size, *images.shape[1:])) for size in BATCHES}
    times = {size: _milliseconds(predict, batch) for size, batch in batches.items()}
    return Exported(name, path, None if path is None else _size(path), difference, times, accuracy)


@contextmanager
def _quiet() -> Iterator[None]:
    """Discard what converters and runtimes say about their own code: warnings, and lines on stdout and stderr."""
    with warnings.catch_warnings(), runtime.silenced(1, 2):
        warnings.simplefilter("ignore")
        yield


def _write(name: str, write: Callable[[Any, Path], None], classifier: keras.Model, path: Path) -> None:
    try:
        with _quiet():
            write(classifier, path)
    except OSError:  # a full disk, for example
        raise
    except Exception as error:  # converters raise exceptions of many kinds
        layer = _culprit(write, classifier, path.suffix)
        where = f"layer {layer!r}" if layer else "the model"
        raise UserError(f"--to {name}: {where} cannot be exported: {reason(error)}") from error


def _culprit(write: Callable[[Any, Path], None], classifier: keras.Model, suffix: str) -> str | None:
    """Name and class of the first layer that cannot be exported alone."""
    import keras

    for layer in classifier.layers:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                with _quiet():
                    write(keras.Model(layer.input, layer.output), Path(folder) / f"layer{suffix}")
            except Exception:
                return f"{layer.name} ({type(layer).__name__})"
    return None


def _of_keras(classifier: keras.Model) -> Predict:
    return lambda images: np.asarray(classifier.predict_on_batch(images))


def _accuracy(predict: Predict, test: Split) -> float:
    right = 0
    for first in range(0, len(test), _BATCH):
        images = np.asarray(test.images[first : first + _BATCH])
        right += int((predict(images).argmax(axis=1) == test.labels[first : first + _BATCH]).sum())
    return right / len(test)


def _milliseconds(predict: Predict, images: Images) -> float:
    predict(images)  # compiles or allocates
    times: list[float] = []
    while len(times) < 5 or sum(times) < _SECONDS:
        began = time.perf_counter()
        predict(images)
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


def _size(path: Path) -> int:
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)
