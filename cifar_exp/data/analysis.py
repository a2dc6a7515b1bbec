"""What a data set is, in numbers: images of each class and split, their colours, and which of them are the same."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cifar_exp.data import headers, near_duplicates
from cifar_exp.data.kept import kept
from cifar_exp.data.listing import Listing
from cifar_exp.data.mapped import StoredImages
from cifar_exp.data.near_duplicates import Fingerprints
from cifar_exp.data.schema import FILES, DataConfig
from cifar_exp.data.splits import UNASSIGNED, Split, Splits

TRAINING = "training"

_VERSION = 1  # raise it when the same images give other numbers
_CHUNK = 1 << 24  # bytes of images that are looked at together
_GROUPS, _MEMBERS = 50, 10  # groups of duplicates, and images of a group, that are listed; all are counted


def parts_of(splits: Splits) -> dict[str, Split]:
    """The splits by name, each image once: where the test images validate, there is no `"validation"`."""
    parts = {"training": splits.training, "validation": splits.validation, "test": splits.test}
    if splits.validation is splits.test:
        del parts["validation"]
    return parts


def analyse(
    name: str, parts: Mapping[str, Split], classes: Sequence[str], source: str, files: Listing | None = None
) -> dict[str, Any]:
    """Describe a data set in numbers; the second time for the same images they are read from the cache.

    Args:
        name: of the data set.
        parts: split -> images with labels, which all have the same shape.
        classes: names in the order of the labels.
        source: where the images come from.
        files: the image files, if there are such, in the order of the images of each part.

    Returns:
        Content for JSON: `name`, `source`, `sha256`, `images` (number), `shape`, `classes`, `counts` (split -> images
        of each class), `mean` and `std` (of each channel of the training images, in 0..255), `remarks` on the files,
        `bad` (`count` and `images`: name and reason), and `duplicates` and `near_duplicates`. Of those, `images` counts
        the members of all groups, `groups` the groups, `across_splits` the groups in several splits, and `held_out` the
        images of each other split that are in a group with training images. `listed` has the first groups, those across
        splits first: the number of images and the first members, with the split, index, class and name of each.
    """
    digests = {split: part.sha256 for split, part in parts.items()}
    sha256 = hashlib.sha256("".join(digests.values()).encode()).hexdigest()
    named = [] if files is None else [files.root.is_file(), *files.paths]
    key = hashlib.sha256(repr([_VERSION, digests, list(classes), named]).encode()).hexdigest()[:32]
    found: dict[str, Any] = kept(key, lambda: _found(parts, classes, files))
    bad = [] if files is None else [[files.name_of(path), reason] for path, reason in files.bad]
    identity = {"name": name, "source": source, "sha256": sha256}
    remarks = [] if files is None else list(files.remarks)
    return {**identity, **found, "remarks": remarks, "bad": {"count": len(bad), "images": bad}}


def report(found: Mapping[str, Any], files: Mapping[str, Any] | None, refusals: Sequence[str] = ()) -> dict[str, Any]:
    """Everything that is known of a data set, as content for JSON.

    Args:
        found: as `analyse` gives it.
        files: as `of_files` gives it.
        refusals: why a run would be refused.
    """
    return {**found, "files": files, "refusals": list(refusals)}


def of_files(config: DataConfig, files: Listing | None) -> dict[str, Any] | None:
    """What the headers of the image files say, as `headers.summarize` gives it; `None` if the data set has no files.

    Args:
        config: selects the data set.
        files: its image files, if there are such.
    """
    if config.name not in FILES or files is None:
        return None
    from cifar_exp.data import image_files

    found: dict[str, Any] = kept(f"{files.sha256[:32]}-files", lambda: headers.summarize(image_files.sources(config)))
    return found


def _found(parts: Mapping[str, Split], classes: Sequence[str], files: Listing | None) -> dict[str, Any]:
    splits = list(parts)
    ends = np.cumsum([len(part) for part in parts.values()])  # of the splits, in the order of all images
    images = int(ends[-1])
    paths = {} if files is None else {split: _paths(split, files) for split in splits}
    looked = {split: _look(part.images) for split, part in parts.items()}
    first_part = next(iter(parts.values()))
    mean, std = looked[TRAINING if TRAINING in parts else next(iter(parts))][2]
    contents = np.concatenate([part[0] for part in looked.values()])
    prints = np.concatenate([part[1] for part in looked.values()])
    del looked

    _, first, content_of = np.unique(contents, return_index=True, return_inverse=True)
    representatives = np.sort(first)
    same = np.flatnonzero(first[content_of] != np.arange(images))
    equal = near_duplicates.groups(np.stack([first[content_of[same]], same], axis=1), images)
    alike = representatives[near_duplicates.pairs(prints[representatives])]
    similar = near_duplicates.groups(alike, images)

    def split_of(index: int) -> str:
        return splits[np.searchsorted(ends, index, side="right")]

    def described(index: int) -> dict[str, Any]:
        split = split_of(index)
        place = index - int(ends[splits.index(split)]) + len(parts[split])
        named = paths.get(split, [])
        # With data.train_images, not all files are among the images.
        name = named[place] if len(named) == len(parts[split]) else f"{split} image {place}"
        return {"split": split, "index": place, "class": classes[int(parts[split].labels[place])], "name": name}

    def members(group: Sequence[int]) -> list[dict[str, Any]]:
        """The first of each split, then the others."""
        firsts = {split_of(index): index for index in reversed(group)}.values()
        ordered = [*sorted(firsts), *(index for index in group if index not in firsts)]
        return [described(index) for index in ordered[:_MEMBERS]]

    def summary(groups: Sequence[tuple[int, ...]]) -> dict[str, Any]:
        in_splits = [Counter(map(split_of, group)) for group in groups]
        order = sorted(range(len(groups)), key=lambda at: len(in_splits[at]) == 1)
        held_out = {split: sum(of[split] for of in in_splits if of[TRAINING]) for split in splits if split != TRAINING}
        return {
            "images": sum(map(len, groups)),
            "groups": len(groups),
            "across_splits": sum(len(of) > 1 for of in in_splits),
            "held_out": held_out,
            "listed": [{"images": len(groups[at]), "members": members(groups[at])} for at in order[:_GROUPS]],
        }

    counts = {split: np.bincount(part.labels, minlength=len(classes)).tolist() for split, part in parts.items()}
    return {
        "images": images,
        "shape": list(first_part.images.shape[1:]),
        "classes": list(classes),
        "counts": counts,
        "mean": mean,
        "std": std,
        "duplicates": summary(equal),
        "near_duplicates": summary(similar),
    }


def _paths(split: str, files: Listing) -> list[str]:
    """The names of the files of a split, in the order of its images."""
    splits = files.splits or (UNASSIGNED,) * len(files)
    return [files.name_of(path) for path, of in zip(files.paths, splits, strict=True) if of == split]


_Looked = tuple[npt.NDArray[np.void], Fingerprints, tuple[list[float], list[float]]]


def _look(images: StoredImages) -> _Looked:
    """Digest (N,) and fingerprint (N, frequencies) of each image; mean and standard deviation of each channel."""
    channels = images.shape[-1]
    pixels = images.shape[1] * images.shape[2]
    ones = np.ones(pixels, np.float32)
    grey = np.full(channels, 1 / channels, np.float32)
    digests, prints = bytearray(), []
    total, squares = np.zeros(channels), np.zeros(channels)
    step = max(1, _CHUNK // (pixels * channels))
    for start in range(0, len(images), step):
        chunk = np.ascontiguousarray(images[start : start + step])
        for image in chunk:
            digests += hashlib.blake2b(image.data, digest_size=16).digest()
        values = chunk.astype(np.float32)
        prints.append(near_duplicates.fingerprints(values @ grey))
        values = values.reshape(len(chunk), -1, channels)
        total += (ones @ values).sum(axis=0, dtype=np.float64)
        squares += (ones @ np.square(values, out=values)).sum(axis=0, dtype=np.float64)
    mean = total / (len(images) * pixels)
    std = np.sqrt(np.maximum(squares / (len(images) * pixels) - mean**2, 0))
    contents = np.frombuffer(bytes(digests), np.dtype((np.void, 16)))
    return contents, np.concatenate(prints), (mean.round(2).tolist(), std.round(2).tolist())
