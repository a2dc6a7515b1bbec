"""Listings from tables: a CSV file that names image files, and a Parquet file that holds images."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cifar_exp.data.listing import (
    SPLIT_NAMES,
    Listing,
    check_classes,
    first_of,
    image_files,
    is_image,
    split_of,
)
from cifar_exp.errors import UserError, did_you_mean, reason

if TYPE_CHECKING:
    import pandas as pd

_FIELD_BYTES = 4096  # of a CSV: names and labels are short, and a file is not read into memory as one field
_ROWS = 20_000_000
_LABEL_COLUMNS = ("label", "class", "category", "target")
_IMAGE_COLUMNS = ("image", "img", "id", "filename", "file", "path", "image_id", "file_name")

Row = tuple[str, str, str, str]  # image, label, split, group


@dataclass(frozen=True)
class Columns:
    """Names of the columns of a table. `None` for image and label: the first column with a usual name.

    Attributes:
        image: holds names of files in a CSV, images in Parquet.
        label: holds class names.
        split: holds `train`, `validation` or `test`.
        group: holds what must not be in two splits, such as the patient.
    """

    image: str | None = None
    label: str | None = None
    split: str | None = None
    group: str | None = None


def csv_classes(file: Path, columns: Columns) -> tuple[str, ...]:
    """Class names of a CSV file, sorted; numbers in the order of their values."""
    return _sorted(row[1] for row in _read_csv(file, columns, file.stat().st_mtime_ns if file.exists() else 0))


def list_csv(file: Path, folder: Path, columns: Columns, skip_missing: bool = False) -> Listing:
    """List the images that a CSV file names.

    Args:
        file: its first line names the columns; its rows name files with or without extension.
        folder: holds the image files, in subfolders if the names say so.
        columns: names of the columns.
        skip_missing: leave rows out whose file does not exist, with a remark.

    Raises:
        UserError: if a column, a label or a file is missing, or if a name is outside the folder.
    """
    rows = _read_csv(file, columns, file.stat().st_mtime_ns if file.exists() else 0)
    if not folder.is_dir():
        raise UserError(f"data.dir={folder}: no such folder, expected the image files that {file} names")
    files = [path for path in image_files(folder) if is_image(path)]
    by_stem: dict[str, list[str]] = {}
    for path in files:
        by_stem.setdefault(os.path.splitext(path)[0], []).append(path)
    known, paths, missing, kept = set(files), [], [], []
    for row in rows:
        name = row[0]
        candidates = [name] if name in known else by_stem.get(name, [])
        if len(candidates) > 1:
            raise UserError(f"{file}: {name!r} is one of {', '.join(candidates)}; write it with its extension")
        if candidates:
            paths.append(candidates[0])
            kept.append(row)
        else:
            missing.append(name)
    remarks = []
    if missing:
        line = f"{file}: {len(missing):,} labels without a file in {folder}: {first_of(missing)}"
        if not skip_missing:
            raise UserError(f"{line}; data.bad_images=skip leaves them out")
        remarks.append(line)
    if twice := sorted({path for path, count in Counter(paths).items() if count > 1}):
        raise UserError(f"{file}: {len(twice):,} images have several rows: {first_of(twice)}")
    if unlabelled := sorted(known - set(paths)):
        remarks.append(f"{len(unlabelled):,} files without a label, left out: {first_of(unlabelled)}")
    return _listing(folder, paths, kept, columns, remarks)


def parquet_classes(file: Path, columns: Columns) -> tuple[str, ...]:
    """Class names of a Parquet file, sorted; numbers in the order of their values, named if the file says how."""
    return _sorted(row[1] for row in _read_parquet(file, columns))


def list_parquet(file: Path, columns: Columns) -> Listing:
    """List the images of a Parquet file; the images themselves are not read.

    Raises:
        UserError: if the file, a column or a label is missing.
    """
    rows = _read_parquet(file, columns)
    return _listing(file, [str(number) for number in range(len(rows))], rows, columns, [])


def image_column(file: Path, columns: Columns) -> str:
    """Name of the column of a Parquet file that holds the images."""
    return _column(file, columns.image, _IMAGE_COLUMNS, _parquet(file).schema_arrow.names, "image_column")


def read_parquet(file: Path, column: str) -> Iterator[bytes | npt.NDArray[np.uint8]]:
    """Read the images of a Parquet file in their order, one row group at a time.

    Yields:
        The bytes of an image file; an array of pixels (H, W) or (H, W, C) uint8; or no bytes if a row has no image.
    """
    opened = _parquet(file)
    for group in range(opened.num_row_groups):
        for batch in opened.iter_batches(batch_size=256, row_groups=[group], columns=[column]):
            for value in batch.column(0):
                yield _image(value.as_py())


def csv_properties(file: Path, columns: Columns, paths: Sequence[str]) -> dict[str, pd.Series[Any]]:
    """The columns of a CSV file beside image, label and split.

    Args:
        file: a CSV file that `list_csv` has read.
        columns: names of the columns.
        paths: of image files as `list_csv` has listed them.

    Returns:
        Name -> the value for each path, as text.
    """
    import pandas as pd

    table = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    image = _column(file, columns.image, _IMAGE_COLUMNS, [str(name) for name in table], "image_column")
    rows = {os.path.normpath(name.strip()).replace(os.sep, "/"): row for row, name in enumerate(table[image])}
    chosen = [rows[path] if path in rows else rows[os.path.splitext(path)[0]] for path in paths]
    return _others(file, table.iloc[chosen], columns, image)


def parquet_properties(file: Path, columns: Columns, paths: Sequence[str]) -> dict[str, pd.Series[Any]]:
    """The columns of a Parquet file beside image, label and split, without those of lists and structures.

    Args:
        file: a Parquet file that `list_parquet` has read.
        columns: names of the columns.
        paths: numbers of rows, as `list_parquet` has listed them.

    Returns:
        Name -> the value for each path.
    """
    import pyarrow

    opened, image = _parquet(file), image_column(file, columns)
    binary = (pyarrow.types.is_nested, pyarrow.types.is_binary, pyarrow.types.is_large_binary)
    names = [field.name for field in opened.schema_arrow if not any(test(field.type) for test in binary)]
    return _others(file, opened.read(columns=names).to_pandas().iloc[[int(path) for path in paths]], columns, image)


def _others(file: Path, table: pd.DataFrame, columns: Columns, image: str) -> dict[str, pd.Series[Any]]:
    names = [str(name) for name in table]
    used = {image, _column(file, columns.label, _LABEL_COLUMNS, names, "label_column"), columns.split}
    return {name: table[name].reset_index(drop=True) for name in names if name not in used}


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


def _parquet(file: Path) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(file)
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"data.file={file}: {reason(error)}") from error


def _read_parquet(file: Path, columns: Columns) -> list[Row]:
    """(image, label, split, group) of each row; the image is left empty."""
    import json

    opened = _parquet(file)
    schema = opened.schema_arrow
    image_column(file, columns)
    label = _column(file, columns.label, _LABEL_COLUMNS, schema.names, "label_column")
    names = [
        label,
        *(_column(file, name, (), schema.names, "column") for name in (columns.split, columns.group) if name),
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
    return _labelled(file, rows, [f"row {number}" for number, row in enumerate(rows) if not row[1]])


@lru_cache(maxsize=2)
def _read_csv(file: Path, columns: Columns, _mtime_ns: int) -> list[Row]:
    """(image, label, split, group) of each row."""
    rows: list[Row] = []
    before = csv.field_size_limit(_FIELD_BYTES)
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines)
            names = list(reader.fieldnames or ())
            image = _column(file, columns.image, _IMAGE_COLUMNS, names, "image_column")
            label = _column(file, columns.label, _LABEL_COLUMNS, names, "label_column")
            others = [
                _column(file, name, (), names, "column") if name else None for name in (columns.split, columns.group)
            ]
            for row in reader:
                if len(rows) == _ROWS:
                    raise UserError(f"data.file={file}: more than {_ROWS:,} rows")
                name = _inside(file, reader.line_num, row[image] or "")
                split, group = ((row[other] or "").strip() if other else "" for other in others)
                rows.append((name, (row[label] or "").strip(), split, group))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"data.file={file}: {reason(error)}, expected a CSV file of names and labels") from error
    finally:
        csv.field_size_limit(before)
    return _labelled(file, rows, [row[0] for row in rows if not row[1]])


def _labelled(file: Path, rows: list[Row], unlabelled: Sequence[str]) -> list[Row]:
    if unlabelled:
        raise UserError(f"data.file={file}: {len(unlabelled):,} images without a label: {first_of(unlabelled)}")
    if len({row[1] for row in rows}) < 2:
        raise UserError(f"data.file={file}: {len(rows):,} rows of fewer than two classes, expected at least two")
    return rows


def _column(file: Path, name: str | None, usual: Sequence[str], names: Sequence[str], setting: str) -> str:
    """The column of this name, or the first with a usual one."""
    found = [name] if name in names else [n for n in names if n.lower() in usual] if name is None else []
    if not found or found[0] is None:
        wanted = f"no column {name!r}{did_you_mean(name, names)}" if name else f"set data.{setting}"
        raise UserError(f"data.file={file}: {wanted} (its columns: {', '.join(names[:20])})")
    return found[0]


def _inside(file: Path, line: int, name: str) -> str:
    """The name of a file relative to its folder, in one form.

    Raises:
        UserError: if it is empty or leads out of the folder.
    """
    path = os.path.normpath(name.strip()).replace(os.sep, "/")
    if not name.strip() or path.startswith(("/", "../")) or path == ".." or "\0" in path:
        raise UserError(f"data.file={file}: line {line}: got the image {name!r}, expected a file below data.dir")
    return path


def _listing(
    root: Path,
    paths: Sequence[str],
    rows: Sequence[Row],
    columns: Columns,
    remarks: Sequence[str],
) -> Listing:
    splits: tuple[str, ...] = ()
    if columns.split:
        named = {value: split_of(value) for value in sorted({row[2] for row in rows})}
        if unknown := [repr(value) for value, split in named.items() if split is None]:
            expected = ", ".join(name for names in SPLIT_NAMES.values() for name in names)
            raise UserError(f"data.split_column={columns.split}: got {first_of(unknown)}, expected {expected}")
        splits = tuple(named[row[2]] or "" for row in rows)
    groups = tuple(row[3] for row in rows) if columns.group else ()
    labels = tuple(row[1] for row in rows)
    return check_classes(Listing(root, tuple(paths), labels, splits, groups, tuple(remarks)), _sorted(labels))


def _sorted(labels: Sequence[str] | Iterator[str]) -> tuple[str, ...]:
    """Each label once; numbers by value, so that 10 comes after 9."""
    return tuple(
        sorted(set(labels), key=lambda label: (not label.isdecimal(), int(label) if label.isdecimal() else 0, label))
    )
