"""Tests of near duplicates: copies of a picture are found however they were stored, other pictures are not."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageStat
from sklearn.datasets import load_sample_images

from cifar_exp.data import near_duplicates

Change = Callable[[Image.Image], Image.Image]
SIDE = 32


def pictures(count: int, side: int = SIDE) -> list[Image.Image]:
    """Different parts of two photos, without those that show the sky or a blurred background alone."""
    generator = np.random.default_rng(0)
    photos = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    found = []
    while len(found) < count:
        photo = photos[len(found) % 2]
        wide = int(generator.integers(80, 200))
        left, top = (int(generator.integers(0, length - wide)) for length in photo.size)
        part = photo.crop((left, top, left + wide, top + wide))
        if ImageStat.Stat(part.convert("L")).stddev[0] > 25:
            found.append(part.resize((side, side), Image.Resampling.LANCZOS))
    return found


def grey(images: list[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(image.convert("L"), np.float32) for image in images])


def stored(image: Image.Image, kind: str, **options: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return Image.open(buffer)


CHANGES: dict[str, Change] = {
    "JPEG of low quality": lambda image: stored(image, "JPEG", quality=30),
    "WebP": lambda image: stored(image, "WEBP", quality=60),
    "another size": lambda image: image.resize((20, 20)).resize(image.size),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.6),
    "less contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.6),
    "grey": lambda image: image.convert("L").convert("RGB"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_copies_are_found_and_nothing_else(change: str) -> None:
    images = pictures(200)
    copies = [CHANGES[change](image) for image in images]
    prints = near_duplicates.fingerprints(grey([*images, *copies]))
    found = near_duplicates.pairs(prints)
    expected = {(i, i + 200) for i in range(200)}
    assert len(expected & set(map(tuple, found.tolist()))) >= 198
    # Parts of one photo overlap, so a few of them look the same.
    assert len(found) <= 210


def test_the_size_of_the_images_does_not_matter() -> None:
    small, large = (near_duplicates.fingerprints(grey(pictures(50, side))) for side in (32, 128))
    same = np.einsum("ij,ij->i", small, large)
    assert same.min() > 0.95


def test_plain_skies_are_not_the_same() -> None:
    """A gradient from top to bottom, and somewhere a small dark thing."""
    generator = np.random.default_rng(0)
    skies = np.linspace(220, 140, SIDE, dtype=np.float32)[:, np.newaxis] + generator.normal(0, 1, (200, SIDE, SIDE))
    places = generator.integers(6, 24, (200, 2))
    for sky, (top, left) in zip(skies, places, strict=True):
        sky[top : top + 3, left : left + 6] -= 100
    assert np.corrcoef(skies.reshape(200, -1)).mean() > 0.5
    prints = near_duplicates.fingerprints(skies.astype(np.float32))
    found = near_duplicates.pairs(prints)
    assert len(found) < 100  # of 19,900
    assert max(np.abs(places[first] - places[second]).max() for first, second in found) <= 1


def test_images_of_one_colour_are_not_compared() -> None:
    plain = np.full((100, SIDE, SIDE), 255, np.float32)
    prints = near_duplicates.fingerprints(plain)
    assert not prints.any()
    assert near_duplicates.pairs(prints).shape == (0, 2)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (3, 2), (6, 40)])
def test_tiny_images_are_no_error(shape: tuple[int, int]) -> None:
    images = np.random.default_rng(0).uniform(0, 255, (5, *shape)).astype(np.float32)
    copies = np.concatenate([images, images])
    found = near_duplicates.pairs(near_duplicates.fingerprints(copies))
    assert all(first < second for first, second in found.tolist())


def test_all_pairs_are_found_whose_hashes_differ_little() -> None:
    """The bands find what comparing all pairs finds."""
    generator = np.random.default_rng(0)
    base = generator.normal(size=(300, 63))
    prints = np.concatenate([base, base + generator.normal(0, 0.15, base.shape)]).astype(np.float32)
    prints /= np.linalg.norm(prints, axis=1, keepdims=True)
    first, second = np.nonzero(np.triu(prints @ prints.T, 1) >= 0.95)
    expected = set(zip(first.tolist(), second.tolist(), strict=True))
    assert len(expected) >= 295
    found = set(map(tuple, near_duplicates.pairs(prints).tolist()))
    assert found <= expected and len(found) >= 0.98 * len(expected)


def test_many_equal_hashes_are_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    prints = near_duplicates.fingerprints(grey(pictures(1)).repeat(40, axis=0))
    assert len(near_duplicates.pairs(prints)) == 39
    monkeypatch.setattr(near_duplicates, "_CANDIDATES", 10)
    assert near_duplicates.groups(near_duplicates.pairs(prints), 40) == [tuple(range(40))]


def noisy(count: int) -> np.ndarray:
    """Images of three pictures, each with some noise."""
    noise = np.random.default_rng(0).normal(0, 8, (count, SIDE, SIDE))
    return np.clip(np.resize(grey(pictures(3)), noise.shape) + noise, 0, 255).astype(np.float32)


@pytest.mark.parametrize("candidates", [50, 1 << 20])
def test_groups_are_those_of_all_pairs(monkeypatch: pytest.MonkeyPatch, candidates: int) -> None:
    monkeypatch.setattr(near_duplicates, "_CANDIDATES", candidates)
    prints = near_duplicates.fingerprints(np.concatenate([noisy(90), grey(pictures(100))]))
    words = np.packbits(prints > 0, axis=1)
    distance = np.bitwise_count(words[:, np.newaxis] ^ words).sum(axis=2)
    alike = (prints.astype(np.float32) @ prints.T.astype(np.float32) >= 0.951) & (distance <= 10)
    expected = near_duplicates.groups(np.argwhere(np.triu(alike, 1)), 190)
    found = near_duplicates.pairs(prints)
    assert len(found) < 190
    assert near_duplicates.groups(found, 190) == expected
    assert max(map(len, expected)) >= 30


def test_memory_does_not_grow_with_the_pairs_of_images_that_look_alike() -> None:
    prints = near_duplicates.fingerprints(noisy(3000))
    near_duplicates.pairs(prints[:10])  # imports
    tracemalloc.start()
    try:
        found = near_duplicates.pairs(prints)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(near_duplicates.groups(found, 3000)) == 3
    assert peak < 1e8  # all pairs took 390 MB


def test_pairs_that_share_an_image_are_a_group() -> None:
    pairs = np.array([[3, 9], [0, 7], [5, 9], [1, 2]])
    assert near_duplicates.groups(pairs, 10) == [(0, 7), (1, 2), (3, 5, 9)]
    assert near_duplicates.groups(np.empty((0, 2), np.intp), 10) == []
