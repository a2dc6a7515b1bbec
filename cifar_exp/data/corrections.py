"""Lists of images with wrong labels: `data.exclude` leaves images out, `data.relabel` gives them another label.

A list is a CSV file with a row for each image. `index` or `path` names it, `label` is its label in the data, and
`suggested` another one. `decision` is what a person thinks: rows with `confirm` count, those with `dismiss` or nothing
do not.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cifar_exp.data import csv_table
from cifar_exp.data.schema import user_path
from cifar_exp.data.splits import Split, Splits, no_class
from cifar_exp.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from cifar_exp.data.schema import DataConfig

log = logging.getLogger(__name__)

CONFIRM, DISMISS = "confirm", "dismiss"
EXCLUDED = "excluded"  # split of such an image in data/splits.parquet
_DECISIONS = (CONFIRM, DISMISS, "")


@dataclass(frozen=True)
class Row:
    """An image of a list that a person has confirmed.

    Attributes:
        where: file and line, for messages.
        number: of the image in its data set.
        label: its label in the data; empty if the list does not say so.
        suggested: another label; empty if the list has none.
    """

    where: str
    number: int
    label: str
    suggested: str


def column(splits: Splits) -> str:
    """The column that names an image: `path` if the data set is made of files, else `index`."""
    return "path" if splits.files else "index"


def names(splits: Splits, numbers: Sequence[int]) -> list[str]:
    """What a list calls the images with these numbers: their paths, or the numbers themselves."""
    return [splits.files.paths[number] if splits.files else str(number) for number in numbers]


def write(file: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write a list that a person can edit.

    Args:
        file: to write.
        rows: column -> value of each image; all have the same columns.

    Raises:
        UserError: if there is such a file, which may hold decisions.
    """
    try:
        with file.open("x", encoding="utf-8", newline="") as lines:
            writer = csv.DictWriter(lines, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    except FileExistsError:
        raise UserError(f"{file}: there is such a file, which may hold decisions; name another one") from None


def apply(splits: Splits, config: DataConfig) -> Splits:
    """Leave out and relabel the confirmed images. Only images that train or validate change, after they were split.

    So the test images stay as they are, and so does the split of all other images.

    Args:
        splits: as the data set says.
        config: names the lists.

    Returns:
        The splits without the excluded images, and with the new labels.

    Raises:
        UserError: naming file and line of the first row that does not fit the data.
    """
    given = {setting: file for setting in ("exclude", "relabel") if (file := getattr(config, setting))}
    if not given:
        return splits
    parts = (splits.training, splits.validation, splits.test)
    if any(part.numbers is None for part in parts):
        setting = next(iter(given))
        raise UserError(f"data.{setting}: the images of data={config.name} have no numbers, so a list cannot name them")
    lists = {setting: _read(user_path(file, setting), setting, splits) for setting, file in given.items()}
    excluded, relabelled = lists.get("exclude", {}), lists.get("relabel", {})
    if both := excluded.keys() & relabelled.keys():
        row = relabelled[min(both)]
        raise UserError(f"{row.where}: {names(splits, [row.number])[0]!r} is confirmed in data.exclude, too")
    same = splits.validation is splits.test  # those test images that also validate
    training = _changed(splits.training, excluded, relabelled, splits.classes)
    validation = splits.validation if same else _changed(splits.validation, excluded, relabelled, splits.classes)
    assert splits.test.numbers is not None
    if tested := len((excluded.keys() | relabelled.keys()) & set(splits.test.numbers.tolist())):
        log.warning("%s: confirmed test images, which stay as they are: %s", ", ".join(given.values()), tested)
    files = splits.files
    if files:
        changes = {number for number in excluded if files.splits[number] != "test"}
        renamed = {number: row.suggested for number, row in relabelled.items() if files.splits[number] != "test"}
        files = replace(
            files,
            labels=tuple(renamed.get(number, label) for number, label in enumerate(files.labels)),
            splits=tuple(EXCLUDED if number in changes else split for number, split in enumerate(files.splits)),
        )
    return replace(splits, training=training, validation=validation, files=files)


def _changed(split: Split, excluded: Mapping[int, Row], relabelled: Mapping[int, Row], classes: Sequence[str]) -> Split:
    assert split.numbers is not None
    labels = split.labels.copy()
    for place, number in enumerate(split.numbers.tolist()):
        if row := relabelled.get(number):
            labels[place] = classes.index(row.suggested)
    kept = np.flatnonzero(~np.isin(split.numbers, list(excluded)))
    changed = replace(split, labels=labels)
    return changed.take(kept) if len(kept) < len(split) else changed


def _read(file: Path, setting: str, splits: Splits) -> dict[int, Row]:
    """The confirmed rows of a list by the number of their image."""
    key = column(splits)
    wanted = {key, "decision"} | ({"suggested"} if setting == "relabel" else set())
    with csv_table.reading(file, setting) as reader:
        if missing := sorted(wanted - set(reader.fieldnames or ())):
            raise UserError(
                f"data.{setting}={file}: no column {', '.join(missing)}, expected the columns {key}, label, "
                "suggested, decision"
            )
        rows = [(reader.line_num, row) for row in reader]
    label_of = _labels(splits)
    found: dict[int, Row] = {}
    for line, row in rows:
        where = f"data.{setting}={file}: line {line}"
        decision = (row["decision"] or "").strip().lower()
        if decision not in _DECISIONS:
            raise UserError(f"{where}: got the decision {decision!r}, expected confirm, dismiss or nothing")
        if decision != CONFIRM:
            continue
        checked = _checked(row, where, setting, splits, label_of)
        if checked.number in found:
            raise UserError(f"{where}: {row[key]!r} is confirmed in an earlier line, too")
        found[checked.number] = checked
    return found


def _labels(splits: Splits) -> dict[str, tuple[int, str]]:
    """Name of each image -> its number and label."""
    found = {}
    for part in (splits.training, splits.validation, splits.test):
        assert part.numbers is not None
        numbers = part.numbers.tolist()
        named = zip(names(splits, numbers), numbers, part.labels.tolist(), strict=True)
        found.update({name: (number, splits.classes[label]) for name, number, label in named})
    return found


def _checked(
    row: Mapping[str, str | None], where: str, setting: str, splits: Splits, label_of: Mapping[str, tuple[int, str]]
) -> Row:
    name = (row[column(splits)] or "").strip()
    if name not in label_of:
        hint = did_you_mean(name, label_of) if splits.files and len(label_of) < 10_000 else ""
        expected = f"a file of {splits.source}" if splits.files else f"an index from 0 to {len(label_of) - 1:,}"
        raise UserError(f"{where}: got the image {name!r}, expected {expected}{hint}")
    number, label = label_of[name]
    said = {key: (row.get(key) or "").strip() for key in ("label", "suggested")}
    for key in ("label", "suggested") if setting == "relabel" else ("label",):
        if said[key] not in splits.classes and (said[key] or key == "suggested"):
            raise UserError(f"{where}: {no_class(said[key], splits.classes)}")
    if said["label"] and said["label"] != label:
        raise UserError(
            f"{where}: {name!r} is {label!r} in the data and {said['label']!r} in the list, which is of other data"
        )
    return Row(where, number, said["label"], said["suggested"])
