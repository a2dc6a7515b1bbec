"""Tests of what the headers of image files say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from cifar_exp.data import headers


def test_sizes_formats_and_modes_are_counted_without_decoding(tmp_path: Path) -> None:
    for number, (size, mode) in enumerate([((8, 6), "RGB"), ((8, 6), "L"), ((20, 10), "RGB")]):
        Image.new(mode, size).save(tmp_path / f"{number}.png")
    Image.new("RGB", (8, 6)).save(tmp_path / "3.jpg")
    cut = tmp_path / "0.png"
    cut.write_bytes(cut.read_bytes()[:-20])  # its header is whole
    (tmp_path / "text.png").write_text("no image")
    files = [*sorted(tmp_path.iterdir()), tmp_path / "missing.png"]
    assert headers.summarize(files) == {
        "height": {"min": 6, "median": 6.0, "max": 10},
        "width": {"min": 8, "median": 8.0, "max": 20},
        "sizes": [[8, 6, 3], [20, 10, 1]],
        "different_sizes": 2,
        "formats": {"PNG": 3, "JPEG": 1},
        "modes": {"RGB": 3, "L": 1},
    }


def test_contents_and_pixels_have_headers_too(tmp_path: Path) -> None:
    Image.new("RGB", (8, 6)).save(tmp_path / "0.webp")
    found = headers.summarize([(tmp_path / "0.webp").read_bytes(), np.zeros((5, 4), np.uint8), b""])
    assert found["formats"] == {"WEBP": 1, "array": 1}
    assert found["sizes"] == [[8, 6, 1], [4, 5, 1]]


def test_nothing_that_can_be_read_is_no_error() -> None:
    assert headers.summarize([b"", b"text"])["sizes"] == []
