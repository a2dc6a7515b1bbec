"""A recorded landscape: every setting of a small space, with its validation accuracy at each epoch, from five seeds.

    python benchmarks/landscape.py --data FOLDER [--out benchmarks/landscape.csv]

Searches then look settings up instead of training them, so that many searches with many seeds take minutes. Each row is
a training of a network with one hidden layer on CIFAR-10, reduced to 8 x 8 pixels: 2,000 training images, 5,000
validation images, 27 epochs. No test image is read. All settings of one batch size and width train side by side, as one
product of matrices in NumPy, so that the whole takes some ten minutes of one core. Started again, the program goes on
after the last row of the file.

A training is never quite the same twice. So a search gets one of the five recorded seeds by the exact setting that it
asks for: the same setting is the same training, and a slightly different learning rate is another one.

The file in this repository was recorded on a JPEG copy of CIFAR-10.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import math
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

EPOCHS = 27
TRAINING_IMAGES, VALIDATION_IMAGES = 2_000, 5_000
SEEDS = 5
CLASSES = 10
FILE = Path(__file__).parent / "landscape.csv"
LEARNING_RATE = "optimizer.learning_rate"
# key of a setting -> its values; the learning rate is a range for a search, which then gets the nearest of these
SPACE: Mapping[str, Sequence[str | int | float]] = {
    LEARNING_RATE: (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0),
    "optimizer": ("adam", "sgd"),
    "training.batch_size": (32, 128),
    "model.dropout": (0.0, 0.25, 0.5),
    "model.units": (16, 32),
}

_POOLED = 4  # pixels along each side that become one
_MOMENTUM = 0.9
_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-7  # of Adam

Array = npt.NDArray[np.float32]
Setting = tuple[str | int | float, ...]
Run = tuple[int, Setting]  # the seed first


@dataclass(frozen=True)
class Landscape:
    """The recorded trainings.

    Attributes:
        accuracies: seed and setting, one value per key of `SPACE` -> validation accuracy at each epoch, from epoch 1.
    """

    accuracies: Mapping[Run, tuple[float, ...]]

    def curve(self, setting: Mapping[str, str | int | float]) -> tuple[float, ...]:
        """Validation accuracy at each epoch of the recorded setting with the nearest learning rate, from one seed.

        Args:
            setting: key -> value; values may be text.
        """
        wanted = math.log(float(setting[LEARNING_RATE]))
        nearest = min(SPACE[LEARNING_RATE], key=lambda rate: abs(math.log(float(rate)) - wanted))
        listed = {key: {str(value): value for value in values} for key, values in SPACE.items()}
        recorded = (nearest, *(listed[key][str(setting[key])] for key in list(SPACE)[1:]))
        seed = zlib.crc32(f"{float(setting[LEARNING_RATE]):.6g} {recorded}".encode()) % SEEDS
        return self.accuracies[seed, recorded]


def read(path: Path = FILE) -> Landscape:
    """Read the recorded landscape.

    Raises:
        SystemExit: if not every setting is recorded.
    """
    accuracies = _rows(path)
    missing = [run for run in _runs() if run not in accuracies]
    if missing:
        sys.exit(f"{path}: {len(missing)} of {len(_runs())} trainings are not recorded yet")
    return Landscape(accuracies)


def _runs() -> list[Run]:
    return list(itertools.product(range(SEEDS), itertools.product(*SPACE.values())))


def _rows(path: Path) -> dict[Run, tuple[float, ...]]:
    if not path.exists():
        return {}
    parsed = {str(value): value for values in SPACE.values() for value in values}
    with path.open(encoding="utf-8", newline="") as file:
        return {
            (int(row["seed"]), tuple(parsed[row[key]] for key in SPACE)): tuple(
                float(row[str(at)]) for at in range(1, EPOCHS + 1)
            )
            for row in csv.DictReader(file)
        }


def main() -> None:
    """Record what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that contains cifar-10-batches-bin")
    parser.add_argument("--out", type=Path, default=FILE)
    arguments = parser.parse_args()
    recorded = _rows(arguments.out)
    images, labels = _read(arguments.data)
    is_new = not arguments.out.exists()
    with arguments.out.open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if is_new:
            writer.writerow(["seed", *SPACE, *range(1, EPOCHS + 1)])
        for seed, size, units in itertools.product(range(SEEDS), SPACE["training.batch_size"], SPACE["model.units"]):
            missing = [setting for of, setting in _runs() if of == seed and (of, setting) not in recorded]
            group = [setting for setting in missing if (setting[2], setting[4]) == (size, units)]
            if group:
                curves = _train(group, images, labels, int(size), int(units), seed)
                for setting, curve in zip(group, curves.T, strict=True):
                    writer.writerow([seed, *setting, *(f"{accuracy:.4f}" for accuracy in curve)])
                file.flush()
                print(f"seed {seed}, batch size {size}, {units} units: {curves.max():.4f}", flush=True)


