"""A Parquet file that holds images: its columns, a listing of the images, and the images."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
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
    return columns.image_in(file, _open(file).schema_arrow.names)


def read(file: Path, column: str) -> Iterator[bytes | npt.NDArray[np.uint8]]:
    """Read the images of a Parquet file in their order, one row group at a time.

    Yields:
        The bytes of an image file; an array of pixels (H, W) or (H, W, C) uint8; or no bytes if a row has no image.
    """
    opened = _open(file)
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

    opened, image = _open(file), image_column(file, columns)
    binary = (pyarrow.types.is_nested, pyarrow.types.is_binary, pyarrow.types.is_large_binary)
    names = [field.name for field in opened.schema_arrow if not any(test(field.type) for test in binary)]
    return tables.properties(
        file, opened.read(columns=names).to_pandas().iloc[[int(path) for path in paths]], columns, image
    )


def _open(file: Path) -> Any:
    import pyarrow
    import pyarrow.parquet

    tables.check_file(file, "file")
    try:
        return pyarrow.parquet.ParquetFile(file)
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"data.file={file}: {reason(error)}") from error


def _rows(file: Path, columns: Columns) -> list[tables.Row]:
    """(image, label, split, group) of each row; the image is left empty."""
    opened = _open(file)
    schema = opened.schema_arrow
    image_column(file, columns)
    label = columns.label_in(file, schema.names)
    names = [
        label,
        *(tables.column(file, name, schema.names) for name in (columns.split, columns.group) if name),
    ]
    table = opened.read(columns=names)
    values = [["" if value is None else str(value) for value in table.column(name).to_pylist()] for name in names]
    try:  # the names that the hub keeps of a label's numbers
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        class_names = [str(name) for name in features[label]["names"]]
        values[0] = [class_names[int(value)] if value else "" for value in values[0]]
    except (TypeError, KeyError, ValueError, IndexError):
        pass
    empty = [""] * len(values[0])
    split = values[1] if columns.split else empty
    group = values[-1] if columns.group else empty
    rows = list(zip(empty, values[0], split, group, strict=True))
    return tables.check_labels(file, rows, [f"row {number}" for number, row in enumerate(rows) if not row[1]])


def _image(value: Any) -> bytes | npt.NDArray[np.uint8]:
    if isinstance(value, dict):  # of the hub: {bytes, path}
        value = value.get("bytes")
    if value is None:
        return b""
    if isinstance(value, bytes):
        return value
    try:
        return np.array(value, np.uint8)
    except (ValueError, TypeError, OverflowError):
        return b""
