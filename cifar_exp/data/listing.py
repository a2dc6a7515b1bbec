"""What images there are, from folders: where each is, its label, and its split if the folders say so."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cifar_exp.data.decoding import EXTENSIONS
from cifar_exp.errors import UserError

# split -> the names of its folder and of its values in a column, in any case
SPLIT_NAMES = {
    "training": ("training", "train"),
    "validation": ("validation", "valid", "val"),
    "test": ("test", "testing"),
}
_SPLITS = {name: split for split, names in SPLIT_NAMES.items() for name in names}
_NO_IMAGES = frozenset({"thumbs.db", "desktop.ini"})  # of Windows; hidden files begin with a dot
_UNDECODED = re.compile("[\udc80-\udcff]")  # what Python makes of bytes in a name that are not UTF-8
_SHOWN = 10


@dataclass(frozen=True)
class Listing:
    """The images of a data set, in the order in which they are numbered.

    Attributes:
        root: the folder, or the Parquet file, that holds the images.
        paths: of the image files, relative to `root`. In a Parquet file, the numbers of the rows from 0.
        labels: class names of the images.
        splits: `"training"`, `"validation"` or `"test"` of each image; empty if nothing says so.
        groups: of the images, such as the patient; empty if nothing says so.
        remarks: a line on each thing that may be a mistake, such as files that are left out.
        bad: path and reason of each image that cannot be read and is left out.
        sha256: of the contents of all files, in hexadecimal; empty if they were not read.
    """

    root: Path
    paths: tuple[str, ...]
    labels: tuple[str, ...]
    splits: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    bad: tuple[tuple[str, str], ...] = ()
    sha256: str = ""

    def __len__(self) -> int:
        return len(self.paths)

    def name_of(self, path: str) -> str:
        """The name of an image in messages."""
        return f"row {path}" if self.root.is_file() else path

    def to_parquet(self) -> bytes:
        """Path, label and split of each image, and its group if there are some, as the bytes of a Parquet file."""
        import pyarrow
        import pyarrow.parquet

        columns = {"path": self.paths, "label": self.labels, "split": self.splits, "group": self.groups}
        table = pyarrow.table({name: list(column) for name, column in columns.items() if column})
        sink = pyarrow.BufferOutputStream()
        pyarrow.parquet.write_table(table, sink)
        content: bytes = sink.getvalue().to_pybytes()
        return content

    def take(self, indices: Sequence[int]) -> Listing:
        """Select images by index, in the order of the indices."""

        def taken(column: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(column[i] for i in indices) if column else ()

        return replace(
            self,
            paths=taken(self.paths),
            labels=taken(self.labels),
            splits=taken(self.splits),
            groups=taken(self.groups),
        )

    def of_split(self, split: str) -> Listing:
        """The images of a split."""
        return self.take([index for index, name in enumerate(self.splits) if name == split])


def split_of(name: str) -> str | None:
    """The split that a folder or a value of a column names, or `None`."""
    return _SPLITS.get(name.strip().lower())


def class_folders(root: Path) -> tuple[str, ...]:
    """Names of the classes of a folder, sorted: its subfolders, or those of its training folder.

    Raises:
        UserError: if there are fewer than two.
    """
    names = _folders(root)
    if _are_splits(root, names):
        names = sorted({name for split in names if split_of(split) for name in _folders(root / split)})
    if len(names) < 2:
        found = f"only the folder {names[0]}" if names else "no folder"
        raise UserError(f"data.dir={root}: holds {found}, expected a folder of images for each class: cat, dog, ...")
    return tuple(names)


def list_folder(root: Path) -> Listing:
    """List the images of `root/<class>/` or of `root/{train,validation,test}/<class>/`.

    Hidden files and those of operating systems are no images. Images are numbered in the order of their names, not of
    their classes. So the order of a data set that was written to files by number is kept.

    Raises:
        UserError: if there are no classes, a class without an image, or folders of splits beside folders of classes.
    """
    classes = class_folders(root)
    names = _folders(root)
    if not _are_splits(root, names):
        rows, others = _images(root, "", names)
        return _checked(_listing(root, rows, ()), others, classes)
    splits = {name: split for name in names if (split := split_of(name))}
    if strays := [name for name in names if name not in splits]:
        raise UserError(
            f"data.dir={root}: holds {first_of(strays)} beside {first_of(list(splits))}, expected either folders of "
            "splits or folders of classes"
        )
    if len(set(splits.values())) < len(splits):
        raise UserError(f"data.dir={root}: got the folders {first_of(names)}, expected one for each split")
    rows, others, of_rows = [], [], []
    for name, split in sorted(splits.items(), key=lambda item: list(SPLIT_NAMES).index(item[1])):
        of_split, left_out = _images(root, f"{name}/", _folders(root / name))
        rows += of_split
        others += left_out
        of_rows += [split] * len(of_split)
    return _checked(_listing(root, rows, of_rows), others, classes)


def check_classes(listing: Listing, classes: Sequence[str]) -> Listing:
    """Refuse classes without images, and remark on those that cannot be learned or tested.

    Raises:
        UserError: naming the classes without an image.
    """
    counts = Counter(listing.labels)
    if empty := [name for name in classes if not counts[name]]:
        raise UserError(f"{listing.root}: no image of class {first_of(empty)}; add images or remove the class")
    remarks = []
    if single := [name for name in classes if counts[name] == 1]:
        remarks.append(f"one image only of class {first_of(single)}: it cannot both train and be tested")
    if listing.splits:
        seen = {
            split: {c for c, s in zip(listing.labels, listing.splits, strict=True) if s == split}
            for split in SPLIT_NAMES
        }
        for split in ("validation", "test"):
            if unseen := sorted(seen[split] - seen["training"]):
                remarks.append(f"no training image of class {first_of(unseen)}, which is in the {split} images")
            if seen[split] and (missing := sorted(seen["training"] - seen[split])):
                remarks.append(f"no {split} image of class {first_of(missing)}")
    return replace(listing, remarks=tuple(dict.fromkeys((*listing.remarks, *remarks))))


def image_files(root: Path) -> Iterator[str]:
    """Paths below a folder, relative to it, of all files that are not hidden. Links to folders are not followed.

    Raises:
        UserError: at the end, if names are not UTF-8, as in archives that were packed on another system.
    """
    unreadable: list[str] = []
    for folder, names, files in os.walk(root, onerror=_refuse):
        names[:] = sorted(name for name in names if not name.startswith("."))
        prefix = os.path.relpath(folder, root).replace(os.sep, "/") + "/"
        prefix = "" if prefix == "./" else prefix
        yield from (paths := [f"{prefix}{name}" for name in sorted(files) if not is_hidden(name)])
        unreadable += filter(_is_not_utf8, paths)
    _refuse_names(root, unreadable)


def is_hidden(name: str) -> bool:
    """Whether a file of this name is one of an operating system, and no image."""
    return name.startswith(".") or name.lower() in _NO_IMAGES


def is_image(name: str) -> bool:
    """Whether a file has the extension of an image."""
    return f".{name.rpartition('.')[2].lower()}" in EXTENSIONS  # os.path.splitext is slow for many files


def _are_splits(root: Path, names: Sequence[str]) -> bool:
    """Whether the folders are those of splits. One of them alone beside others may be a class `train` of vehicles."""
    splits = [name for name in names if split_of(name)]
    if "training" not in map(split_of, splits):
        return False
    return len(splits) > 1 or len(splits) == len(names) or bool(_folders(root / splits[0]))


def _images(root: Path, prefix: str, classes: Sequence[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """(path, class) of all images of these folders in the order of the file names, and paths of other files."""
    found: list[tuple[str, str]] = []
    others: list[tuple[str, str]] = []
    for name in classes:
        for path in image_files(root / prefix / name):
            (found if is_image(path) else others).append((path, name))
    rows = [(f"{prefix}{name}/{path}", name) for path, name in sorted(found)]
    return rows, [f"{prefix}{name}/{path}" for path, name in others]


def _listing(root: Path, rows: Sequence[tuple[str, str]], splits: Sequence[str]) -> Listing:
    return Listing(root, tuple(path for path, _ in rows), tuple(name for _, name in rows), tuple(splits))


def _checked(listing: Listing, others: Sequence[str], classes: Sequence[str]) -> Listing:
    if others:
        remark = f"files without the extension of an image, left out: {first_of(others)}"
        listing = replace(listing, remarks=(*listing.remarks, remark))
    return check_classes(listing, classes)


def _folders(root: Path) -> list[str]:
    """Names of the subfolders, sorted; a link to a folder is one."""
    try:
        with os.scandir(root) as entries:
            names = sorted(e.name for e in entries if not e.name.startswith(".") and e.is_dir())
        _refuse_names(root, [name for name in names if _is_not_utf8(name)])
        return names
    except OSError as error:
        _refuse(error)
        raise


def _is_not_utf8(name: str) -> bool:
    return not name.isascii() and bool(_UNDECODED.search(name))


def _refuse_names(root: Path, names: Sequence[str]) -> None:
    if names:
        shown = [os.fsencode(name).decode(errors="backslashreplace") for name in names]
        raise UserError(f"{root}: names that are not UTF-8: {first_of(shown)}; rename them, with convmv for example")


def _refuse(error: OSError) -> None:
    raise UserError(f"data.dir: {error.filename}: {error.strerror}") from error


def first_of(names: Sequence[str]) -> str:
    """The first ten names and the number of the others."""
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest:,} more" if rest > 0 else "")
