"""Digital corruptions of Hendrycks and Dietterich (2019): contrast, elastic transform, pixelate and JPEG.

Each function takes images (N, H, W, C) float32 in 0..1, the parameters of a severity and a random generator. It returns
images of the same shape and type, which may leave 0..1.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import ndimage

from cifar_exp.evaluation.corruptions_noise_blur import Parameters, Pixels

_COLOURS = 3


def contrast(images: Pixels, parameters: Parameters, generator: np.random.Generator) -> Pixels:
    """Shrink the distances from the mean of each channel of an image. Parameter: the factor."""
    (factor,) = parameters
    means = images.mean(axis=(1, 2), keepdims=True)
    flat: Pixels = (images - means) * np.float32(factor) + means
    return flat


def elastic_transform(images: Pixels, parameters: Parameters, generator: np.random.Generator) -> Pixels:
    """Stretch small regions, after a random affine map.

    Parameters, as shares of the shorter side: how far pixels move, the standard deviation of the blur that makes
    neighbours move alike, and how far the three points that define the affine map move.
    """
    count, height, width, channels = images.shape
    side = min(height, width)
    distance, sigma, jitter = (share * side for share in parameters)
    moves = generator.uniform(-1, 1, (2, count, height, width)).astype(np.float32)
    moves = distance * ndimage.gaussian_filter(moves, (0, 0, sigma, sigma), mode="reflect", truncate=3)
    middle, arm = np.array([height // 2, width // 2]), side // 3
    points = middle + arm * np.array([[1, 1], [1, -1], [-1, -1]])
    moved = points + generator.uniform(-jitter, jitter, (count, 3, 2))
    grid = np.indices((height, width)).reshape(2, -1)
    warped = np.empty_like(images)
    for index in range(count):
        # Where each pixel comes from: the affine map that takes the moved points back.
        affine = np.linalg.solve(np.column_stack([moved[index], np.ones(3)]), points)
        there = np.vstack([grid + moves[:, index].reshape(2, -1), np.ones(grid.shape[1])])
        sources = (affine.T @ there).reshape(2, height, width)
        for channel in range(channels):
            ndimage.map_coordinates(
                images[index, ..., channel], sources, warped[index, ..., channel], order=1, mode="mirror"
            )
    return warped


def pixelate(images: Pixels, parameters: Parameters, generator: np.random.Generator) -> Pixels:
    """Scale down and up again, with means over boxes. Parameter: the smaller size as a share of the size."""
    (share,) = parameters

    def scale(image: Image.Image) -> Image.Image:
        width, height = (max(1, int(side * share)) for side in image.size)
        return image.resize((width, height), Image.Resampling.BOX).resize(image.size, Image.Resampling.BOX)

    return _by_pillow(images, scale)


def jpeg_compression(images: Pixels, parameters: Parameters, generator: np.random.Generator) -> Pixels:
    """Compress with Pillow's JPEG. Parameter: the quality, 1 to 95."""
    (quality,) = parameters

    def compress(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=int(quality))
        return Image.open(buffer)

    return _by_pillow(images, compress)


def _by_pillow(images: Pixels, change: Callable[[Image.Image], Image.Image]) -> Pixels:
    """Change each image with Pillow: colour images as a whole, the channels of others one by one."""
    whole = np.rint(images * 255).astype(np.uint8)
    changed = np.empty_like(whole)
    for index, image in enumerate(whole):
        if image.shape[-1] == _COLOURS:
            changed[index] = np.asarray(change(Image.fromarray(image)))
        else:
            for channel in range(image.shape[-1]):
                changed[index, ..., channel] = np.asarray(change(Image.fromarray(image[..., channel])))
    return changed.astype(np.float32) / 255
