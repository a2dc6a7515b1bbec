"""Image files of any size -> input of the models; images of any number of channels -> pictures."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np

from cifar_exp.data.decoding import BadImage, Decoder
from cifar_exp.data.schema import ImageShape
from cifar_exp.data.splits import Images
from cifar_exp.errors import UserError

_SIDE = 64  # pixels of the longer side of a small picture
_PIXEL_SIDE = 48  # pictures up to this side keep their pixels, larger ones become JPEG
_COLOR_MODES = {1: "grayscale", 3: "rgb"}  # by the number of channels


def read(path: Path, image_shape: ImageShape, resize: str = "stretch") -> Images:
    """Read an image file as one input image, as the images of `data=folder` are read.

    Args:
        path: of the file.
        image_shape: (H, W, C) that the model takes; one channel is grey, three are RGB.
        resize: as `data.resize`.

    Returns:
        Image (H, W, C) uint8 in 0..255.

    Raises:
        UserError: if the model takes another number of channels, or if the file is missing or not a readable image.
    """
    height, width, channels = image_shape
    if channels not in _COLOR_MODES:
        raise UserError(f"{path}: the model takes images of {channels} channels, expected 1 (grey) or 3 (RGB)")
    try:
        return Decoder((height, width), resize, _COLOR_MODES[channels]).decode(path)
    except BadImage as error:
        raise UserError(f"{path}: {error}") from error


def as_rgb(images: Images) -> Images:
    """Images as they can be shown: one channel as grey, of more than three the first three.

    Args:
        images: (..., C) uint8.

    Returns:
        (..., 3) uint8.
    """
    channels = images.shape[-1]
    return images[..., :3] if channels >= 3 else np.repeat(images[..., :1], 3, axis=-1)


def as_data_uri(image: Images) -> str:
    """A small picture of an image (H, W, C) uint8 as a data URI, for a page that loads nothing."""
    from PIL import Image

    picture = Image.fromarray(as_rgb(image))
    small = max(picture.size) <= _PIXEL_SIDE
    picture.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, **({"format": "PNG"} if small else {"format": "JPEG", "quality": 88, "subsampling": 0}))
    kind = "png" if small else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
