"""data=folder, data=csv and data=parquet: image files -> training, validation and test images."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cifar_exp.data import cache, contents, csv_table, duplicates, filling, listing, parquet_table, splitting
from cifar_exp.data.decoding import BadImage, Decoder, header
from cifar_exp.data.filling import Source
from cifar_exp.data.listing import Listing
from cifar_exp.data.mapped import MappedImages
from cifar_exp.data.schema import DataConfig, user_path
from cifar_exp.data.tables import Columns
from cifar_exp.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

_INSPECTED_SIZE = (64, 64)
_DECODER_VERSION = 1  # raise it when `Decoder` gives other pixels


class ImageFiles:
    """Decoded image files with their labels and splits.

    Attributes:
        images: all images, mapped from the cache.
        listing: path, label and group of each image, and its split.
        classes: class names in the order of the labels.
        source: the folder or file.
    """

    def __init__(self, images: MappedImages, found: Listing, classes: tuple[str, ...], source: str) -> None:
        """Name the parts."""
        self.images, self.listing, self.classes, self.source = images, found, classes, source


def describe(config: DataConfig) -> tuple[tuple[int, int, int], tuple[str, ...]]:
    """Find the shape of the images and the class names, without decoding an image.

    Args:
        config: names the folder or file.

    Returns:
        (height, width, channels) and the class names in the order of the labels.

    Raises:
        UserError: if a setting, the folder or file, or a column is missing.
    """
    classes = _classes(config)  # refuses what is missing before anything is listed
    return _shape(config, None), classes


def load(config: DataConfig) -> ImageFiles:
    """Decode all images, or map them from the cache, and assign them to splits.

    Args:
        config: names the folder or file, and how images are decoded and split.

    Raises:
        UserError: for bad images unless they are skipped, equal images in two splits, and all that listing refuses.
    """
    classes, found = _classes(config), _list(config)
    shape = _shape(config, found)
    for remark in found.remarks:
        log.warning("%s", remark)
    remaining, images, digests = _decode(config, found, shape)
    if remaining.bad:
        _report_bad(found, remaining, config.bad_images == "skip")
        remaining = listing.check_classes(remaining, classes)
    splits = splitting.assign(np.array(remaining.labels), remaining.splits, remaining.groups, config)
    assigned = replace(remaining, splits=tuple(splits.tolist()))
    duplicates.check(assigned, digests, config.duplicates == "allow")
    return ImageFiles(images, assigned, classes, str(found.root.resolve()))


def inspect(config: DataConfig) -> tuple[ImageFiles, list[str]]:
    """Decode what can be decoded, and say why a run would be refused.

    Images of different sizes are cropped and scaled to 64 x 64 if the config chooses no size.

    Args:
        config: as for `load`.

    Returns:
        The images that can be read, without splits if they cannot be assigned; and the refusals for other reasons than
        unreadable images.

    Raises:
        UserError: if nothing can be read, or if labels or files are missing.
    """
    refusals = []
    config = replace(config, bad_images="skip")
    found = _list(config)
    if config.size is None and _have_several_sizes(config, found):
        config = replace(config, size=_INSPECTED_SIZE, resize="crop")
        refusals.append(
            "the images have several sizes (here they are cropped to 64 x 64): set data.size=[HEIGHT,WIDTH]"
        )
    shape, classes = _shape(config, found), _classes(config)
    remaining, images, digests = _decode(config, found, shape)
    if not len(remaining):
        raise UserError(f"{found.root}: no image can be read: {listing.first_of(_named(remaining))}")
    splits: tuple[str, ...] = ()
    try:
        if remaining.bad:
            remaining = listing.check_classes(remaining, classes)
        assigned = splitting.assign(np.array(remaining.labels), remaining.splits, remaining.groups, config)
        splits = tuple(assigned.tolist())
        duplicates.check(replace(remaining, splits=splits), digests, config.duplicates == "allow")
    except UserError as error:
        refusals.append(str(error))
    return ImageFiles(images, replace(remaining, splits=splits), classes, str(found.root.resolve())), refusals


def sources(config: DataConfig) -> Iterable[Source]:
    """The files, or the contents of the rows, of all images that the config selects, in their order."""
    return _sources(config, _list(config))


def properties(config: DataConfig, found: Listing) -> dict[str, pd.Series[Any]]:
    """What is known of images beside their classes, by which a result can be divided.

    Args:
        config: of the data set.
        found: some of its images.

    Returns:
        Name -> value of each image: `size`, the square root of its number of pixels before `data.size`; of files
        `folder`; and the columns of the table beside image, label and split, which may have one of these names instead.
    """
    import pandas as pd

    if config.name == "parquet":
        rows = {int(path) for path in found.paths}
        sizes = [_side(source) for row, source in enumerate(_sources(config, found)) if row in rows]
        return {"size": pd.Series(sizes), **parquet_table.properties(found.root, _columns(config), found.paths)}
    known: dict[str, pd.Series[Any]] = {
        "size": pd.Series([_side(source) for source in _sources(config, found)]),
        "folder": pd.Series([path.rpartition("/")[0] for path in found.paths]),
    }
    if config.name == "csv":
        return known | csv_table.properties(_path(config, "file"), _columns(config), found.paths)
    return known | ({"group": pd.Series(found.groups)} if found.groups else {})


def _side(source: Source) -> float:
    """Square root of the number of pixels of an image, from its header."""
    height, width = header(source, thorough=False)[:2]
    return float(np.sqrt(height * width))


def _classes(config: DataConfig) -> tuple[str, ...]:
    if config.name == "folder":
        return listing.class_folders(_path(config, "dir"))
    if config.name == "csv":
        return csv_table.classes(_path(config, "file"), _columns(config))
    return parquet_table.classes(_path(config, "file"), _columns(config))


def _sources(config: DataConfig, found: Listing) -> Iterable[Source]:
    if config.name == "parquet":
        return parquet_table.read(found.root, parquet_table.image_column(found.root, _columns(config)))
    return (found.root / path for path in found.paths)


def _decode(
    config: DataConfig, found: Listing, shape: tuple[int, int, int]
) -> tuple[Listing, MappedImages, npt.NDArray[np.uint8]]:
    """The images that can be decoded, their pixels, and the SHA-256 of the content of each, (N, 32) uint8."""
    decoder = _decoder(config)
    if config.name == "parquet":
        file = found.root
        hashes, unreadable = contents.digests(file.parent, [file.name], cache.folder())
        if unreadable:
            raise UserError(f"data.file={file}: {unreadable[0]}")
        hashes += parquet_table.identity(file, _columns(config))
    else:
        hashes, unreadable = contents.digests(found.root, found.paths, cache.folder())

    def readable() -> Iterable[Source]:
        return (b"" if i in unreadable else one for i, one in enumerate(_sources(config, found)))

    made_by = [_DECODER_VERSION, decoder.size, decoder.resize, decoder.color_mode, shape]
    key = hashlib.sha256(json.dumps([made_by, hashes]).encode()).hexdigest()[:32]
    entry = filling.entry(key, readable, (len(found), *shape), decoder, str(found.root.resolve()))
    bad = entry.bad | unreadable
    kept = np.array([i for i in range(len(found)) if i not in bad], np.intp)
    images = MappedImages(entry.pixels, entry.digests, json.dumps(made_by), kept)
    found = replace(found, sha256=hashlib.sha256("".join(hashes).encode()).hexdigest())
    if not bad:
        return found, images, entry.digests
    reasons = tuple((found.paths[i], reason) for i, reason in sorted(bad.items()))
    return replace(found.take(kept.tolist()), bad=reasons), images, entry.digests[kept]


def _have_several_sizes(config: DataConfig, found: Listing) -> bool:
    """Whether two images differ in size. This reads headers only, up to the first that differs."""
    first = None
    for source in _sources(config, found):
        try:
            size = header(source, thorough=False)[:2]
        except (BadImage, OSError):
            continue
        first = first or size
        if size != first:
            return True
    return False


def _list(config: DataConfig) -> Listing:
    if config.name == "folder":
        return listing.list_folder(_path(config, "dir"))
    file, columns = _path(config, "file"), _columns(config)
    if config.name == "csv":
        return csv_table.list_images(file, _csv_folder(config), columns, config.bad_images == "skip")
    return parquet_table.list_images(file, columns)


def _report_bad(found: Listing, remaining: Listing, skip: bool) -> None:
    """Name the bad images, in the log or in a refusal."""
    named = _named(remaining)
    count = f"{len(named):,} of {len(found):,} images cannot be used"
    if not skip:
        differ = any(filling.OTHER_SIZE in line for line in named)
        remedy = (
            "data.size=[HEIGHT,WIDTH] resizes all to one size" if differ else "data.bad_images=skip leaves them out"
        )
        raise UserError(f"{found.root}: {count}: {listing.first_of(named)}; {remedy}")
    log.warning("%s: %s and are left out: %s", found.root, count, ", ".join(named))


def _named(remaining: Listing) -> list[str]:
    """The images that cannot be read, with the reasons."""
    return [f"{remaining.name_of(path)} ({reason})" for path, reason in remaining.bad]


def _path(config: DataConfig, setting: str) -> Path:
    value = getattr(config, setting)
    if not value:
        what = "the folder of the images" if setting == "dir" else f"the {config.name} file"
        raise UserError(f"data.{setting}: data={config.name} needs {what}: data.{setting}=PATH")
    return user_path(value, setting)


def _csv_folder(config: DataConfig) -> Path:
    return user_path(config.dir, "dir") if config.dir else _path(config, "file").parent


def _columns(config: DataConfig) -> Columns:
    return Columns(config.image_column, config.label_column, config.split_column, config.group)


def _decoder(config: DataConfig) -> Decoder:
    if config.size is not None and (len(config.size) != 2 or min(config.size) < 1):
        raise UserError(f"data.size: got {list(config.size)}, expected [height, width], each at least 1")
    return Decoder(config.size, config.resize, config.color_mode)


def _shape(config: DataConfig, found: Listing | None) -> tuple[int, int, int]:
    """Height, width and channels of the images: as the settings say, or of the first image that has some."""
    decoder = _decoder(config)
    if decoder.size:
        return (*decoder.size, decoder.channels)
    if config.name == "parquet":
        file = _path(config, "file")
        sources: Iterable[Source] = parquet_table.read(file, parquet_table.image_column(file, _columns(config)))
        return (*_size_of(str(file), islice(sources, 100)), decoder.channels)
    found = found or _list(config)
    return (*_size_of(str(found.root), _sources(config, found)), decoder.channels)


def _size_of(root: str, sources: Iterable[Source]) -> tuple[int, int]:
    reason = ""
    for source in sources:
        try:
            return header(source)[:2]
        except BadImage as error:
            reason = reason or f"; the first: {error}"
    raise UserError(f"{root}: no image can be read{reason}")
