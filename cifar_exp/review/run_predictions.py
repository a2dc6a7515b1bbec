"""Predictions of logged runs: reading and checking them, and whether they are of the same images."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cifar_exp.errors import UserError, reason
from cifar_exp.tracking import fetch
from cifar_exp.tracking.store import Store

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Run

PREDICTIONS = "evaluation/predictions.parquet"  # of the test images
VALIDATION_PREDICTIONS = "evaluation/predictions_validation.parquet"
MAX_BYTES, _MAX_VALUES, _MAX_CLASSES = 1 << 27, 20_000_000, 10_000  # of a file that is read
MATRIX_CLASSES = 200  # of a confusion matrix that is shown

_COLUMNS = ("index", "label", "predicted")
_PROBABILITY = "p_"  # begins the name of a column, before that of a class
_COMPRESSIONS = {"SNAPPY", "UNCOMPRESSED"}  # what runs write; with others, a page of bytes can expand to gigabytes
_TOLERANCE = 1e-3  # of the sum of probabilities, which may come from half precision

Correct = npt.NDArray[np.bool_]
Probabilities = npt.NDArray[np.floating[Any]]
Matrix = tuple[list[str], list[list[int]]]
"""Class names, and counts: a row for each true class, a column for each predicted one."""


@dataclass(frozen=True)
class RunPredictions:
    """Predictions of one run.

    Attributes:
        run: id or name of the run, for messages.
        digest: of the test images; `None` if it was not logged.
        frame: one row per test image: index, label, predicted, p_<class>.
    """

    run: str
    digest: str | None
    frame: pd.DataFrame


def correct(predictions: pd.DataFrame) -> Correct:
    """Whether each image is classified correctly, (N,) bool."""
    mask: Correct = (predictions["label"] == predictions["predicted"]).to_numpy()
    return mask


def classes(predictions: pd.DataFrame) -> tuple[str, ...]:
    """Class names, in the order of the labels."""
    names = (str(column) for column in predictions.columns)
    return tuple(name.removeprefix(_PROBABILITY) for name in names if name.startswith(_PROBABILITY))


def probabilities(predictions: pd.DataFrame) -> Probabilities:
    """Stored class probabilities, (N, C)."""
    values: Probabilities = predictions[[f"{_PROBABILITY}{name}" for name in classes(predictions)]].to_numpy()
    return values


def confusion_matrix(predictions: pd.DataFrame) -> Matrix | None:
    """Confusion matrix of at most `MATRIX_CLASSES` classes; None if there are more."""
    names = classes(predictions)
    size = len(names)
    if size > MATRIX_CLASSES:
        return None
    cells = predictions["label"].to_numpy().astype(int) * size + predictions["predicted"].to_numpy().astype(int)
    return [*names], np.bincount(cells, minlength=size * size).reshape(size, size).tolist()


def read(store: Store, run: Run, name: str = PREDICTIONS) -> pd.DataFrame:
    """Read the predictions of a run.

    Args:
        store: contains the run.
        run: the run.
        name: `PREDICTIONS` or `VALIDATION_PREDICTIONS`.

    Returns:
        One row per image: index, label, predicted, p_<class>.

    Raises:
        fetch.Missing: if the run has no predictions.
        UserError: if they cannot be read.
    """
    content = fetch.file(store, run, name, MAX_BYTES)
    return parse(content, f"run {run.info.run_id} of {store.uri}", name)


def parse(content: bytes, origin: str, name: str = PREDICTIONS) -> pd.DataFrame:
    """Parse and check a file of predictions, which may come from anywhere.

    Args:
        content: Parquet file.
        origin: run or folder that the file comes from, for messages.
        name: of the file, for messages.

    Returns:
        One row per image: index, label, predicted, p_<class>.

    Raises:
        UserError: if the content is not a valid file of predictions.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(io.BytesIO(content))
        schema, parts = file.schema_arrow, range(file.metadata.num_row_groups)
        of_classes = [column for column in schema.names if column.startswith(_PROBABILITY)]
        wanted = [*_COLUMNS, *of_classes]
        if missing := [column for column in _COLUMNS if column not in schema.names]:
            raise UserError(f"{origin}: {name} has no column {missing[0]!r}")
        rows = sum(file.metadata.row_group(part).num_rows for part in parts)
        if rows * len(wanted) > _MAX_VALUES:  # a few kilobytes of repeated values can expand to gigabytes
            raise UserError(f"{origin}: {name} holds {rows:,} rows; at most {_MAX_VALUES:,} values are read")
        if len(of_classes) > _MAX_CLASSES:
            raise UserError(f"{origin}: {name} has {len(of_classes):,} classes; at most {_MAX_CLASSES:,} are read")
        numeric = all(pa.types.is_integer(schema.field(column).type) for column in _COLUMNS)
        numeric = numeric and all(pa.types.is_floating(schema.field(column).type) for column in of_classes)
        if not numeric or not rows or not of_classes:
            raise UserError(f"{origin}: {name} does not have one row of integers and probabilities per image")
        chunks = (file.metadata.row_group(part).column(at) for part in parts for at in range(file.metadata.num_columns))
        if unknown := {chunk.compression for chunk in chunks} - _COMPRESSIONS:
            raise UserError(f"{origin}: {name} is compressed with {min(unknown)}; runs write {min(_COMPRESSIONS)}")
        table = file.read(columns=wanted).select(wanted)
    except (pa.ArrowException, ValueError, KeyError, OSError) as error:
        raise UserError(f"{origin}: {name} cannot be read: {reason(error)}") from error
    if any(table[column].null_count for column in _COLUMNS):
        raise UserError(f"{origin}: {name} has rows without index, label or prediction")
    limits = [pc.min_max(table[column]).as_py() for column in ("label", "predicted")]
    if any(one["min"] < 0 or one["max"] >= len(of_classes) for one in limits):
        raise UserError(f"{origin}: {name} has labels or predictions outside the classes it has probabilities for")
    frame: pd.DataFrame = table.to_pandas(ignore_metadata=True, split_blocks=True)  # without a copy of the values
    total = np.zeros(rows)
    for column in of_classes:
        values = frame[column].to_numpy()
        total += np.where(values >= 0, values, np.nan)  # so that a negative one fails as well
    if not np.allclose(total, 1, atol=_TOLERANCE):
        raise UserError(f"{origin}: {name} holds values that are no probabilities")
    return frame


