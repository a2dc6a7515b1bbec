"""Image files of any size -> input of the models; images of any number of channels -> RGB."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from cifar_exp.data.datasets import Images
from cifar_exp.data.schema import ImageShape
from cifar_exp.errors import UserError

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
_MODES = {1: "L", 3: "RGB"}  # channels -> mode of Pillow
_WHITE = (255, 255, 255, 255)


def read(path: Path, image_shape: ImageShape) -> Images:
    """Read an image file (PNG, JPEG, WebP, BMP or GIF) as one input image.

    The image is rotated according to its EXIF orientation, transparent parts become white, and it is scaled to the size
    of the model without keeping its aspect ratio. An image of that size keeps its pixels. An animation yields its first
    frame.

    Args:
        path: of the file.
        image_shape: (H, W, C) that the model takes; one channel is grey, three are RGB.

    Returns:
        Image (H, W, C) uint8 in 0..255.

    Raises:
        UserError: if the model takes another number of channels, or if the file is missing or not a readable image.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    height, width, channels = image_shape
    if channels not in _MODES:
        raise UserError(f"{path}: the model takes images of {channels} channels, expected 1 (grey) or 3 (RGB)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=_FORMATS) as opened:
                upright = ImageOps.exif_transpose(opened)
                if upright.mode.startswith("I"):  # 16-bit grey, whose values above 255 Pillow would clip
                    grey = np.asarray(upright).astype(np.float64) / 257
                    upright = Image.fromarray(grey.clip(0, 255).astype(np.uint8))
                if upright.has_transparency_data:
                    rgba = upright.convert("RGBA")
                    upright = Image.alpha_composite(Image.new("RGBA", rgba.size, _WHITE), rgba)
                scaled = upright.convert(_MODES[channels]).resize((width, height), Image.Resampling.LANCZOS)
    except UnidentifiedImageError as error:
        raise UserError(f"{path}: not an image in PNG, JPEG, WebP, BMP or GIF format") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: {error}") from error
    except OSError as error:  # includes truncated files
        raise UserError(f"{path}: {error.strerror or error}") from error
    except (ValueError, SyntaxError, EOFError) as error:  # raised by Pillow for damaged files
        raise UserError(f"{path}: damaged image: {error}") from error
    return np.asarray(scaled).reshape(image_shape)


def as_rgb(images: Images) -> Images:
    """Images as they can be shown: one channel as grey, of more than three the first three.

    Args:
        images: (..., C) uint8.

    Returns:
        (..., 3) uint8.
    """
    channels = images.shape[-1]
    return images[..., :3] if channels >= 3 else np.repeat(images[..., :1], 3, axis=-1)
