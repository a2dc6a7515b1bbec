"""A CSV file that names image files, as Kaggle's: its columns, and a listing of the images."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_exp.data import tables
from cifar_exp.data.listing import Listing, first_of, image_files, is_image
from cifar_exp.data.tables import Columns
from cifar_exp.errors import UserError, counted, reason

if TYPE_CHECKING:
    import pandas as pd

_FIELD_BYTES = 4096  # names and labels are short, and a file is not read into memory as one field
_ROWS = 20_000_000


def classes(file: Path, columns: Columns) -> tuple[str, ...]:
    """Class names of a CSV file, sorted; numbers in the order of their values."""
    return tables.sort_classes(row[1] for row in _rows(file, columns))


def list_images(file: Path, folder: Path, columns: Columns, skip_missing: bool = False) -> Listing:
    """List the images that a CSV file names.

    Args:
        file: its first line names the columns; its rows name files with or without extension.
        folder: holds the image files, in subfolders if the names say so.
        columns: names of the columns.
        skip_missing: leave rows out whose file does not exist, with a remark.

    Raises:
        UserError: if a column, a label or a file is missing, or if a name is outside the folder.
    """
    rows = _rows(file, columns)
    if not os.path.isdir(folder):
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
        line = f"{file}: {counted(len(missing), 'label')} without a file in {folder}: {first_of(missing)}"
        if not skip_missing:
            raise UserError(f"{line}; data.bad_images=skip leaves them out")
        remarks.append(line)
    if twice := sorted({path for path, count in Counter(paths).items() if count > 1}):
        raise UserError(f"{file}: several rows of {counted(len(twice), 'image')}: {first_of(twice)}")
    if unlabelled := sorted(known - set(paths)):
        remarks.append(f"{counted(len(unlabelled), 'file')} without a label, left out: {first_of(unlabelled)}")
    return tables.to_listing(folder, paths, kept, columns, remarks)


def properties(file: Path, columns: Columns, paths: Sequence[str]) -> dict[str, pd.Series[Any]]:
    """The columns of a CSV file beside image, label and split.

    Args:
        file: a CSV file that `list_images` has read.
        columns: names of the columns.
        paths: of image files as `list_images` has listed them.

    Returns:
        Name -> the value for each path, as text.
    """
    import pandas as pd

    with reading(file, "file") as reader:  # pandas would refuse a row with a field too many
        table = pd.DataFrame(reader).drop(columns="", errors="ignore")
    image = columns.image_in(file, [str(name) for name in table])
    rows = {_inside(file, row + 2, name): row for row, name in enumerate(table[image])}
    chosen = [rows[path] if path in rows else rows[os.path.splitext(path)[0]] for path in paths]
    return tables.properties(file, table.iloc[chosen], columns, image)


@contextmanager
def reading(file: Path, setting: str) -> Iterator[csv.DictReader[str]]:
    """Context manager that opens a CSV file. Its first line shows whether commas, semicolons or tabs separate fields.

    Args:
        file: in UTF-8, with or without a byte order mark.
        setting: of `data` that names it, for messages.

    Raises:
        UserError: if it cannot be read.
    """
    tables.check_file(file, setting)
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            header = lines.readline(_FIELD_BYTES)
            lines.seek(0)
            delimiter = max(",;\t", key=header.count)
            yield csv.DictReader(lines, restkey="", delimiter=delimiter, skipinitialspace=True)
    except UnicodeDecodeError as error:
        where = f"data.{setting}={file}: it is not UTF-8 (byte {error.start + 1})"
        raise UserError(f"{where}, expected a CSV file in UTF-8") from error
    except (OSError, csv.Error) as error:
        raise UserError(f"data.{setting}={file}: {reason(error)}, expected a CSV file") from error


def _rows(file: Path, columns: Columns) -> list[tables.Row]:
    """(image, label, split, group) of each row; the file is read again if it has changed."""
    try:
        status = file.stat()
    except OSError:  # of which `reading` says more
        return _read(file, columns, ())
    return _read(file, columns, (status.st_size, status.st_mtime_ns, status.st_ctime_ns))


@lru_cache(maxsize=2)
def _read(file: Path, columns: Columns, _version: tuple[int, ...]) -> list[tables.Row]:
    rows: list[tables.Row] = []
    before = csv.field_size_limit(_FIELD_BYTES)
    try:
        with reading(file, "file") as reader:
            names = list(reader.fieldnames or ())
            image = columns.image_in(file, names)
            label = columns.label_in(file, names)
            others = [tables.column(file, name, names) if name else None for name in (columns.split, columns.group)]
            for row in reader:
                if len(rows) == _ROWS:
                    raise UserError(f"data.file={file}: more than {_ROWS:,} rows")
                name = _inside(file, reader.line_num, row[image] or "")
                split, group = ((row[other] or "").strip() if other else "" for other in others)
                rows.append((name, (row[label] or "").strip(), split, group))
    finally:
        csv.field_size_limit(before)
    return tables.check_labels(file, rows, [row[0] for row in rows if not row[1]])


def _inside(file: Path, line: int, name: str) -> str:
    """The name of a file relative to its folder, in one form.

    Raises:
        UserError: if it is empty or leads out of the folder.
    """
    path = os.path.normpath(name.strip()).replace(os.sep, "/")
    if not name.strip() or path.startswith(("/", "../")) or path == ".." or "\0" in path:
        raise UserError(f"data.file={file}: line {line}: got the image {name!r}, expected a file below data.dir")
    return path
