"""What tables of images have in common: names of their columns, and a listing of the images from their rows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_exp.data.listing import SPLIT_NAMES, Listing, check_classes, first_of, split_of
from cifar_exp.errors import UserError, counted, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

_LABEL_COLUMNS = ("label", "class", "category", "target")
_IMAGE_COLUMNS = ("image", "img", "id", "filename", "file", "path", "image_id", "file_name")

Row = tuple[str, str, str, str]  # image, label, split, group


def check_file(file: Path, setting: str) -> None:
    """Refuse what is there and is no file. A device has no end, and a pipe keeps its reader waiting.

    Raises:
        UserError: if it is a folder, a device or a pipe.
    """
    if os.path.exists(file) and not os.path.isfile(file):
        raise UserError(f"data.{setting}={file}: is not a file, expected a file")


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

    def image_in(self, file: Path, names: Sequence[str]) -> str:
        """The column of images among the columns of a file."""
        return column(file, self.image, names, _IMAGE_COLUMNS, "image_column")

    def label_in(self, file: Path, names: Sequence[str]) -> str:
        """The column of labels among the columns of a file."""
        return column(file, self.label, names, _LABEL_COLUMNS, "label_column")


def column(
    file: Path, name: str | None, names: Sequence[str], usual: Sequence[str] = (), setting: str = "column"
) -> str:
    """The column of this name, or the first with a usual one.

    Raises:
        UserError: if there is none; it names the setting.
    """
    found = [name] if name in names else [n for n in names if n.lower() in usual] if name is None else []
    if not found or found[0] is None:
        wanted = f"no column {name!r}{did_you_mean(name, names)}" if name else f"set data.{setting}"
        raise UserError(f"data.file={file}: {wanted} (its columns: {', '.join(names[:20])})")
    return found[0]


def check_labels(file: Path, rows: list[Row], unlabelled: Sequence[str]) -> list[Row]:
    """Return rows of at least two classes, all with a label.

    Raises:
        UserError: otherwise; it names the images without a label, `unlabelled`.
    """
    if unlabelled:
        raise UserError(
            f"data.file={file}: {counted(len(unlabelled), 'image')} without a label: {first_of(unlabelled)}"
        )
    if len({row[1] for row in rows}) < 2:
        raise UserError(f"data.file={file}: {len(rows):,} rows of fewer than two classes, expected at least two")
    return rows


def to_listing(
    root: Path,
    paths: Sequence[str],
    rows: Sequence[Row],
    columns: Columns,
    remarks: Sequence[str] = (),
) -> Listing:
    """List the images of rows, which are in the order of the paths.

    Raises:
        UserError: if the column of the split holds other words.
    """
    splits: tuple[str, ...] = ()
    if columns.split:
        named = {value: split_of(value) for value in sorted({row[2] for row in rows})}
        if unknown := [repr(value) for value, split in named.items() if split is None]:
            expected = ", ".join(name for names in SPLIT_NAMES.values() for name in names)
            raise UserError(f"data.split_column={columns.split}: got {first_of(unknown)}, expected {expected}")
        splits = tuple(named[row[2]] or "" for row in rows)
    groups = tuple(row[3] for row in rows) if columns.group else ()
    labels = tuple(row[1] for row in rows)
    return check_classes(Listing(root, tuple(paths), labels, splits, groups, tuple(remarks)), sort_classes(labels))


def sort_classes(labels: Iterable[str]) -> tuple[str, ...]:
    """Each label once; numbers by value, so that 10 comes after 9."""
    return tuple(
        sorted(set(labels), key=lambda label: (not label.isdecimal(), int(label) if label.isdecimal() else 0, label))
    )


def properties(file: Path, table: pd.DataFrame, columns: Columns, image: str) -> dict[str, pd.Series[Any]]:
    """Name -> values of the columns of a table beside image, label and split."""
    names = [str(name) for name in table]
    used = {image, columns.label_in(file, names), columns.split}
    return {name: table[name].reset_index(drop=True) for name in names if name not in used}
