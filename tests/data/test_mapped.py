"""Tests of images that stay in their file: read as an array is indexed, and never mapped."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from cifar_exp.data.mapped import MappedImages

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 4, 6, 3), np.uint8)
ORDER = np.array([7, 8, 9, 3, 39, 0, 3, 2, 1])  # neighbours, one twice, and backwards


def stored(folder: Path, pixels: npt.NDArray[np.uint8], indices: npt.NDArray[np.intp]) -> MappedImages:
    pixels.tofile(folder / "pixels")
    mapped = np.memmap(folder / "pixels", np.uint8, "r", shape=pixels.shape)
    return MappedImages(mapped, np.zeros((len(pixels), 32), np.uint8), "", indices)


@pytest.mark.parametrize(
    "which",
    [0, -1, slice(None), slice(2, 6), slice(5, 5), slice(None, None, -2), np.array([4, 4, 0]), np.array([[1], [2]])],
)
def test_indexing_gives_what_an_array_gives(which: object, tmp_path: Path) -> None:
    images, expected = stored(tmp_path, PIXELS, ORDER), PIXELS[ORDER]
    assert np.array_equal(images[which], expected[which])  # type: ignore[index]
    assert images[which].shape == expected[which].shape  # type: ignore[index]
    assert np.array_equal(images.take(ORDER[:0])[:], expected[:0])
    assert np.array_equal(images.take(np.array([8, 0]))[:], expected[[8, 0]])


def test_a_removed_file_can_still_be_read(tmp_path: Path) -> None:
    images = stored(tmp_path, PIXELS, ORDER)
    (tmp_path / "pixels").unlink()
    assert np.array_equal(images.take(np.arange(9)), PIXELS[ORDER])


def test_a_file_that_was_removed_before_it_was_opened_is_read_from_its_mapping(tmp_path: Path) -> None:
    PIXELS.tofile(tmp_path / "pixels")
    mapped = np.memmap(tmp_path / "pixels", np.uint8, "r", shape=PIXELS.shape)
    (tmp_path / "pixels").unlink()
    images = MappedImages(mapped, np.zeros((40, 32), np.uint8), "", ORDER)
    assert np.array_equal(images[2:5], PIXELS[ORDER[2:5]])


def test_a_file_that_was_cut_off_is_named(tmp_path: Path) -> None:
    images = stored(tmp_path, PIXELS, ORDER)
    with (tmp_path / "pixels").open("r+b") as file:
        file.truncate(100)
    with pytest.raises(OSError, match=rf"{tmp_path}/pixels: the file of decoded images is cut off"):
        images[:]


def test_what_is_read_is_no_memory_of_the_process(tmp_path: Path) -> None:
    """Reading from the mapping would add all of the file."""
    pixels = np.zeros((64, 1 << 20, 1, 1), np.uint8)
    images = stored(tmp_path, pixels, np.arange(64))
    del pixels
    before = mapped_bytes()
    for index in np.random.default_rng(0).permutation(64):
        assert not images[index].any()
    assert mapped_bytes() - before < 1 << 24


def mapped_bytes() -> int:
    (kilobytes,) = re.findall(r"^RssFile:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.M)
    return 1024 * int(kilobytes)
