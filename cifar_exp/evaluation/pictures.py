"""Image files of any size -> images as the models take them."""

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
    """A file's picture, (32, 32, 3) uint8 in 0..255.

    It is turned as its camera says, laid on white where it is transparent, and scaled to the whole square, whatever its
    own shape. A picture of 32 x 32 comes out as it is; of an animation it is the first.

    Raises:
        UserError: if there is no such file, or it holds no picture.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=_FORMATS) as opened:
                turned = ImageOps.exif_transpose(opened)
                if turned.mode.startswith("I"):  # 16 bits of grey, of which Pillow would keep the darkest
                    grey = np.asarray(turned).astype(np.float64) / 257
                    turned = Image.fromarray(grey.clip(0, 255).astype(np.uint8))
                if turned.has_transparency_data:
                    coloured = turned.convert("RGBA")
                    turned = Image.alpha_composite(Image.new("RGBA", coloured.size, _WHITE), coloured)
                scaled = turned.convert("RGB").resize(IMAGE_SHAPE[:2], Image.Resampling.LANCZOS)
    except UnidentifiedImageError as error:
        raise UserError(f"{path}: it is no picture in PNG, JPEG, WebP, BMP or GIF") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: {error}") from error
    except OSError as error:  # also of a file that is cut short
        raise UserError(f"{path}: {error.strerror or error}") from error
    except (ValueError, SyntaxError, EOFError) as error:  # of a broken file
        raise UserError(f"{path}: its picture is broken: {error}") from error
    return np.asarray(scaled)
