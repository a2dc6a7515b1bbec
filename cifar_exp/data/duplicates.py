"""Images that are in two splits: a model would be tested on what it has learned by heart."""

from __future__ import annotations

import logging
from collections import defaultdict

import numpy as np
import numpy.typing as npt

from cifar_exp.data.listing import Listing, first_of
from cifar_exp.errors import UserError, counted

log = logging.getLogger(__name__)


def across_splits(assigned: Listing, digests: npt.NDArray[np.uint8]) -> list[tuple[int, ...]]:
    """Find images with the same content in several splits.

    Args:
        assigned: N images with their splits.
        digests: (N, 32) uint8, SHA-256 of the content of each image.

    Returns:
        Indices of the images of each content that is in several splits, ascending.
    """
    by_content: dict[bytes, list[int]] = defaultdict(list)
    for index, digest in enumerate(digests):
        by_content[digest.tobytes()].append(index)
    same = (indices for indices in by_content.values() if len(indices) > 1)
    return [tuple(indices) for indices in same if len({assigned.splits[i] for i in indices}) > 1]


def check(assigned: Listing, digests: npt.NDArray[np.uint8], allow: bool) -> None:
    """Refuse images with the same content in several splits, or warn of them.

    Args:
        assigned: N images with their splits.
        digests: (N, 32) uint8, SHA-256 of the content of each image.
        allow: whether to warn only.

    Raises:
        UserError: naming the files.
    """
    found = across_splits(assigned, digests)
    if not found:
        return
    named = [" = ".join(f"{assigned.paths[i]} ({assigned.splits[i]})" for i in indices) for indices in found]
    message = f"{assigned.root}: {counted(len(found), 'image')} in several splits: {first_of(named)}"
    if not allow:
        raise UserError(f"{message}; remove the copies, or accept them with data.duplicates=allow")
    log.warning("%s", message)
