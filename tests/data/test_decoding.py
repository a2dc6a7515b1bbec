"""Tests of decoding: pixels are those that Pillow gives, step by step, and every bad file has one kind of error."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps
from sklearn.datasets import load_sample_image

from cifar_exp.data import decoding
from cifar_exp.data.decoding import COLOR_MODES, RESIZE, BadImage, Decoder, header

PHOTO = Image.fromarray(load_sample_image("china.jpg"))  # 640 x 427


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_formats_keep_their_pixels(kind: str, tmp_path: Path) -> None:
    content = encoded(PHOTO, kind, **({"lossless": True} if kind == "WEBP" else {}))
    path = tmp_path / "photo"
    path.write_bytes(content)
    for source in (content, path):
        pixels = Decoder().decode(source)
        assert (pixels.shape, pixels.dtype) == ((427, 640, 3), np.uint8)
        assert np.array_equal(pixels, np.asarray(PHOTO))
    assert header(content)[:3] == (427, 640, kind)


JPEG_OPTIONS: dict[str, dict[str, Any]] = {
    "low quality": {"quality": 5},
    "full resolution of color": {"quality": 95, "subsampling": "4:4:4"},
    "half": {"subsampling": "4:2:2"},
    "quarter": {"subsampling": "4:2:0"},
    "progressive": {"progressive": True},
    "optimized": {"optimize": True},
    "with restart markers": {"restart_marker_blocks": 3},
    "stored as RGB": {"keep_rgb": True},
    "with a color profile": {"icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()},
}


@pytest.mark.parametrize("options", JPEG_OPTIONS.values(), ids=JPEG_OPTIONS.keys())
@pytest.mark.parametrize("size", [(640, 427), (33, 17), (1, 1), (16, 16)])
@pytest.mark.parametrize(
    ("stored", "color_mode"), [("RGB", "rgb"), ("RGB", "grayscale"), ("L", "rgb"), ("L", "grayscale")]
)
def test_jpeg_is_as_pillow_reads_it(stored: str, color_mode: str, size: tuple[int, int], options: Any) -> None:
    content = encoded(PHOTO.resize(size).convert(stored), "JPEG", **options)
    expected = np.asarray(Image.open(io.BytesIO(content)).convert(COLOR_MODES[color_mode]))
    pixels = Decoder(color_mode=color_mode).decode(content)
    assert np.array_equal(pixels, expected.reshape(pixels.shape))
    assert np.array_equal(Decoder(size[::-1], "crop", color_mode).decode(content), pixels)


def pixels_or_refusal(content: bytes) -> tuple[tuple[int, ...], bytes] | str:
    try:
        pixels = Decoder().decode(content)
    except BadImage as refused:
        return str(refused)
    return pixels.shape, pixels.tobytes()


def test_a_damaged_jpeg_is_read_or_refused_as_by_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    content, generator = encoded(PHOTO.resize((101, 67)), "JPEG"), np.random.default_rng(0)
    damaged = []
    for number in range(300):
        changed = bytearray(content)
        for place in generator.integers(len(content), size=1 + number % 3):
            changed[place] = generator.integers(256)
        damaged.append(bytes(changed if number % 5 else changed[: generator.integers(len(content))]))
    found = list(map(pixels_or_refusal, damaged))
    assert 50 < sum(isinstance(one, str) for one in found) < 250
    monkeypatch.setattr(decoding, "_decode_jpeg", lambda *_: None)
    assert found == list(map(pixels_or_refusal, damaged))


def test_a_gif_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ((250, 0, 0), (0, 0, 250))]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert Decoder().decode(content)[3, 3].tolist() == [250, 0, 0]


@pytest.mark.parametrize("resize", RESIZE)
@pytest.mark.parametrize("size", [(48, 64), (64, 64), (64, 20)])
def test_resizing_is_antialiased_as_pillow_does_it(resize: str, size: tuple[int, int]) -> None:
    expected = {
        "stretch": lambda: PHOTO.resize(size[::-1], Image.Resampling.LANCZOS),
        "crop": lambda: ImageOps.fit(PHOTO, size[::-1], Image.Resampling.LANCZOS),
        "pad": lambda: ImageOps.pad(PHOTO, size[::-1], Image.Resampling.LANCZOS, "white"),
    }[resize]()
    assert np.array_equal(Decoder(size, resize).decode(encoded(PHOTO, "PNG")), np.asarray(expected))


@pytest.mark.parametrize("resize", RESIZE)
@pytest.mark.parametrize("size", [(32, 32), (64, 64), (100, 100)])
def test_a_jpeg_that_its_decoder_scales_down_is_nearly_the_same(resize: str, size: tuple[int, int]) -> None:
    photo = PHOTO.resize((1280, 854), Image.Resampling.LANCZOS)
    content = encoded(photo, "JPEG", quality=95)
    exact = encoded(Image.open(io.BytesIO(content)), "PNG")
    difference = Decoder(size, resize).decode(content) - Decoder(size, resize).decode(exact).astype(float)
    assert np.abs(difference).mean() < 1
    assert np.abs(difference).max() < 24


def test_an_image_of_the_size_keeps_its_pixels() -> None:
    for resize in RESIZE:
        assert np.array_equal(Decoder((427, 640), resize).decode(encoded(PHOTO, "PNG")), np.asarray(PHOTO))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grey_of_16_bits_is_scaled_over_its_range(kind: str) -> None:
    values = np.array([[0, 257, 32896], [65535, 128, 65407]], np.uint16)
    pixels = Decoder(color_mode="grayscale").decode(encoded(Image.fromarray(values), kind))
    assert pixels[..., 0].tolist() == [[0, 1, 128], [255, 0, 255]]
    assert np.array_equal(Decoder().decode(encoded(Image.fromarray(values), kind)), pixels.repeat(3, axis=2))


def test_grey_and_bilevel_and_palette_images_become_rgb_and_back() -> None:
    grey = PHOTO.convert("L")
    assert np.array_equal(Decoder().decode(encoded(grey, "PNG"))[..., 1], np.asarray(grey))
    one_channel = Decoder(color_mode="grayscale").decode(encoded(PHOTO, "PNG"))
    assert np.array_equal(one_channel, np.asarray(grey)[..., np.newaxis])
    for mode in ("P", "1"):
        image = PHOTO.convert(mode)
        assert np.array_equal(Decoder().decode(encoded(image, "PNG")), np.asarray(image.convert("RGB")))


def test_transparent_parts_are_white() -> None:
    image = Image.new("RGBA", (4, 4), (200, 0, 0, 255))
    image.putpixel((0, 0), (200, 0, 0, 0))
    image.putpixel((1, 0), (200, 0, 0, 51))
    pixels = Decoder().decode(encoded(image, "PNG"))
    assert pixels[0, :3].tolist() == [[255, 255, 255], [244, 204, 204], [200, 0, 0]]
    palette = Image.new("P", (2, 1))
    palette.putpalette([9, 9, 9, 50, 60, 70])
    palette.putpixel((1, 0), 1)
    pixels = Decoder().decode(encoded(palette, "PNG", transparency=0))
    assert pixels[0].tolist() == [[255, 255, 255], [50, 60, 70]]


def test_cmyk_is_as_pillow_converts_it() -> None:
    content = encoded(PHOTO.convert("CMYK"), "JPEG", quality=95)
    pixels = Decoder().decode(content)
    assert np.array_equal(pixels, np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))
    assert np.abs(pixels.astype(float) - np.asarray(PHOTO)).mean() < 4  # the colors are not inverted


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("orientation", [*range(1, 10), 65535])
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    image = Image.fromarray(np.arange(32 * 48, dtype=np.uint32).astype(np.uint8).reshape(32, 48))
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(image, kind, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    assert np.array_equal(Decoder(color_mode="grayscale").decode(content)[..., 0], expected)
    assert header(content)[:2] == expected.shape


def test_a_rotated_jpeg_is_scaled_down_along_the_right_sides() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(PHOTO, "JPEG", exif=exif, quality=95)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    expected = np.asarray(upright.resize((20, 100), Image.Resampling.LANCZOS)).astype(float)
    assert np.abs(Decoder((100, 20)).decode(content) - expected).mean() < 1


def bomb() -> bytes:
    """A PNG of a few hundred bytes whose header promises 30,000 x 30,000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    sizes = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", sizes) + chunk(b"IDAT", zlib.compress(bytes(999))) + chunk(b"IEND", b"")
    )


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "empty file"),
    "text": (lambda: b"not an image\n", "not an image in PNG"),
    "cut off PNG": (lambda: encoded(PHOTO, "PNG")[:5000], "truncated"),
    "cut off JPEG": (lambda: encoded(PHOTO, "JPEG")[:5000], "truncated"),
    "only a header": (lambda: encoded(PHOTO, "PNG")[:20], "Truncated File Read"),
    "bomb": (bomb, "the limit of Pillow"),
    "32 bits": (lambda: encoded(Image.new("F", (4, 4)), "TIFF"), "32 bits"),
    "svg": (lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
}