def check_same_images(runs: Sequence[RunPredictions]) -> None:
    """Check that runs were tested on the same images: by digest, and by the index and label of every image.

    Raises:
        UserError: for the first run whose test images differ from those of `runs[0]`.
    """
    first = runs[0]
    for other in runs[1:]:
        pair = f"runs {first.run} and {other.run} were tested on different images"
        if first.digest and other.digest and first.digest != other.digest:
            raise UserError(f"{pair}: SHA-256 {first.digest[:12]}... and {other.digest[:12]}...")
        if len(other.frame) != len(first.frame):
            raise UserError(f"{pair}: {len(first.frame):,} and {len(other.frame):,}")
        for name in ("index", "label"):
            differ = other.frame[name].to_numpy() != first.frame[name].to_numpy()
            if differ.any():
                raise UserError(f"{pair}: their {name} differs in row {int(differ.argmax())}")


def test_digest(run: Run) -> str | None:
    """Logged digest of a run's test images, or `None` if it was not logged."""
    return digest(run, "test")


def digest(run: Run, split: str) -> str | None:
    """Logged digest of the images of a run's split (training, validation or test), or `None` if it was not logged."""
    inputs = run.inputs.dataset_inputs if run.inputs else []
    sets = (entry.dataset for entry in inputs if entry.dataset.name.endswith(f"-{split}"))
    return next((str(dataset.digest) for dataset in sets), None)
