"""One image file, or its bytes, as an array of pixels."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cifar_exp.errors import reason

if TYPE_CHECKING:
    from PIL import Image

# extensions of the files that are taken for images
EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
RESIZE = ("stretch", "crop", "pad")
COLOR_MODES = {"rgb": "RGB", "grayscale": "L"}  # as Keras calls them -> mode of Pillow

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
_WHITE = (255, 255, 255)
# A JPEG decoder can scale down by 2, 4 or 8 on its own, which is faster and less exact than the filter of `resize`.
# What it leaves has at least this many times the final width and height, so that the filter still decides the result.
_DRAFT_FACTOR = 2.5
_EXIF_ORIENTATION, _TURNED = 0x0112, range(5, 9)  # those by which width and height are exchanged


class BadImage(Exception):
    """An image that cannot be read; the message says why, without naming the file."""


@dataclass(frozen=True)
class Decoder:
    """How images become arrays.

    Attributes:
        size: (height, width) of the arrays. `None` keeps the size of each image.
        resize: `"stretch"` ignores the aspect ratio, `"crop"` keeps the center, `"pad"` adds white borders.
        color_mode: `"rgb"` (3 channels) or `"grayscale"` (1 channel).
    """

    size: tuple[int, int] | None = None
    resize: str = "stretch"
    color_mode: str = "rgb"

    @property
    def channels(self) -> int:
        """Number of channels of the arrays."""
        return 1 if self.color_mode == "grayscale" else 3

    def decode(self, source: Path | bytes | npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Read an image (PNG, JPEG, WebP, BMP, TIFF or GIF).

        The image is rotated according to its EXIF orientation. Transparent parts become white. Grey values of 16 bits
        are scaled from 0..65535 to 0..255. An animation yields its first frame. Resizing is antialiased.

        Args:
            source: the file, its bytes, or pixels (H, W) or (H, W, C) uint8.

        Returns:
            Pixels (H, W, C) uint8 in 0..255. An image that has `size` keeps its pixels.

        Raises:
            BadImage: if the file cannot be opened, is not an image, is damaged, or has more pixels than Pillow's limit;
                if pixels have another shape or type.
        """
        from PIL import ImageOps

        mode = COLOR_MODES[self.color_mode]
        with warnings.catch_warnings():
            _set_filters()
            try:
                with _open(source) as opened:
                    extent = self._draft(opened)
                    if extent is None and self._is_plain_jpeg(opened):
                        plain = _decode_jpeg(source, mode)
                        if plain is not None:
                            return plain
                    opened.load()  # some formats have what follows after the pixels
                    # Pillow copies an image that is upright, or has the mode, already.
                    turned = opened.getexif().get(_EXIF_ORIENTATION, 1) != 1
                    upright = _opaque(_eight_bits(ImageOps.exif_transpose(opened) if turned else opened))
                    converted = upright if upright.mode == mode else upright.convert(mode)
                    pixels = np.asarray(self._resized(converted, extent or upright.size))
            except (BadImage, MemoryError):
                raise
            except OSError as error:
                raise BadImage(error.strerror or reason(error)) from error
            except Exception as error:  # the parsers of Pillow raise many kinds for damaged files
                raise BadImage(f"damaged: {reason(error)}") from error
        return pixels.reshape(*pixels.shape[:2], self.channels)

    def _draft(self, opened: Image.Image) -> tuple[float, float] | None:
        """Let a JPEG decoder leave out detail that the final size has no room for.

        Returns:
            Width and height of the image in the pixels that are left: not whole numbers where the decoder has filled up
            the last row or column. `None` if the image is decoded as it is.
        """
        if self.size is None or opened.format != "JPEG":
            return None
        height, width = self.size
        original, orientation = opened.size, opened.getexif().get(_EXIF_ORIENTATION, 1)
        if orientation in _TURNED:
            height, width = width, height
        scales = (width / original[0], height / original[1])
        scale = _DRAFT_FACTOR * (min(scales) if self.resize == "pad" else max(scales))
        if orientation != 1 and any(side % 8 for side in original):  # what is filled up would move with the rotation
            return None
        if scale >= 1 or not opened.draft(None, (round(original[0] * scale), round(original[1] * scale))):
            return None
        factor = round(original[0] / opened.width)
        extent = original[0] / factor, original[1] / factor
        return extent[::-1] if orientation in _TURNED else extent

    def _is_plain_jpeg(self, opened: Image.Image) -> bool:
        """Whether the image is a JPEG whose pixels need only be decoded: upright, with its size and color mode."""
        return (
            opened.format == "JPEG"
            and opened.mode in ("L", COLOR_MODES[self.color_mode])
            and (self.size is None or opened.size == self.size[::-1])
            and opened.getexif().get(_EXIF_ORIENTATION, 1) == 1
        )

    def _resized(self, image: Image.Image, extent: tuple[float, float]) -> Image.Image:
        """The image in its final size, of the part of this width and height."""
        from PIL import Image

        if self.size is None or image.size == self.size[::-1]:
            return image
        (width, height), size, method = extent, self.size[::-1], Image.Resampling.LANCZOS
        if self.resize == "stretch":
            return image.resize(size, method, (0, 0, width, height))
        # As ImageOps.fit and ImageOps.pad compute it.
        wide, target = width / height, size[0] / size[1]
        if self.resize == "crop":
            kept = (target * height, height) if wide >= target else (width, width / target)
            left, top = (width - kept[0]) * 0.5, (height - kept[1]) * 0.5
            return image.resize(size, method, (left, top, left + kept[0], top + kept[1]))
        inner = (size[0], round(height / width * size[0])) if wide > target else (round(wide * size[1]), size[1])
        inner = (max(inner[0], 1), max(inner[1], 1))
        padded = Image.new(image.mode, size, _WHITE if image.mode == "RGB" else 255)
        scaled = image.resize(inner, method, (0, 0, width, height))
        padded.paste(scaled, (round((size[0] - inner[0]) * 0.5), round((size[1] - inner[1]) * 0.5)))
        return padded


