"""Slices: how accurate a run is on parts of the test images, and on which it is worse than on the rest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cifar_exp.data.mapped import StoredImages
from cifar_exp.data.splits import Split
from cifar_exp.errors import UserError
from cifar_exp.evaluation.intervals import wilson
from cifar_exp.review import run_predictions
from cifar_exp.review.comparison import Comparison
from cifar_exp.review.multiple import holm
from cifar_exp.review.paired import SIGNIFICANCE_LEVEL
from cifar_exp.tracking.untrusted import parse_json

if TYPE_CHECKING:
    import pandas as pd

FILE = "evaluation/slices.json"

_SMALLEST = 10  # images; a smaller slice says nothing
_MOST_VALUES = 200  # of a column; one with more does not divide the images into slices
_MOST_NUMBERS = 10  # of a column of numbers; one with more is divided into thirds
_PARTS = {"low": 0.0, "medium": 1 / 3, "high": 2 / 3}  # terciles
_UNKNOWN = "not given"
_LUMA = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)
_CHUNK = 4096  # images that are measured at once

Names = npt.NDArray[np.str_]


@dataclass(frozen=True)
class Slice:
    """The test images with one value of a column.

    Attributes:
        column: class, brightness, contrast, or a property of the image such as its folder.
        value: of the column.
        images: number of images.
        accuracy: share of them that is classified correctly.
        low: lower end of Wilson's 95 % interval of the accuracy, of this slice alone.
        high: its upper end.
        rest: accuracy on all other test images.
        confidence: mean probability of the predicted class. Above the accuracy, the run is overconfident here.
        p_value: of Fisher's exact test that slice and rest are equally accurate.
        p_holm: the p-value corrected for the number of slices.
    """

    column: str
    value: str
    images: int
    accuracy: float
    low: float
    high: float
    rest: float
    confidence: float
    p_value: float
    p_holm: float

    @property
    def is_worse(self) -> bool:
        """Whether it is worse than the rest by more than chance, given the number of slices."""
        return self.accuracy < self.rest and self.p_holm < SIGNIFICANCE_LEVEL


def measure(predictions: pd.DataFrame, columns: Mapping[str, Names]) -> list[Slice]:
    """Measure each slice against all other test images.

    Args:
        predictions: one row per test image: index, label, predicted, p_<class>.
        columns: name -> value of each image, (N,).

    Returns:
        The slices of at least 10 images, the least accurate first. Slices that hold all images are left out.
    """
    from scipy import stats

    right = (predictions["label"] == predictions["predicted"]).to_numpy()
    confidence = run_predictions.probabilities(predictions).max(axis=1).astype(np.float64)
    total, found = len(right), []
    for column, values in columns.items():
        for value in np.unique(values):
            mask = values == value
            images, correct = int(mask.sum()), int(right[mask].sum())
            if not _SMALLEST <= images < total:
                continue
            others, rest = total - images, int(right.sum()) - correct
            p_value = float(stats.fisher_exact([[correct, images - correct], [rest, others - rest]]).pvalue)
            known = (column, str(value), images, correct / images, *wilson(correct, images))
            found.append((*known, rest / others, float(confidence[mask].mean()), p_value))
    corrected = holm([each[-1] for each in found])
    slices = [Slice(*each, p) for each, p in zip(found, corrected, strict=True)]
    return sorted(slices, key=lambda one: (one.accuracy, one.column, one.value))


def columns_of(
    predictions: pd.DataFrame, test: Split | None, properties: Mapping[str, pd.Series[Any]]
) -> dict[str, Names]:
    """Columns by which the test images are divided.

    Args:
        predictions: of the test images.
        test: the test images; `None` if they are not on this machine.
        properties: name -> value of each test image, for example its folder and the columns of its table.

    Returns:
        Column -> value of each image, (N,): the class; with the images brightness and contrast in thirds; and the
        properties. Those with one value or more than 200 are left out.

    Raises:
        UserError: if the test images are not those of the predictions.
    """
    labels = predictions["label"].to_numpy()
    columns: dict[str, Names] = {"class": np.array(run_predictions.classes(predictions))[labels]}
    if test is None:
        return columns
    if len(test) != len(labels) or (test.labels != labels).any():
        raise UserError("the test images here are not those of the run: their number or labels differ")
    brightness, contrast = light(test.images)
    columns |= {"brightness": terciles(brightness), "contrast": terciles(contrast)}
    columns |= {f"{name} (table)" if name in columns else name: parts(values) for name, values in properties.items()}
    return {name: values for name, values in columns.items() if 1 < len(np.unique(values)) <= _MOST_VALUES}


def parts(values: pd.Series[Any]) -> Names:
    """Divide values, (N,): each is a part, but for numbers with more than 10 values, which are divided into thirds."""
    import pandas as pd

    numbers = pd.to_numeric(values, errors="coerce").to_numpy(np.float64)
    known = np.isfinite(numbers)
    given = values.notna().to_numpy() & (values != "").to_numpy()
    if not (known == given).all() or len(np.unique(numbers[known])) <= _MOST_NUMBERS:
        return np.where(given, values.astype(str), _UNKNOWN)
    divided = np.full(len(values), _UNKNOWN, dtype="<U64")
    divided[known] = terciles(numbers[known])
    return divided


def light(images: StoredImages) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Brightness and contrast of images: mean and standard deviation of the luma of their pixels, (N,), in 0..1.

    Args:
        images: (N, H, W, C) uint8; one or three channels.
    """
    parts = []
    for first in range(0, len(images), _CHUNK):
        pixels = images[first : first + _CHUNK].astype(np.float32) / 255
        luma = pixels @ np.array(_LUMA, np.float32) if pixels.shape[-1] == len(_LUMA) else pixels.mean(axis=-1)
        parts.append((luma.mean(axis=(1, 2)), luma.std(axis=(1, 2))))
    brightness, contrast = (np.concatenate(each).astype(np.float64) for each in zip(*parts, strict=True))
    return brightness, contrast


