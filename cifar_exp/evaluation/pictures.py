"""Reading image files of any size as input of the models."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from cifar_exp.config.schema import IMAGE_SHAPE
from cifar_exp.data.datasets import Images
from cifar_exp.errors import UserError

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
_WHITE = (255, 255, 255, 255)


def read(path: Path) -> Images:
    """Read an image file (PNG, JPEG, WebP, BMP or GIF) as one input image.

    The image is rotated according to its EXIF orientation, transparent parts become white, and it is scaled to 32 x 32
    without keeping its aspect ratio. An image of 32 x 32 keeps its pixels. An animation yields its first frame.

    Args:
        path: of the file.

    Returns:
        Image (32, 32, 3) uint8 in 0..255.

    Raises:
        UserError: if the file does not exist or is not a readable image.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

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
                scaled = upright.convert("RGB").resize(IMAGE_SHAPE[:2], Image.Resampling.LANCZOS)
    except UnidentifiedImageError as error:
        raise UserError(f"{path}: not an image in PNG, JPEG, WebP, BMP or GIF format") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: {error}") from error
    except OSError as error:  # includes truncated files
        raise UserError(f"{path}: {error.strerror or error}") from error
    except (ValueError, SyntaxError, EOFError) as error:  # raised by Pillow for damaged files
        raise UserError(f"{path}: damaged image: {error}") from error
    return np.asarray(scaled)