def _read(data: Path) -> tuple[Array, npt.NDArray[np.intp]]:
    """Training images, then validation images, as rows of pixels around 0, and their labels."""
    from cifar_exp.data import cifar10  # the environments of other contenders do without

    images, labels = cifar10.read(cifar10.find(str(data), verify="size").folder, cifar10.TRAINING_FILES)
    order = np.random.default_rng(0).permutation(len(images))[: TRAINING_IMAGES + VALIDATION_IMAGES]
    side = images.shape[1] // _POOLED
    pooled = images[order].reshape(len(order), side, _POOLED, side, _POOLED, -1).mean(axis=(2, 4))
    rows = pooled.reshape(len(order), -1).astype(np.float32)
    rows = (rows - rows[:TRAINING_IMAGES].mean(axis=0)) / rows[:TRAINING_IMAGES].std(axis=0)
    return rows, labels[order].astype(np.intp)


class _Optimizers:
    """One step for all settings at once: Adam for some, SGD with momentum for the others."""

    def __init__(self, group: Sequence[Setting]) -> None:
        self._rates = np.array([setting[0] for setting in group], np.float32)[:, None, None]
        self._is_adam = np.array([setting[1] == "adam" for setting in group])[:, None, None]
        self._moments: dict[int, tuple[Array, Array]] = {}

    def step(self, at: int, weights: Array, gradients: Array, number: int) -> None:
        """Change weights (settings, rows, columns) in place; `at` tells them from others, `number` counts from 1."""
        first, second = self._moments.setdefault(at, (np.zeros_like(weights), np.zeros_like(weights)))
        first *= np.where(self._is_adam, _BETA_1, _MOMENTUM).astype(np.float32)
        first += np.where(self._is_adam, 1 - _BETA_1, 1).astype(np.float32) * gradients
        second *= np.float32(_BETA_2)
        second += np.float32(1 - _BETA_2) * gradients**2
        scale = np.sqrt(second / np.float32(1 - _BETA_2**number)) + np.float32(_EPSILON)
        adam = first / np.float32(1 - _BETA_1**number) / scale
        weights -= self._rates * np.where(self._is_adam, adam, first)


def _train(
    group: Sequence[Setting], images: Array, labels: npt.NDArray[np.intp], size: int, units: int, seed: int
) -> Array:
    """Validation accuracies (epochs, settings) of settings with the same batch size and width.

    Weights that are no longer finite classify at random, as a training that diverged does.
    """
    generator = np.random.default_rng(seed)
    shapes = ((images.shape[1], units), (1, units), (units, CLASSES), (1, CLASSES))
    weights = [
        np.repeat(generator.normal(0, (2 / shape[0]) ** 0.5 if shape[0] > 1 else 0, (1, *shape)), len(group), axis=0)
        for shape in shapes
    ]
    hidden, hidden_bias, output, output_bias = parameters = [one.astype(np.float32) for one in weights]
    kept = 1 - np.array([float(setting[3]) for setting in group], np.float32)[:, None, None]
    optimizers = _Optimizers(group)
    accuracies, number = [], 0
    with np.errstate(all="ignore"):
        for _ in range(EPOCHS):
            for batch in np.array_split(generator.permutation(TRAINING_IMAGES), -(-TRAINING_IMAGES // size)):
                number += 1
                pixels = images[batch]
                before = np.maximum(pixels @ hidden + hidden_bias, 0)
                mask = (generator.random((1, *before.shape[1:]), np.float32) < kept) / kept
                logits = before * mask @ output + output_bias
                shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
                error = shares / shares.sum(axis=-1, keepdims=True)
                error[:, np.arange(len(batch)), labels[batch]] -= 1
                error /= np.float32(len(batch))
                below = error @ output.swapaxes(1, 2) * mask * (before > 0)
                gradients = (
                    pixels.T @ below,
                    below.sum(axis=1, keepdims=True),
                    (before * mask).swapaxes(1, 2) @ error,
                    error.sum(axis=1, keepdims=True),
                )
                for at, (parameter, gradient) in enumerate(zip(parameters, gradients, strict=True)):
                    optimizers.step(at, parameter, gradient, number)
            logits = np.maximum(images[TRAINING_IMAGES:] @ hidden + hidden_bias, 0) @ output + output_bias
            accuracies.append((logits.argmax(axis=-1) == labels[TRAINING_IMAGES:]).mean(axis=1))
    return np.array(accuracies, np.float32)


if __name__ == "__main__":
    main()
