"""RandAugment and AugMix: each operation against PIL's at fixed strengths, and how the operations are put together."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from keras import ops
from PIL import Image, ImageEnhance, ImageOps
from scipy.stats import chisquare, kstest

from cifar_exp.config.schema import AugmentationConfig
from cifar_exp.training import policies
from cifar_exp.training.augmentation import Augment

Array = npt.NDArray[Any]
Operation = Callable[[Image.Image, float], Image.Image]

HEIGHT, WIDTH = 24, 32
LEVELS = (0.3, -0.3, 1.0, -1.0, 0.0)


def affine(image: Image.Image, *coefficients: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)


# As torchvision's RandAugment calls PIL, at a share of its strongest magnitude; see `policies`.
OF_PIL: dict[str, Operation] = {
    "identity": lambda image, level: image,
    "shear_x": lambda image, level: affine(image, 1, 0.3 * level, 0, 0, 1, 0),
    "shear_y": lambda image, level: affine(image, 1, 0, 0, 0.3 * level, 1, 0),
    "translate_x": lambda image, level: affine(image, 1, 0, int(150 / 331 * WIDTH * level), 0, 1, 0),
    "translate_y": lambda image, level: affine(image, 1, 0, 0, 0, 1, int(150 / 331 * HEIGHT * level)),
    "rotate": lambda image, level: image.rotate(30 * level, Image.Resampling.BILINEAR),
    "posterize": lambda image, level: ImageOps.posterize(image, 8 - round(4 * abs(level))),
    "solarize": lambda image, level: ImageOps.solarize(image, 255 * (1 - abs(level))),  # type: ignore[arg-type]
    "autocontrast": lambda image, level: ImageOps.autocontrast(image),
    "equalize": lambda image, level: ImageOps.equalize(image),
    "brightness": lambda image, level: ImageEnhance.Brightness(image).enhance(1 + 0.9 * level),
    "color": lambda image, level: ImageEnhance.Color(image).enhance(1 + 0.9 * level),
    "contrast": lambda image, level: ImageEnhance.Contrast(image).enhance(1 + 0.9 * level),
    "sharpness": lambda image, level: ImageEnhance.Sharpness(image).enhance(1 + 0.9 * level),
}
MOVE = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")


def numpy(tensor: Any) -> Array:
    return np.asarray(ops.convert_to_numpy(tensor))


def applied(images: Array, name: str, levels: Array) -> Array:
    kinds = ops.full((len(images), 1), policies.OPERATIONS.index(name), dtype="float32")
    return numpy(
        policies.apply(ops.convert_to_tensor(images, "float32"), kinds, ops.convert_to_tensor(levels), "constant")
    )


@pytest.fixture(params=[3, 1], ids=["colour", "grey"])
def images(request: pytest.FixtureRequest) -> Array:
    """Smooth and dim with some noise, each channel with other values; one of them is of one value."""
    generator = np.random.default_rng(0)
    rows, columns, channels = np.indices((HEIGHT, WIDTH, request.param))
    waves = [
        110 + 60 * np.sin(rows / 5 + n) * np.cos(columns / 7 + channels) + generator.normal(0, 8, rows.shape)
        for n in range(len(LEVELS))
    ]
    images = np.clip(waves, 5, 240).astype(np.uint8)
    images[0, ..., 0] = 77
    return images


@pytest.mark.parametrize("name", policies.OPERATIONS)
def test_an_operation_is_that_of_pil(images: Array, name: str) -> None:
    levels = np.array(LEVELS, np.float32)[:, None]
    changed, white = applied(images, name, levels), applied(np.full_like(images, 255), name, levels)
    for image, level, ours, shown in zip(images, LEVELS, changed, white[..., :1], strict=True):
        pil = Image.fromarray(image.squeeze())
        theirs = np.asarray(OF_PIL[name](pil, level), np.float64).reshape(image.shape)
        if name not in MOVE:
            np.testing.assert_allclose(ours, theirs, atol=0 if name in ("equalize", "identity") else 1.51)
            continue
        # At the edge PIL repeats half a pixel, and then black follows at once; ours is interpolated towards black.
        np.testing.assert_allclose(ours * (shown == 255), theirs * (shown == 255), atol=1.01)
        assert not (theirs * (shown == 0)).any()
        assert (shown == 255).mean() > 0.4 and (level == 0 or not (shown == 255).all())


def test_a_magnitude_of_nine_is_as_strong_as_that_of_torchvision() -> None:
    """Its magnitudes are 31 steps, `linspace(0, strongest, 31)`: transforms/autoaugment.py in torchvision."""
    level = 9 / policies.STRONGEST
    assert np.linspace(0, 0.3, 31)[9] == pytest.approx(level * policies._SHEAR)
    assert np.linspace(0, 150 / 331 * 32, 31)[9] == pytest.approx(level * policies._TRANSLATE * 32)
    assert math.radians(np.linspace(0, 30, 31)[9]) == pytest.approx(level * policies._ROTATE)
    assert np.linspace(0, 0.9, 31)[9] == pytest.approx(level * policies._BLEND)
    for step in range(31):
        assert round(step / (30 / 4)) == round(policies._POSTERIZE * step / policies.STRONGEST)


def test_each_image_gets_each_operation_equally_often_of_either_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    record: list[tuple[Array, Array]] = []
    monkeypatch.setattr(
        policies, "apply", lambda images, kinds, levels, fill: record.append((numpy(kinds), numpy(levels))) or images
    )
    layer = Augment(AugmentationConfig("test", rand_augment=2, magnitude=12), seed=0)
    layer(np.zeros((4200, 2, 2, 1), np.uint8), training=True)
    (first, levels), (second, _) = record
    assert len(record) == 2
    assert not np.array_equal(first, second)
    values, found = np.unique(first, return_counts=True)
    assert values.tolist() == list(range(len(policies.OPERATIONS)))
    assert chisquare(found).pvalue > 0.001
    assert set(np.unique(np.round(levels, 6))) == {np.float32(-0.4), np.float32(0.4)}
    assert 0.46 < (levels > 0).mean() < 0.54


def test_augmix_mixes_chains_of_one_to_three_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images are 0 and their chains 1, 10 and 100, so that the result shows the shares of the chains."""
    record: list[tuple[Array, Array]] = []
    count, chains = 2000, 3

    def apply(images: Any, kinds: Any, levels: Any, fill: str) -> Any:
        record.append((numpy(kinds), numpy(levels)))
        return ops.reshape(ops.repeat(ops.convert_to_tensor([1.0, 10.0, 100.0]), count), (-1, 1, 1, 1)) + 0 * images

    monkeypatch.setattr(policies, "apply", apply)
    layer = Augment(AugmentationConfig("test", aug_mix=chains, magnitude=15), seed=0)
    mixed = numpy(layer(np.zeros((count, 1, 1, 1), np.uint8), training=True)).ravel()
    kinds = np.concatenate([one for one, _ in record], axis=1)
    lengths = (kinds > 0).sum(axis=1)
    assert chisquare(np.bincount(lengths, minlength=4)[1:]).pvalue > 0.001
    assert ((kinds > 0) == (np.arange(3) < lengths[:, None])).all()
    assert {policies.OPERATIONS[int(kind)] for kind in np.unique(kinds)} == {"identity", *policies.AUGMIX}
    levels = np.concatenate([one for _, one in record])
    assert kstest(np.abs(levels[:, 0]), "uniform", (0, 0.5)).pvalue > 0.001
    # own ~ Beta(1, 1) and shares ~ Dirichlet(1, 1, 1): independent, of means 1/2 and 1/3
    assert mixed.mean() == pytest.approx(111 / 3 / 2, rel=0.05)
    expected = np.random.default_rng(0).random(20_000) * np.random.default_rng(1).dirichlet([1, 1, 1], 20_000).dot(
        [1, 10, 100]
    )
    assert np.quantile(mixed, [0.1, 0.5, 0.9]) == pytest.approx(np.quantile(expected, [0.1, 0.5, 0.9]), rel=0.15)


def test_the_seed_decides_and_every_batch_and_image_is_new() -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 12, 10, 3)).astype(np.uint8)
    images = np.repeat(image, 16, axis=0)
    settings = AugmentationConfig("test", rand_augment=1, aug_mix=1, magnitude=20)
    layers = [Augment(settings, seed) for seed in (1, 3, 1, 2)]
    one, _, again, other = (numpy(layer(images, training=True)) for layer in layers)
    assert np.array_equal(one, again) and not np.array_equal(one, other)
    layers[1].random.state.assign(layers[0].random.state)  # as a checkpoint restores it
    next_one, resumed = (numpy(layer(images, training=True)) for layer in layers[:2])
    assert np.array_equal(next_one, resumed) and not np.array_equal(next_one, one)
    assert len({changed.tobytes() for changed in one}) > 8
    assert one.min() >= 0 and one.max() <= 255.001 and one.dtype == np.float32
