"""What the headers of image files say: sizes, formats and modes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from cifar_exp.data.decoding import BadImage, header
from cifar_exp.data.filling import Source

_COMMON = 10  # sizes that are listed


def summarize(sources: Iterable[Source]) -> dict[str, Any]:
    """Count the sizes, formats and modes of images, without decoding them. Files without a header are left out.

    Args:
        sources: the files or their contents.

    Returns:
        `height` and `width` in pixels, each with `min`, `median` and `max`; the most common sizes as
        `[width, height, images]` under `sizes` and their number as `different_sizes`; and the number of images of each
        format (`PNG`) and each mode of Pillow (`RGB`) under `formats` and `modes`.
    """
    sizes: Counter[tuple[int, int]] = Counter()
    formats: Counter[str] = Counter()
    modes: Counter[str] = Counter()
    for source in sources:
        try:
            height, width, kind, mode = header(source, thorough=False)
        except (BadImage, OSError):
            continue
        sizes[width, height] += 1
        formats[kind or "array"] += 1
        modes[mode] += 1
    counts = list(sizes.values())
    found: dict[str, Any] = {}
    for axis, name in ((1, "height"), (0, "width")):
        lengths = np.repeat([size[axis] for size in sizes], counts)
        if len(lengths):
            found[name] = {"min": int(lengths.min()), "median": float(np.median(lengths)), "max": int(lengths.max())}
    return {
        **found,
        "sizes": [[*size, count] for size, count in sizes.most_common(_COMMON)],
        "different_sizes": len(sizes),
        "formats": dict(formats.most_common()),
        "modes": dict(modes.most_common()),
    }
