"""Images that show the same picture: stored again with another quality, size, brightness or tint.

A perceptual hash of the lowest frequencies of an image, as pHash computes it, finds the candidates. What decides is how
much those frequencies correlate.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Fingerprints = npt.NDArray[np.float16]  # (N, frequencies), of length 1 or 0
Indices = npt.NDArray[np.intp]
Pairs = npt.NDArray[np.intp]  # (P, 2)

_FREQUENCIES = 8  # of each axis, from 0
_BANDS = 7  # parts of a hash: images of which no part is the same are not compared
_DISTANCE = 10  # bits in which the hashes of two copies may differ
_CORRELATION = 0.95  # of the fingerprints of two copies, at least
_CONTRAST = 1.0  # standard deviation of grey values, of 255: what has less shows nothing
_CANDIDATES = 1 << 20  # pairs that are compared at a time


def fingerprints(images: npt.NDArray[np.float32]) -> Fingerprints:
    """Describe what images show, whatever their size, brightness and contrast.

    Args:
        images: (N, H, W) grey values in 0..255.

    Returns:
        (N, up to 63) float16: the lowest frequencies of the discrete cosine transform, each multiplied by its frequency
        and all scaled to length 1. The energy of pictures falls with the frequency: without weights the first decide,
        and all skies are the same. An image of one colour gives zeros.
    """
    height, width = images.shape[1:]
    rows, columns = _cosines(height), _cosines(width)
    lowest = (rows @ images @ columns.T) / np.float32(np.sqrt(height * width))  # the mean square is that of the image
    frequency = np.hypot(np.arange(len(rows))[:, np.newaxis], np.arange(len(columns))).astype(np.float32)
    flat = lowest.reshape(len(images), -1)[:, 1:]
    shows_something = np.linalg.norm(flat, axis=1, keepdims=True) > _CONTRAST
    weighted = flat * frequency.reshape(-1)[1:]
    length = np.linalg.norm(weighted, axis=1, keepdims=True)
    unit = np.divide(weighted, length, out=np.zeros_like(weighted), where=shows_something)
    found: Fingerprints = unit.astype(np.float16)
    return found


def pairs(prints: Fingerprints) -> Pairs:
    """Find pairs that join all images that show the same picture, directly or through others.

    Images that are joined already are not compared. So memory grows with the number of images; time grows with the
    number of pairs that share a seventh of a hash and are not joined.

    Args:
        prints: (N, frequencies), as `fingerprints` gives them.

    Returns:
        (P, 2) indices, each pair once, the smaller index first, in ascending order; fewer than N.
    """
    shown = np.flatnonzero(prints.any(axis=1))
    kept = prints[shown]
    bits = np.packbits(kept > 0, axis=1)
    hashes = np.zeros((len(kept), 8), np.uint8)
    hashes[:, : bits.shape[1]] = bits
    words = hashes.view(">u8").astype(np.uint64)[:, 0]
    group_of = np.arange(len(kept))
    found = [np.empty((0, 2), np.intp)]
    for most in (1, len(kept)):  # the next of each image first, which joins most of what looks alike
        for band in range(_BANDS):
            for first, second in _candidates(words, band, group_of, most):
                apart = group_of[first] != group_of[second]  # some were joined meanwhile
                first, second = first[apart], second[apart]
                close = np.bitwise_count(words[first] ^ words[second]) <= _DISTANCE
                first, second = first[close], second[close]
                same = np.einsum("ij,ij->i", kept[first], kept[second], dtype=np.float32) >= _CORRELATION
                joining, group_of = _join(np.stack([first[same], second[same]], axis=1), group_of)
                found.append(joining)
    ordered: Pairs = np.sort(np.concatenate(found), axis=1)
    return shown[ordered[np.lexsort((ordered[:, 1], ordered[:, 0]))]]


def groups(pairs: Pairs, images: int) -> list[tuple[int, ...]]:
    """Join pairs that share an image.

    Args:
        pairs: (P, 2) indices.
        images: number of all images.

    Returns:
        Indices of the images of each group, ascending; the groups in the order of their first images.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    graph = coo_matrix((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), (images, images))
    _, group_of = connected_components(graph, directed=False)
    members = np.unique(pairs)
    by_group: dict[int, list[int]] = {}
    for member in members.tolist():
        by_group.setdefault(int(group_of[member]), []).append(member)
    return [tuple(indices) for indices in by_group.values()]


def _cosines(length: int) -> npt.NDArray[np.float32]:
    """The rows of the orthonormal DCT-II of this length with the lowest frequencies."""
    frequencies = np.arange(min(_FREQUENCIES, length))[:, np.newaxis]
    cosines = np.cos(np.pi / length * frequencies * (np.arange(length) + 0.5)) * np.sqrt(2 / length)
    cosines[0] = np.sqrt(1 / length)
    lowest: npt.NDArray[np.float32] = cosines.astype(np.float32)
    return lowest


def _candidates(
    words: npt.NDArray[np.uint64], band: int, group_of: Indices, most: int
) -> Iterator[tuple[Indices, Indices]]:
    """Pairs of hashes that have the same bits in a band and are of different groups, at most so many of each hash."""
    width = 63 // _BANDS
    part = (words >> np.uint64(1 + band * width)) & np.uint64((1 << width) - 1)
    order = np.lexsort((group_of, part))
    bucket = part[order].astype(np.intp) * (len(part) + 1)
    end = np.searchsorted(bucket, bucket, side="right")  # where the bucket of each hash ends
    of_group = bucket + group_of[order]
    next_group = np.searchsorted(of_group, of_group, side="right")
    others = np.minimum(end - next_group, most)
    total = np.cumsum(others)
    start = 0
    while start < len(part):
        done = total[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(total, done + _CANDIDATES, side="right")))
        count = others[start:stop]
        first = np.repeat(np.arange(start, stop), count)
        offset = np.arange(len(first)) - np.repeat(np.cumsum(count) - count, count)
        yield order[first], order[next_group[first] + offset]
        start = stop


def _join(pairs: Pairs, group_of: Indices) -> tuple[Pairs, Indices]:
    """Join the groups of pairs.

    Returns:
        The pairs that are enough for it, and the new group of each image.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

    images = len(group_of)
    lower, higher = np.sort(group_of[pairs], axis=1).T
    _, which = np.unique(lower * images + higher, return_index=True)
    number = which + 1  # a stored 0 is no edge
    tree = minimum_spanning_tree(coo_matrix((number, (lower[which], higher[which])), (images, images)))
    _, joined = connected_components(tree, directed=False)
    return pairs[tree.data.astype(np.intp) - 1], joined[group_of]
