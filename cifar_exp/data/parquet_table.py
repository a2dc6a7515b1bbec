"""A Parquet file that holds images: its columns, a listing of the images, and the images."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cifar_exp.data import tables
from cifar_exp.data.listing import Listing
from cifar_exp.data.tables import Columns
from cifar_exp.errors import UserError, reason

if TYPE_CHECKING:
    import pandas as pd

_PIXELS_VERSION = "2"  # raise it when `read` gives other pixels


def classes(file: Path, columns: Columns) -> tuple[str, ...]:
    """Class names of a Parquet file, sorted; numbers in the order of their values, named if the file says how."""
    return tables.sort_classes(row[1] for row in _rows(file, columns))


def list_images(file: Path, columns: Columns) -> Listing:
    """List the images of a Parquet file; the images themselves are not read.

    Raises:
        UserError: if the file, a column or a label is missing.
    """
    rows = _rows(file, columns)
    return tables.to_listing(file, [str(number) for number in range(len(rows))], rows, columns)


def image_column(file: Path, columns: Columns) -> str:
    """Name of the column of a Parquet file that holds the images."""
    with _opened(file) as opened:
        return columns.image_in(file, opened.schema_arrow.names)


def identity(file: Path, columns: Columns) -> list[str]:
    """What decides the images of a Parquet file beside its content: their column, and how its pixels are read."""
    import pyarrow

    with _opened(file) as opened:
        name = columns.image_in(file, opened.schema_arrow.names)
        kind = opened.schema_arrow.field(name).type
    holds_pixels = pyarrow.types.is_nested(kind) and not pyarrow.types.is_struct(kind)
    return [name, _PIXELS_VERSION] if holds_pixels else [name]


def read(file: Path, column: str) -> Iterator[bytes | npt.NDArray[Any]]:
    """Read the images of a Parquet file in their order, one row group at a time.

    Yields:
        The bytes of an image file; an array of pixels, uint8 if all are whole numbers in 0..255; or no bytes if a row
        has no image.

    Raises:
        UserError: if the file is damaged.
    """
    with _opened(file) as opened:
        for group in range(opened.num_row_groups):
            for batch in opened.iter_batches(batch_size=256, row_groups=[group], columns=[column]):
                for value in batch.column(0):
                    yield _image(value.as_py())


def properties(file: Path, columns: Columns, paths: Sequence[str]) -> dict[str, pd.Series[Any]]:
    """The columns of a Parquet file beside image, label and split, without those of lists and structures.

    Args:
        file: a Parquet file that `list_images` has read.
        columns: names of the columns.
        paths: numbers of rows, as `list_images` has listed them.

    Returns:
        Name -> the value for each path.
    """
    import pyarrow

    image = image_column(file, columns)
    binary = (pyarrow.types.is_nested, pyarrow.types.is_binary, pyarrow.types.is_large_binary)
    with _opened(file) as opened:
        names = [field.name for field in opened.schema_arrow if not any(test(field.type) for test in binary)]
        table = opened.read(columns=names).to_pandas()
    return tables.properties(file, table.iloc[[int(path) for path in paths]], columns, image)


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """Context manager that opens a Parquet file.

    Raises:
        UserError: if it cannot be opened, or not be read within the context.
    """
    import pyarrow
    import pyarrow.parquet

    tables.check_file(file, "file")
    try:
        with pyarrow.parquet.ParquetFile(file) as opened:
            yield opened
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"data.file={file}: {reason(error)}") from error


def _rows(file: Path, columns: Columns) -> list[tables.Row]:
    """(image, label, split, group) of each row; the image is left empty."""
    image_column(file, columns)
    with _opened(file) as opened:
        schema = opened.schema_arrow
        label = columns.label_in(file, schema.names)
        names = [
            label,
            *(tables.column(file, name, schema.names) for name in (columns.split, columns.group) if name),
        ]
        table = opened.read(columns=names)
    values = [[_text(value) for value in table.column(name).to_pylist()] for name in names]
    if class_names := _class_names(schema, label):
        values[0] = _named(file, values[0], class_names)
    empty = [""] * len(values[0])
    split = values[1] if columns.split else empty
    group = values[-1] if columns.group else empty
    rows = list(zip(empty, values[0], split, group, strict=True))
    return tables.check_labels(file, rows, [f"row {number}" for number, row in enumerate(rows) if not row[1]])


def _text(value: Any) -> str:
    """A value of a table as text; none for null and NaN."""
    if value is None or value != value:
        return ""
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


def _class_names(schema: Any, label: str) -> list[str]:
    """The names that the hub keeps of the numbers of a column, in their order; none if it keeps none."""
    import pyarrow

    try:
        names = json.loads(schema.metadata[b"huggingface"])["info"]["features"][label]["names"]
    except (TypeError, KeyError, ValueError):
        return []
    return [str(name) for name in names] if pyarrow.types.is_integer(schema.field(label).type) else []


def _named(file: Path, labels: Sequence[str], class_names: Sequence[str]) -> list[str]:
    """The names of numbers; none for those below 0, by which the hub means that there is no label.

    Raises:
        UserError: if a number has no name.
    """
    numbers = [int(label) if label else -1 for label in labels]
    if (highest := max(numbers, default=-1)) >= len(class_names):
        where = f"data.file={file}: row {numbers.index(highest)}"
        raise UserError(f"{where}: label {highest}, expected 0 to {len(class_names) - 1}, which the file has names for")
    return [class_names[number] if number >= 0 else "" for number in numbers]


def _image(value: Any) -> bytes | npt.NDArray[Any]:
    if isinstance(value, dict):  # of the hub: {bytes, path}
        value = value.get("bytes")
    if value is None:
        return b""
    if isinstance(value, bytes):
        return value
    try:
        pixels = np.asarray(value)
    except ValueError:  # lists of different lengths
        return np.zeros(len(value), np.uint8)
    if pixels.dtype.kind not in "biuf":
        return pixels
    with np.errstate(invalid="ignore"):
        whole = pixels.astype(np.uint8)
    return whole if np.array_equal(whole, pixels) else pixels
