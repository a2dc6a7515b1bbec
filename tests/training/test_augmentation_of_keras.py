"""Augmentation against Keras's ImageDataGenerator, with which the sources augment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from augmented import SIZE, Array, changed
from keras.src.legacy.preprocessing.image import ImageDataGenerator
from scipy.stats import ks_2samp

from cifar_exp.config.schema import Config
from cifar_exp.training.augmentation import Augment

Compose = Callable[..., Config]
ZOOM, SHIFT = 0.2, 0.1
asks_scipy_by_an_old_name = pytest.mark.filterwarnings("ignore:Please import `affine_transform`:DeprecationWarning")


def by_generator(image: Array, drawn: list[Array], index: int, fill: str = "nearest") -> Array:
    """The image as ImageDataGenerator changes it under the parameters that Augment drew for it."""
    row_zoom, row_shift, flip, column_zoom, column_shift = (float(values[index, 0]) for values in drawn)
    # Whatever its documentation says, zy and ty change the rows, zx and tx the columns.
    parameters = {
        "zy": 1 + row_zoom,
        "ty": row_shift,
        "zx": 1 + column_zoom,
        "tx": column_shift,
        "flip_horizontal": flip < 0,
    }
    return np.asarray(ImageDataGenerator(fill_mode=fill).apply_transform(image.astype(np.float32), parameters))


@asks_scipy_by_an_old_name
def test_images_are_those_of_keras_s_generator_under_the_same_parameters(images: Array, drawn: list[Array]) -> None:
    output = changed(images, horizontal_flip=True, zoom=ZOOM, shift=SHIFT)
    assert 16 < (drawn[2] < 0).sum() < 48
    for index, image in enumerate(images):
        np.testing.assert_allclose(output[index], by_generator(image, drawn, index), atol=0.02)


@asks_scipy_by_an_old_name
@pytest.mark.parametrize("how", [{"zoom": ZOOM}, {"shift": SHIFT}], ids=str)
def test_each_change_alone_is_that_of_keras_s_generator(
    images: Array, drawn: list[Array], how: dict[str, float]
) -> None:
    output = changed(images, **how)
    rows, columns = drawn
    nothing = np.zeros_like(rows)
    zoomed = "zoom" in how
    parameters = [rows, nothing, nothing, columns, nothing] if zoomed else [nothing, rows, nothing, nothing, columns]
    for index, image in enumerate(images):
        np.testing.assert_allclose(output[index], by_generator(image, parameters, index), atol=0.02)


@asks_scipy_by_an_old_name
@pytest.mark.parametrize("fill", ["constant", "reflect"])
def test_other_fills_differ_from_the_generator_s_at_the_border_alone(
    images: Array, drawn: list[Array], fill: str
) -> None:
    output = changed(images, fill=fill, horizontal_flip=True, zoom=ZOOM, shift=SHIFT)
    reach = int(np.ceil(ZOOM * (SIZE - 1) / 2 + SHIFT * SIZE)) + 1  # as far as a position can leave the image
    differences = np.stack([np.abs(output[i] - by_generator(images[i], drawn, i, fill)) for i in range(len(images))])
    assert differences[:, reach:-reach, reach:-reach].max() < 0.02
    assert differences.max() > 10


def test_parameters_are_distributed_as_keras_s_generator_draws_them(monkeypatch: pytest.MonkeyPatch) -> None:
    record: list[Array] = []
    original = Augment._uniform

    def uniform(layer: Augment, count: Any, limit: float) -> Any:
        values = original(layer, count, limit)
        record.append(np.asarray(keras.ops.convert_to_numpy(values))[:, 0])
        return values

    monkeypatch.setattr(Augment, "_uniform", uniform)
    changed(np.zeros((4000, SIZE, SIZE, 1), np.uint8), horizontal_flip=True, zoom=ZOOM, shift=SHIFT)
    row_zoom, row_shift, flip, column_zoom, column_shift = record
    ours = {"zy": 1 + row_zoom, "ty": row_shift, "zx": 1 + column_zoom, "tx": column_shift, "flip_horizontal": flip < 0}

    generator = ImageDataGenerator(
        zoom_range=ZOOM, width_shift_range=SHIFT, height_shift_range=SHIFT, horizontal_flip=True
    )
    np.random.seed(0)  # the generator knows no other
    draws = [generator.get_random_transform((SIZE, SIZE, 3)) for _ in range(4000)]
    theirs = {name: np.array([draw[name] for draw in draws]) for name in ours}
    limits = {"z": (1 - ZOOM, 1 + ZOOM), "t": (-SHIFT * SIZE, SHIFT * SIZE)}
    for name in ("zx", "zy", "tx", "ty"):
        assert ks_2samp(ours[name], theirs[name]).pvalue > 0.01
        low, high = limits[name[0]]
        for values in (ours[name], theirs[name]):
            edge = 0.01 * (high - low)
            assert low - 1e-6 <= values.min() < low + edge and high - edge < values.max() <= high + 1e-6
    for drawn in (ours, theirs):
        assert 0.47 < drawn["flip_horizontal"].mean() < 0.53
        independent = np.corrcoef(np.stack([values.astype(float) for values in drawn.values()])) - np.eye(5)
        assert np.abs(independent).max() < 0.06


def test_the_presets_with_augmentation_are_set_as_their_source_s_generator(compose: Compose) -> None:
    assert ImageDataGenerator().fill_mode == "nearest"
    assert ImageDataGenerator().interpolation_order == 1
    zoomed, shifted = (compose(f"experiment={name}").augmentation for name in ("s3_vgg_augmented", "s3_bn"))
    assert ImageDataGenerator(zoom_range=0.2).zoom_range == [1 - zoomed.zoom, 1 + zoomed.zoom]
    assert (zoomed.horizontal_flip, zoomed.zoom, zoomed.shift, zoomed.crop, zoomed.fill) == (True, 0.2, 0, 0, "nearest")
    assert (shifted.horizontal_flip, shifted.zoom, shifted.shift, shifted.crop) == (True, 0, 0.1, 0)
    assert shifted.fill == "nearest"
