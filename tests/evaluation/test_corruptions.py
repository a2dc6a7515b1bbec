"""The fifteen corruptions: known properties of each, for images of any size."""

from __future__ import annotations

import io
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from cifar_exp.evaluation import corruptions
from cifar_exp.evaluation.corruptions import NAMES, SEVERITIES, corrupt

# With the parameters of CIFAR-10-C these do not move pixels further from their values at each higher severity: glass
# blurs more after it has moved pixels, the elastic transform moves less in smaller regions, and at severity 4 of frost
# the frost of 3 lies over a darker image.
NOT_MONOTONE = {"glass_blur", "elastic_transform", "frost"}


@cache
def images(height: int = 32, width: int = 32, channels: int = 3, count: int = 8) -> np.ndarray:
    """Smooth images with edges, (N, H, W, C) uint8."""
    generator = np.random.default_rng(0)
    noise = ndimage.gaussian_filter(generator.standard_normal((count, height, width, channels)), (0, 3, 3, 0))
    shapes = noise / noise.std() * 50 + 128 + 40 * (np.arange(width) > width // 2)[:, np.newaxis]
    return np.clip(shapes, 0, 255).astype(np.uint8)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Mean distance of pixel values."""
    return float(np.abs(a.astype(float) - b).mean())


@pytest.mark.parametrize("name", NAMES)
def test_images_of_any_size_keep_shape_and_type_and_change_with_seed_and_severity_alone(name: str) -> None:
    for shape in ((32, 32, 3), (28, 28, 1), (64, 48, 3), (9, 7, 2)):
        clean = images(*shape, count=2)
        before = clean.copy()
        corrupted = [corrupt(clean, name, severity, seed=3) for severity in (1, 5)]
        for one in corrupted:
            assert one.shape == clean.shape and one.dtype == np.uint8
            assert not np.array_equal(one, clean) or shape == (9, 7, 2)
        assert np.array_equal(corrupted[1], corrupt(clean, name, 5, seed=3))
        assert np.array_equal(clean, before)
    is_random = not np.array_equal(corrupt(images(), name, 3, seed=1), corrupt(images(), name, 3, seed=2))
    assert is_random == (
        name not in {"defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression"}
    )


def test_a_higher_severity_moves_images_further() -> None:
    clean = images(count=16)
    for name in NAMES:
        distances = [distance(corrupt(clean, name, severity), clean) for severity in SEVERITIES]
        if name not in NOT_MONOTONE:
            for lower, higher in pairwise(distances):
                assert higher > 0.95 * lower, f"{name}: {distances}"
            assert distances[-1] > 1.15 * distances[0], f"{name}: {distances}"
        assert min(distances) > 0.5


def test_large_images_get_the_parameters_of_imagenet_c() -> None:
    small, large = images(64, 95, count=1), images(96, 128, count=1)
    assert np.ptp(corrupt(small, "contrast", 5)) > 2 * np.ptp(corrupt(large, "contrast", 5))
    for name in ("defocus_blur", "snow", "fog", "elastic_transform"):
        assert corrupt(large, name, 5).shape == large.shape


def test_noise_has_its_distribution() -> None:
    grey = np.full((20, 32, 32, 3), 128, np.uint8)
    assert corrupt(grey, "gaussian_noise", 3).std() == pytest.approx(0.08 * 255, rel=0.02)
    assert corrupt(grey, "shot_noise", 3).std() == pytest.approx(255 * np.sqrt(128 / 255 / 100), rel=0.02)
    impulses = corrupt(grey, "impulse_noise", 5)
    assert np.mean(impulses == 0) == pytest.approx(0.035, rel=0.1)
    assert np.mean(impulses == 255) == pytest.approx(0.035, rel=0.1)
    assert np.mean(impulses == 128) == pytest.approx(0.93, rel=0.01)


@pytest.mark.parametrize("name", ["defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "elastic_transform"])
def test_a_blur_keeps_what_is_even_and_smooths_edges(name: str) -> None:
    even = np.full((2, 32, 32, 3), 77, np.uint8)
    assert np.abs(corrupt(even, name, 5).astype(int) - 77).max() <= 1
    if name in ("defocus_blur", "motion_blur", "zoom_blur"):
        noisy = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
        assert corrupt(noisy, name, 5).std() < 0.6 * noisy.std()


def test_motion_blur_draws_a_point_into_a_line_of_one_side() -> None:
    from cifar_exp.evaluation.corruptions_noise_blur import along

    point = np.zeros((1, 15, 15, 1), np.float32)
    point[0, 7, 7] = 1
    right = along(point, 3, 2.0, np.array([0.0]))[0, ..., 0]
    weights = np.exp(-np.square(np.arange(7)) / 8)
    assert np.allclose(right[7, 1:8], (weights / weights.sum())[::-1], atol=1e-6)
    assert right.sum() == pytest.approx(1) and np.count_nonzero(right) == 7


def test_glass_blur_moves_pixels_and_loses_none() -> None:
    from cifar_exp.evaluation.corruptions_noise_blur import glass_blur

    generator = np.random.default_rng(0)
    clean = generator.random((3, 16, 16, 3), np.float32)
    moved = glass_blur(clean, (0, 1, 2), generator)
    assert not np.array_equal(moved, clean)
    for before, after in zip(clean, moved, strict=True):
        assert np.array_equal(np.sort(before.reshape(-1, 3), axis=0), np.sort(after.reshape(-1, 3), axis=0))


def test_contrast_shrinks_the_standard_deviation_by_its_factor() -> None:
    ratio = corrupt(images(), "contrast", 2).std(axis=(1, 2)) / images().std(axis=(1, 2))
    assert np.allclose(ratio, 0.5, atol=0.02)


def test_brightness_raises_the_value_and_keeps_hue_and_saturation() -> None:
    dark = (images() // 3).astype(np.uint8)
    before, after = (
        np.stack([np.asarray(Image.fromarray(one).convert("HSV")) for one in batch]).astype(float)
        for batch in (dark, corrupt(dark, "brightness", 5))
    )
    assert np.allclose(after[..., 2] - before[..., 2], 0.3 * 255, atol=1.5)
    bright = before[..., 2] > 30  # of dark pixels, hue and saturation are coarse
    assert np.abs(after[..., 1] - before[..., 1])[bright].mean() < 6


def test_fog_and_frost_and_snow() -> None:
    black = np.zeros((10, 32, 32, 3), np.uint8)
    frost = corrupt(black, "frost", 3)
    assert frost.max() <= 0.4 * 255 and frost.mean() > 10 and frost[..., 2].mean() > frost[..., 0].mean()
    assert corrupt(black, "snow", 5).mean() > 20
    fogged = corrupt(images(), "fog", 5)
    assert np.all(fogged.max(axis=(1, 2, 3)) <= images().max(axis=(1, 2, 3)))


def test_pixelate_makes_blocks_and_jpeg_is_that_of_pillow() -> None:
    blocks = corrupt(images(96, 96, count=1), "pixelate", 5)[0]  # 24 pixels become 96
    assert np.array_equal(blocks[::4, ::4].repeat(4, axis=0).repeat(4, axis=1), blocks)
    buffer = io.BytesIO()
    Image.fromarray(images()[0]).save(buffer, "JPEG", quality=58)
    assert np.array_equal(corrupt(images(), "jpeg_compression", 3)[0], np.asarray(Image.open(buffer)))


def test_zoom_is_that_of_scipy() -> None:
    from cifar_exp.evaluation.corruptions_noise_blur import zoomed

    clean = images(count=1).astype(np.float32) / 255
    size = int(np.ceil(32 / 1.2))
    first = (32 - size) // 2
    center = clean[0, first : first + size, first : first + size]
    expected = ndimage.zoom(center, (1.2, 1.2, 1), order=1)[:32, :32]
    assert np.allclose(zoomed(clean, 1.2)[0], expected, atol=1e-5)


def test_there_are_fifteen() -> None:
    assert len(NAMES) == 15
    for _, small, large in corruptions._CORRUPTIONS.values():
        assert len(small) == len(large) == len(SEVERITIES)