@pytest.mark.parametrize(("content", "says"), BAD.values(), ids=BAD.keys())
def test_a_bad_file_is_refused_with_its_reason(content: Callable[[], bytes], says: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.png"
    path.write_bytes(content())
    for source in (path, path.read_bytes()):
        with pytest.raises(BadImage, match=says) as refused:
            Decoder((32, 32)).decode(source)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"])
def test_damaged_bytes_are_refused_or_read_but_never_raise_anything_else(kind: str) -> None:
    content = encoded(PHOTO.resize((60, 40)), kind)
    generator = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(content)
        for position in generator.integers(0, len(content), 8):
            damaged[position] = generator.integers(256)
        with suppress(BadImage):
            assert Decoder((16, 16)).decode(bytes(damaged)).shape == (16, 16, 3)


def test_files_that_cannot_be_opened_are_refused_with_the_reason_of_the_system(tmp_path: Path) -> None:
    circle = tmp_path / "circle.png"
    circle.symlink_to(circle)
    locked = tmp_path / "locked.png"
    locked.write_bytes(encoded(PHOTO, "PNG"))
    locked.chmod(0)
    cases = {circle: "symbolic links", tmp_path / "missing.png": "No such file", tmp_path: "directory"}
    if os.geteuid():  # root may read everything
        cases[locked] = "Permission denied"
    for path, says in cases.items():
        with pytest.raises(BadImage, match=says):
            Decoder().decode(path)
