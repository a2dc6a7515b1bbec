"""The images that a model gets wrong, on one sheet, from which a page cuts single ones by their place."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from cifar_exp.data.mapped import StoredImages

COUNT, COLUMNS = 128, 16  # images on a sheet, at most; and beside each other
SIDE = 64  # pixels of the longer side of an image, at most

Labels = npt.NDArray[np.integer]


def chosen(labels: Labels, predicted: Labels) -> npt.NDArray[np.intp]:
    """Rows of the images on a sheet: the first ones that are wrong, whatever the model, so that sheets can be compared.

    Args:
        labels: (N,) true classes.
        predicted: (N,) predicted classes.
    """
    return np.flatnonzero(labels != predicted)[:COUNT]


def sheet(images: StoredImages, rows: npt.NDArray[np.intp]) -> bytes:
    """Draw images from left to right and from top to bottom, without space between them, as PNG.

    Args:
        images: (N, H, W, C) uint8.
        rows: of the images, at least one.
    """
    from PIL import Image

    from cifar_exp.evaluation.pictures import as_rgb

    pictures = [Image.fromarray(as_rgb(images[row])) for row in rows]
    for picture in pictures:
        picture.thumbnail((SIDE, SIDE))
    width, height = pictures[0].size
    drawn = Image.new("RGB", (COLUMNS * width, -(-len(pictures) // COLUMNS) * height))
    for place, picture in enumerate(pictures):
        drawn.paste(picture, (place % COLUMNS * width, place // COLUMNS * height))
    buffer = io.BytesIO()
    drawn.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
