"""Weather, of the corruptions of Hendrycks and Dietterich (2019): snow, frost, fog and brightness.

Each function takes images (N, H, W, C) float32 in 0..1, the parameters of a severity and a random generator. It returns
images of the same shape and type, which may leave 0..1.
"""

from __future__ import annotations

import numpy as np

from cifar_exp.evaluation.corruptions_noise_blur import Parameters, Pixels, along, zoomed

_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
_FROST_COLOUR = np.array([0.84, 0.93, 1.0], np.float32)  # bluish white
_FROST_DECAY, _FROST_SHARPNESS = 1.9, 2.5


def snow(images: Pixels, parameters: Parameters, generator: np.random.Generator) -> Pixels:
    """Pale the image and let flakes fall.

    Parameters: mean and standard deviation of the noise that flakes are made of, its zoom, the threshold above which it
    is a flake, radius and standard deviation of the motion blur, and the share of the image that is not paled.
    """
    mean, deviation, zoom, threshold, radius, sigma, kept = parameters
    count, height, width, _ = images.shape
    flakes = generator.normal(mean, deviation, (count, height, width, 1)).astype(np.float32)
    flakes = zoomed(flakes, zoom)
    flakes = np.where(flakes < threshold, np.float32(0), np.clip(flakes, 0, 1))
    flakes = along(flakes, radius, sigma, generator.uniform(-135, -45, (count,)))
    pale = np.maximum(images, _grey(images) * 1.5 + 0.5)
    snowy: Pixels = kept * images + (1 - kept) * pale + flakes + flakes[:, ::-1, ::-1]
    return snowy


def frost(images: Pixels, parameters: Parameters, generator: np.random.Generator) -> Pixels:
    """Lay ice crystals over the image. Parameters: weights of the image and of the frost.

    The authors lay photographs of frost over the image. Here the frost is made from noise, of the ridges of a fractal.
    So errors under frost cannot be compared with those on the published data sets.
    """
    weight, frosted = parameters
    ridges = 1 - np.abs(2 * _plasma(images, _FROST_DECAY, generator) - 1)
    crystals = ridges**_FROST_SHARPNESS
    colour = _FROST_COLOUR if images.shape[-1] == len(_FROST_COLOUR) else np.float32(1)
    return weight * images + frosted * crystals * colour


def fog(images: Pixels, parameters: Parameters, generator: np.random.Generator) -> Pixels:
    """Add a fractal and scale the sum to the brightness of the image. Parameters: amount and decay of the fractal."""
    amount, decay = parameters
    brightest = images.max(axis=(1, 2, 3), keepdims=True)
    foggy: Pixels = (images + amount * _plasma(images, decay, generator)) * brightest / (brightest + amount)
    return foggy


def brightness(images: Pixels, parameters: Parameters, generator: np.random.Generator) -> Pixels:
    """Raise the value of each pixel in the HSV space. Parameter: by how much.

    The value is the maximum of the channels; with the same hue and saturation all of them grow by the same factor.
    """
    (amount,) = parameters
    value = images.max(axis=-1, keepdims=True)
    raised = np.minimum(value + np.float32(amount), 1)
    brighter: Pixels = np.where(value > 0, images * (raised / np.maximum(value, 1e-6)), raised)
    return brighter


def _grey(images: Pixels) -> Pixels:
    """Luminance (N, H, W, 1) of colour images, the mean of the channels of others."""
    is_colour = images.shape[-1] == len(_LUMINANCE)
    grey: Pixels = (images @ _LUMINANCE)[..., np.newaxis] if is_colour else images.mean(axis=-1, keepdims=True)
    return grey


def _plasma(images: Pixels, decay: float, generator: np.random.Generator) -> Pixels:
    """A fractal for each image, by the diamond-square algorithm: (N, H, W, 1) float32 in 0..1.

    Args:
        images: (N, H, W, C), for their number and size.
        decay: by which the amount of noise is divided when the grid is halved.
        generator: of the noise.
    """
    count, height, width, _ = images.shape
    size = 1 << (max(height, width, 2) - 1).bit_length()
    heights = np.zeros((count, size, size), np.float32)
    step, noise = size, np.float32(1)

    def noisy(sums: Pixels) -> Pixels:
        return sums / 4 + noise * generator.uniform(-1, 1, sums.shape).astype(np.float32)

    while step >= 2:
        half = step // 2
        corners = heights[:, ::step, ::step]
        sums = corners + np.roll(corners, -1, 1)
        heights[:, half::step, half::step] = noisy(sums + np.roll(sums, -1, 2))
        centers = heights[:, half::step, half::step]
        sums = centers + np.roll(centers, 1, 1) + corners + np.roll(corners, -1, 2)
        heights[:, ::step, half::step] = noisy(sums)
        sums = centers + np.roll(centers, 1, 2) + corners + np.roll(corners, -1, 1)
        heights[:, half::step, ::step] = noisy(sums)
        step, noise = half, noise / np.float32(decay)
    heights -= heights.min(axis=(1, 2), keepdims=True)
    heights /= heights.max(axis=(1, 2), keepdims=True)
    return heights[:, :height, :width, np.newaxis]
