"""Noise and blur, of the corruptions of Hendrycks and Dietterich (2019).

Each function takes images (N, H, W, C) float32 in 0..1, the parameters of a severity and a random generator. It returns
images of the same shape and type, which may leave 0..1.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, signal

Pixels = npt.NDArray[np.floating[Any]]
Parameters = tuple[float, ...]


def gaussian_noise(images: Pixels, parameters: Parameters, generator: np.random.Generator) -> Pixels:
    """Add normal noise. Parameter: its standard deviation."""
    (scale,) = parameters
    return images + np.float32(scale) * generator.standard_normal(images.shape, np.float32)


def shot_noise(images: Pixels, parameters: Parameters, generator: np.random.Generator) -> Pixels:
    """Count photons, with Poisson's noise. Parameter: their number where a value is 1."""
    (photons,) = parameters
    return (generator.poisson(images * np.float32(photons)) / photons).astype(np.float32)


def impulse_noise(images: Pixels, parameters: Parameters, generator: np.random.Generator) -> Pixels:
    """Set values to 0 or 1. Parameter: their share."""
    (share,) = parameters
    drawn = generator.random(images.shape, np.float32)
    return np.where(drawn < share / 2, np.float32(0), np.where(drawn < share, np.float32(1), images))


def defocus_blur(images: Pixels, parameters: Parameters, generator: np.random.Generator) -> Pixels:
    """Blur with a disk. Parameters: its radius in pixels, and the standard deviation that smooths its edge."""
    radius, smoothing = parameters
    reach = max(8, int(radius))
    disk = (np.square(np.indices((2 * reach + 1,) * 2) - reach).sum(axis=0) <= radius**2).astype(np.float32)
    disk = ndimage.gaussian_filter(disk / disk.sum(), smoothing, radius=1 if radius <= 8 else 2)
    kept = np.abs(np.flatnonzero(disk.any(axis=0)) - reach).max()
    kernel = disk[reach - kept : reach + kept + 1, reach - kept : reach + kept + 1]
    around = np.pad(images, ((0, 0), (kept, kept), (kept, kept), (0, 0)), "reflect")
    blurred: Pixels = signal.oaconvolve(around, kernel[np.newaxis, ..., np.newaxis], "valid", axes=(1, 2))
    return blurred.astype(np.float32)


def glass_blur(images: Pixels, parameters: Parameters, generator: np.random.Generator) -> Pixels:
    """Swap pixels with near ones, between two Gaussian blurs.

    Parameters: standard deviation of the blurs, how far pixels are swapped, and how often. The authors' code copies
    pixels in place of swapping them as their paper says; here they are swapped.
    """
    sigma, most, iterations = parameters[0], int(parameters[1]), int(parameters[2])
    blurs = (0, sigma, sigma, 0)
    shuffled = ndimage.gaussian_filter(images, blurs, mode="nearest")
    count, height, width, _ = images.shape
    every = np.arange(count)
    for _ in range(iterations):
        for row in range(height - most, most, -1):
            for column in range(width - most, most, -1):
                of_row, of_column = generator.integers(-most, most, (2, count))
                there = every, row + of_row, column + of_column
                other = shuffled[there]
                shuffled[there] = shuffled[:, row, column]
                shuffled[:, row, column] = other
    blurred: Pixels = ndimage.gaussian_filter(shuffled, blurs, mode="nearest")
    return blurred


def motion_blur(images: Pixels, parameters: Parameters, generator: np.random.Generator) -> Pixels:
    """Blur each image along a random direction of -45 to 45 degrees. Parameters: see `along`."""
    radius, sigma = parameters
    return along(images, radius, sigma, generator.uniform(-45, 45, (len(images),)))


def along(images: Pixels, radius: float, sigma: float, degrees: npt.NDArray[np.float64]) -> Pixels:
    """Blur each image along its own direction, as ImageMagick does: to one side, the weights are half a Gaussian.

    Args:
        images: (N, H, W, C).
        radius: twice this, and one, is the number of pixels of the kernel.
        sigma: standard deviation of the Gaussian, in pixels.
        degrees: (N,), clockwise from the direction to the right.
    """
    count, height, width, _ = images.shape
    steps = np.arange(2 * int(np.ceil(radius)) + 1)
    weights = np.exp(-np.square(steps) / (2 * sigma**2))
    blurred = np.zeros_like(images)
    every = np.arange(count)[:, np.newaxis, np.newaxis]
    radians = np.deg2rad(degrees)[:, np.newaxis]
    for step, weight in zip(steps, (weights / weights.sum()).astype(np.float32), strict=True):
        rows = np.clip(np.arange(height) + np.ceil(step * np.sin(radians) - 0.5).astype(int), 0, height - 1)
        columns = np.clip(np.arange(width) + np.ceil(step * np.cos(radians) - 0.5).astype(int), 0, width - 1)
        blurred += weight * images[every, rows[:, :, np.newaxis], columns[:, np.newaxis, :]]
    return blurred


def zoom_blur(images: Pixels, parameters: Parameters, generator: np.random.Generator) -> Pixels:
    """Mean of an image and of its center at several zooms. Parameters: the end of the zooms, and their step from 1."""
    zooms = np.arange(1, *parameters)
    return np.asarray((images + sum(zoomed(images, zoom) for zoom in zooms)) / (len(zooms) + 1), np.float32)


def zoomed(images: Pixels, zoom: float) -> Pixels:
    """Zoom into the center of images (N, H, W, C), with linear interpolation."""
    rows, columns = (_zoom_matrix(size, float(zoom)) for size in images.shape[1:3])
    enlarged: Pixels = np.einsum("rh,nhwc,sw->nrsc", rows, images, columns, optimize=True)
    return enlarged


@cache
def _zoom_matrix(size: int, zoom: float) -> Pixels:
    """The zoom of one axis as a matrix (size, size): `scipy.ndimage.zoom` of the center, cut to the size."""
    cropped = int(np.ceil(size / zoom))
    first = (size - cropped) // 2
    enlarged = ndimage.zoom(np.eye(size)[first : first + cropped], (zoom, 1), order=1)
    start = (len(enlarged) - size) // 2
    matrix: Pixels = enlarged[start : start + size].astype(np.float32)
    return matrix