def header(source: Path | bytes | npt.NDArray[np.uint8], thorough: bool = True) -> tuple[int, int, str, str]:
    """Read height, width, format and mode of an image, without decoding it.

    Args:
        source: the file or its bytes.
        thorough: whether to find an EXIF rotation that stands behind the pixels of a PNG, for which it is decoded.

    Returns:
        Height and width in pixels after the EXIF rotation, the format (`"PNG"`) and the mode of Pillow (`"RGB"`).

    Raises:
        BadImage: as `Decoder.decode` does, unless the damage is behind the header.
    """
    from PIL import Image

    with warnings.catch_warnings():
        _set_filters()
        try:
            with _open(source) as opened:
                height, width = opened.height, opened.width
                exif = opened.getexif() if thorough else Image.Image.getexif(opened)  # that of a PNG decodes it
                if exif.get(_EXIF_ORIENTATION) in _TURNED:
                    height, width = width, height
                return height, width, opened.format or "", opened.mode
        except BadImage:
            raise
        except OSError as error:
            raise BadImage(error.strerror or reason(error)) from error
        except Exception as error:
            raise BadImage(f"damaged: {reason(error)}") from error


def _decode_jpeg(source: Path | bytes | npt.NDArray[np.uint8], mode: str) -> npt.NDArray[np.uint8] | None:
    """Decode a JPEG to the pixels that Pillow gives, in two thirds of its time.

    Returns:
        (H, W, C) uint8. `None` for a damaged file: Pillow says what is wrong with it, or reads it all the same.
    """
    import simplejpeg

    content = source.read_bytes() if isinstance(source, Path) else source
    try:
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(content, "GRAY" if mode == "L" else mode)
    except ValueError:
        return None
    return pixels


def _set_filters() -> None:
    from PIL import Image

    warnings.simplefilter("ignore")  # of metadata, say
    warnings.simplefilter("error", Image.DecompressionBombWarning)


def _open(source: Path | bytes | npt.NDArray[np.uint8]) -> Image.Image:
    """Open an image; the pixels of a file are not decoded yet."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(source, np.ndarray):
        _check_pixels(source)
        return Image.fromarray(source[..., 0] if source.ndim == 3 and source.shape[2] == 1 else source)
    empty = not source if isinstance(source, bytes) else source.stat().st_size == 0
    if empty:
        raise BadImage("empty file")
    try:
        return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=_FORMATS)
    except UnidentifiedImageError:
        raise BadImage("not an image in PNG, JPEG, WebP, BMP, TIFF or GIF format") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise BadImage(f"more than {Image.MAX_IMAGE_PIXELS:,} pixels, the limit of Pillow") from None


def _check_pixels(pixels: npt.NDArray[Any]) -> None:
    if pixels.dtype != np.uint8:
        raise BadImage("pixels are not whole numbers in 0..255")
    if pixels.ndim not in (2, 3) or not pixels.size or pixels.shape[2:] > (4,):
        raise BadImage(f"pixels of shape {list(pixels.shape)}, expected [height, width] or [height, width, channels]")


def _eight_bits(image: Image.Image) -> Image.Image:
    """The image with 8 bits a channel: Pillow would cut grey values of 16 bits off at 255."""
    from PIL import Image

    is_16_bit_png = image.mode == "I" and image.format == "PNG"  # before Pillow 11
    if image.mode.startswith("I;16") or is_16_bit_png:
        return Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise BadImage("pixels of 32 bits, expected 8 or 16 bits a channel")
    return image


def _opaque(image: Image.Image) -> Image.Image:
    """The image on white, if parts of it are transparent."""
    from PIL import Image

    if not image.has_transparency_data:
        return image
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, (*_WHITE, 255)), rgba)
