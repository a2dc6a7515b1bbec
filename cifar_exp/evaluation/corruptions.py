"""The fifteen corruptions of Hendrycks and Dietterich (2019, Benchmarking neural network robustness).

Each has five severities. Images are corrupted with the parameters of CIFAR-10-C; if their shorter side is at least 96,
with those of ImageNet-C: lengths in them are pixels. The definitions are those of the authors' code
(https://github.com/hendrycks/robustness), made anew for batches of images of any size with any number of channels.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

import numpy as np

from cifar_exp.data.splits import Images
from cifar_exp.evaluation import corruptions_digital as digital
from cifar_exp.evaluation import corruptions_noise_blur as noise_blur
from cifar_exp.evaluation import corruptions_weather as weather
from cifar_exp.evaluation.corruptions_noise_blur import Parameters, Pixels

SEVERITIES = (1, 2, 3, 4, 5)
_LARGE = 96  # pixels of the shorter side: between the 32 of CIFAR-10-C and the 224 of ImageNet-C

Corrupt = Callable[[Pixels, Parameters, np.random.Generator], Pixels]

_CORRUPTIONS: Mapping[str, tuple[Corrupt, tuple[Parameters, ...], tuple[Parameters, ...]]] = {
    "gaussian_noise": (
        noise_blur.gaussian_noise,
        ((0.04,), (0.06,), (0.08,), (0.09,), (0.10,)),
        ((0.08,), (0.12,), (0.18,), (0.26,), (0.38,)),
    ),
    "shot_noise": (
        noise_blur.shot_noise,
        ((500,), (250,), (100,), (75,), (50,)),
        ((60,), (25,), (12,), (5,), (3,)),
    ),
    "impulse_noise": (
        noise_blur.impulse_noise,
        ((0.01,), (0.02,), (0.03,), (0.05,), (0.07,)),
        ((0.03,), (0.06,), (0.09,), (0.17,), (0.27,)),
    ),
    "defocus_blur": (
        noise_blur.defocus_blur,
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    ),
    "glass_blur": (
        noise_blur.glass_blur,
        ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    ),
    "motion_blur": (
        noise_blur.motion_blur,
        ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
        ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    ),
    "zoom_blur": (
        noise_blur.zoom_blur,
        ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
        ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    ),
    "snow": (
        weather.snow,
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    ),
    "frost": (
        weather.frost,
        ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
        ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
    ),
    "fog": (
        weather.fog,
        ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    ),
    "brightness": (
        weather.brightness,
        ((0.05,), (0.1,), (0.15,), (0.2,), (0.3,)),
        ((0.1,), (0.2,), (0.3,), (0.4,), (0.5,)),
    ),
    "contrast": (
        digital.contrast,
        ((0.75,), (0.5,), (0.4,), (0.3,), (0.15,)),
        ((0.4,), (0.3,), (0.2,), (0.1,), (0.05,)),
    ),
    "elastic_transform": (  # in shares of the shorter side; the authors' 244 for images of 224 is theirs
        digital.elastic_transform,
        ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
        tuple(
            tuple(244 / 224 * share for share in shares)
            for shares in ((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02))
        ),
    ),
    "pixelate": (
        digital.pixelate,
        ((0.95,), (0.9,), (0.85,), (0.75,), (0.65,)),
        ((0.6,), (0.5,), (0.4,), (0.3,), (0.25,)),
    ),
    "jpeg_compression": (
        digital.jpeg_compression,
        ((80,), (65,), (58,), (50,), (40,)),
        ((25,), (18,), (15,), (10,), (7,)),
    ),
}
NAMES = tuple(_CORRUPTIONS)


def corrupt(images: Images, name: str, severity: int, seed: int = 0) -> Images:
    """Corrupt images.

    Args:
        images: (N, H, W, C) uint8.
        name: one of `NAMES`.
        severity: 1 to 5.
        seed: of what is random. The same arguments give the same result.

    Returns:
        (N, H, W, C) uint8.
    """
    function, small, large = _CORRUPTIONS[name]
    parameters = (large if min(images.shape[1:3]) >= _LARGE else small)[severity - 1]
    generator = np.random.default_rng((zlib.crc32(name.encode()), severity, seed))
    corrupted = function(images.astype(np.float32) / 255, parameters, generator)
    # As the authors do: values are cut off, not rounded. The small summand keeps whole numbers whole.
    corrupted_images: Images = (np.clip(corrupted, 0, 1) * 255 + 1e-3).astype(np.uint8)
    return corrupted_images
