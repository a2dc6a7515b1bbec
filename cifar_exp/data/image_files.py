"""data=folder, data=csv and data=parquet: image files -> training, validation and test images."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from cifar_exp.data import cache, contents, duplicates, filling, listing, splitting, tables
from cifar_exp.data.decoding import BadImage, Decoder, header
from cifar_exp.data.filling import Source
from cifar_exp.data.listing import Listing
from cifar_exp.data.mapped import MappedImages
from cifar_exp.data.schema import DataConfig
from cifar_exp.data.tables import Columns
from cifar_exp.errors import UserError

log = logging.getLogger(__name__)

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
    decoder = _decoder(config)
    sources: Callable[[], Iterable[Source]]
    if config.name == "parquet":
        file = _path(config, "file")
        hashes, bad = contents.digests(file.parent, [file.name], cache.folder())
        if bad:
            raise UserError(f"data.file={file}: {bad[0]}")
        column = tables.image_column(file, _columns(config))
        hashes.append(column)
        sources = partial(tables.read_parquet, file, column)
    else:
        hashes, bad = contents.digests(found.root, found.paths, cache.folder())
        sources = partial(_files, found)
    made_by = [_DECODER_VERSION, decoder.size, decoder.resize, decoder.color_mode, shape]
    key = hashlib.sha256(json.dumps([made_by, hashes]).encode()).hexdigest()[:32]
    entry = filling.entry(key, sources, (len(found), *shape), decoder)
    bad = entry.bad | bad
    if bad:
        _report_bad(found, bad, config.bad_images == "skip")
    kept = np.array([i for i in range(len(found)) if i not in bad], np.intp)
    remaining = found.take(kept.tolist()) if bad else found
    if bad:
        remaining = listing.check_classes(remaining, classes)
    splits = splitting.assign(np.array(remaining.labels), remaining.splits, remaining.groups, config)
    assigned = Listing(
        remaining.root, remaining.paths, remaining.labels, tuple(splits.tolist()), remaining.groups, remaining.remarks
    )
    duplicates.check(assigned, entry.digests[kept], config.duplicates == "allow")
    images = MappedImages(entry.pixels, entry.digests, json.dumps(made_by), kept)
    return ImageFiles(images, assigned, classes, str(found.root.resolve()))


def _classes(config: DataConfig) -> tuple[str, ...]:
    if config.name == "folder":
        return listing.class_folders(_path(config, "dir"))
    if config.name == "csv":
        return tables.csv_classes(_path(config, "file"), _columns(config))
    return tables.parquet_classes(_path(config, "file"), _columns(config))


def _files(found: Listing) -> Iterator[Path]:
    return (found.root / path for path in found.paths)


def _list(config: DataConfig) -> Listing:
    if config.name == "folder":
        return listing.list_folder(_path(config, "dir"))
    file, columns = _path(config, "file"), _columns(config)
    if config.name == "csv":
        return tables.list_csv(file, _csv_folder(config), columns, config.bad_images == "skip")
    return tables.list_parquet(file, columns)


def _report_bad(found: Listing, bad: dict[int, str], skip: bool) -> None:
    """Name the bad images, in the log or in a refusal."""
    rows = "row " if found.root.is_file() else ""
    named = [f"{rows}{found.paths[i]} ({reason})" for i, reason in sorted(bad.items())]
    count = f"{len(bad):,} of {len(found):,} images cannot be read"
    if not skip:
        raise UserError(f"{found.root}: {count}: {listing.first_of(named)}; data.bad_images=skip leaves them out")
    log.warning("%s: %s and are left out: %s", found.root, count, ", ".join(named))


def _path(config: DataConfig, setting: str) -> Path:
    value = getattr(config, setting)
    if not value:
        what = "the folder of the images" if setting == "dir" else f"the {config.name} file"
        raise UserError(f"data.{setting}: data={config.name} needs {what}: data.{setting}=PATH")
    return Path(value).expanduser()


def _csv_folder(config: DataConfig) -> Path:
    return Path(config.dir).expanduser() if config.dir else _path(config, "file").parent


def _columns(config: DataConfig) -> Columns:
    return Columns(config.image_column, config.label_column, config.split_column, config.group)


def _decoder(config: DataConfig) -> Decoder:
    if config.size is not None and min(config.size) < 1:
        raise UserError(f"data.size: got {list(config.size)}, expected [height, width], each at least 1")
    return Decoder(config.size, config.resize, config.color_mode)


def _shape(config: DataConfig, found: Listing | None) -> tuple[int, int, int]:
    """Height, width and channels of the images: as the settings say, or of the first image that has some."""
    decoder = _decoder(config)
    if decoder.size:
        return (*decoder.size, decoder.channels)
    if config.name == "parquet":
        file = _path(config, "file")
        sources: Iterable[Source] = tables.read_parquet(file, tables.image_column(file, _columns(config)))
        return (*_size_of(str(file), islice(sources, 100)), decoder.channels)
    found = found or _list(config)
    return (*_size_of(str(found.root), _files(found)), decoder.channels)


def _size_of(root: str, sources: Iterable[Source]) -> tuple[int, int]:
    for source in sources:
        try:
            return header(source)[:2]
        except BadImage:
            continue
    raise UserError(f"{root}: no image can be read")