def terciles(values: npt.NDArray[np.float64]) -> Names:
    """Divide values into thirds: low, medium, high, with their limits. Equal values are in the same third."""
    limits = [*(float(np.quantile(values, share)) for share in _PARTS.values()), float(values.max())]
    at = np.searchsorted(limits[1:-1], values, side="right")
    names = [f"{name}, {limits[i]:.2f} to {limits[i + 1]:.2f}" for i, name in enumerate(_PARTS)]
    return np.array(names)[at]


def table(slices: Sequence[Slice], shown: int | None = None) -> Comparison:
    """The slices as a table, the least accurate first, with what can be said of them."""
    import pandas as pd

    rows = [asdict(one) for one in slices[:shown]]
    frame = pd.DataFrame(rows, columns=[*Slice.__dataclass_fields__])
    renamed = {"column": "slice", "accuracy": "test/accuracy", "rest": "test/accuracy, rest"}
    frame = frame.rename(columns=renamed | {"confidence": "test/confidence"})
    return Comparison(frame, (), tuple(sentences(slices)))


def sentences(slices: Sequence[Slice]) -> list[str]:
    """What the tests show: which slices are worse than the rest."""
    if not slices:
        return ["No slice has enough images."]
    worse = [one for one in slices if one.is_worse]
    test = f"Fisher's exact test, corrected for {len(slices)} slices (Holm); intervals are of each slice alone"
    if not worse:
        return [f"No slice is shown to be worse than the rest ({test})."]
    listed = "; ".join(
        f"{one.column} {one.value}: {one.accuracy:.4f} against {one.rest:.4f} on the rest" for one in worse
    )
    return [f"Worse than the rest by more than chance would make them ({test}): {listed}."]


def to_json(slices: Sequence[Slice]) -> str:
    """Slices as a JSON list."""
    return json.dumps([asdict(one) for one in slices], indent=2)


def parse(content: bytes) -> list[Slice]:
    """Parse what `to_json` has written, which may have been changed since.

    Raises:
        ValueError: if it is not that.
    """
    listed = parse_json(content)
    if not isinstance(listed, list):
        raise ValueError("not a list of slices")
    try:
        slices = [Slice(**each) for each in listed]
    except TypeError as error:
        raise ValueError(f"not a list of slices: {error}") from error
    if not all(_is_valid(asdict(one)) for one in slices):
        raise ValueError("not a list of slices")
    return slices


def _is_valid(values: Mapping[str, Any]) -> bool:
    texts = {name: values[name] for name in ("column", "value")}
    numbers = [value for name, value in values.items() if name not in texts]
    return all(isinstance(one, str) for one in texts.values()) and all(isinstance(one, int | float) for one in numbers)
