"""Augmentation: the images that training sees, against plain numpy and scipy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from augmented import SIZE, Array, changed, settings
from scipy.ndimage import map_coordinates, rotate

from cifar_exp.config.schema import Config
from cifar_exp.training.augmentation import Augment

Compose = Callable[..., Config]

# scipy's names; "reflect" here repeats no edge pixel, which scipy calls mirror; beyond the image lies black.
SCIPY_MODE = {"nearest": "nearest", "constant": "grid-constant", "reflect": "mirror"}


def resampled(image: Array, rows: Array, columns: Array, fill: str) -> Array:
    """The image at these positions, (H,) and (W,), linearly interpolated."""
    grid = np.meshgrid(rows, columns, indexing="ij")
    channels = [
        map_coordinates(image[..., channel].astype(np.float64), grid, order=1, mode=SCIPY_MODE[fill], cval=0.0)
        for channel in range(image.shape[-1])
    ]
    return np.stack(channels, axis=-1)


def test_images_are_left_alone_outside_training(images: Array) -> None:
    layer = Augment(settings(horizontal_flip=True, zoom=0.3, shift=0.2, crop=4), seed=0)
    assert np.array_equal(keras.ops.convert_to_numpy(layer(images, training=False)), images)
    assert np.array_equal(keras.ops.convert_to_numpy(layer(images)), images)


def test_zero_settings_change_nothing(images: Array) -> None:
    for fill in SCIPY_MODE:
        assert np.array_equal(changed(images, fill=fill), images)


def test_output_is_float32_of_the_input_shape(images: Array) -> None:
    layer = Augment(settings(horizontal_flip=True, zoom=0.2), seed=0)
    output = layer(images, training=True)
    assert keras.backend.standardize_dtype(output.dtype) == "float32"
    assert tuple(output.shape) == images.shape == tuple(layer.compute_output_shape(images.shape))


def test_a_flip_gives_the_image_or_its_mirror_and_both_occur(images: Array) -> None:
    output = changed(images, horizontal_flip=True)
    kept = [np.array_equal(new, old) for new, old in zip(output, images, strict=True)]
    mirrored = [np.array_equal(new, old[:, ::-1]) for new, old in zip(output, images, strict=True)]
    assert all(a != b for a, b in zip(kept, mirrored, strict=True))
    assert 16 <= sum(mirrored) <= 48


@pytest.mark.parametrize(("fill", "pad_mode"), [("constant", "constant"), ("nearest", "edge"), ("reflect", "reflect")])
def test_a_crop_is_a_window_of_the_padded_image_at_whole_pixels(
    images: Array, drawn: list[Array], fill: str, pad_mode: Any
) -> None:
    crop = 4
    output = changed(images, crop=crop, fill=fill)
    rows, columns = (np.floor(parameter[:, 0] + 0.5).astype(int) for parameter in drawn)
    assert set(rows) | set(columns) == set(range(-crop, crop + 1))
    padded = np.pad(images, [(0, 0), (crop, crop), (crop, crop), (0, 0)], mode=pad_mode)
    for new, whole, row, column in zip(output, padded, rows, columns, strict=True):
        top, left = row + crop, column + crop
        assert np.array_equal(new, whole[top : top + SIZE, left : left + SIZE])


def test_every_crop_offset_is_about_as_frequent_as_every_other() -> None:
    ramp = np.broadcast_to(np.arange(SIZE, dtype=np.uint8)[None, :, None, None] * 4, (4500, SIZE, SIZE, 3))
    offsets = changed(ramp, crop=4)[:, 16, 16, 0] / 4 - 16
    values, found = np.unique(offsets, return_counts=True)
    assert values.tolist() == list(range(-4, 5))
    assert found.min() > 400
    assert found.max() < 600


@pytest.mark.parametrize("fill", SCIPY_MODE)
@pytest.mark.parametrize("how", [{"zoom": 0.3}, {"shift": 0.2}, {"zoom": 0.2, "shift": 0.1, "horizontal_flip": True}])
def test_resampling_is_that_of_scipy_at_the_documented_positions(
    images: Array, drawn: list[Array], fill: str, how: dict[str, Any]
) -> None:
    output = changed(images[:16], fill=fill, **how)
    parameters = iter(drawn)
    centre = (SIZE - 1) / 2
    positions = {}
    for axis in ("rows", "columns"):
        source = np.tile(np.arange(SIZE) - centre, (16, 1))
        if axis == "columns" and how.get("horizontal_flip"):
            source = np.where(next(parameters) < 0, -source, source)
        if how.get("zoom"):
            source = source * (1 + next(parameters))
        if how.get("shift"):
            source = source + next(parameters)
        positions[axis] = source + centre
    for i in range(16):
        expected = resampled(images[i], positions["rows"][i], positions["columns"][i], fill)
        np.testing.assert_allclose(output[i], expected, atol=0.02)


@pytest.mark.parametrize("fill", SCIPY_MODE)
def test_a_rotation_is_that_of_scipy(images: Array, drawn: list[Array], fill: str) -> None:
    output = changed(images[:8, :20], rotation=90, fill=fill)  # height and width differ
    (angles,) = drawn
    assert 0.5 < np.abs(angles).max() <= np.pi / 2
    for image, angle, ours in zip(images[:8, :20].astype(np.float64), angles[:, 0], output, strict=True):
        by_scipy = rotate(image, np.degrees(angle), reshape=False, order=1, mode=SCIPY_MODE[fill])
        np.testing.assert_allclose(ours, by_scipy, atol=0.05)


@pytest.mark.parametrize("fill", SCIPY_MODE)
def test_without_an_angle_what_a_rotation_samples_is_what_is_sampled_without_it(
    images: Array, drawn: list[Array], fill: str
) -> None:
    how: dict[str, Any] = {"horizontal_flip": True, "zoom": 0.2, "shift": 0.1, "crop": 2, "fill": fill}
    output = changed(images[:8], **how)
    parameters = iter([np.zeros((8, 1), np.float32), *drawn])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Augment, "_uniform", lambda *_: keras.ops.convert_to_tensor(next(parameters)))
        np.testing.assert_allclose(changed(images[:8], rotation=1, **how), output, atol=0.02)


def test_zoom_and_shift_are_drawn_within_their_settings(images: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float] = []
    original = Augment._uniform

    def uniform(layer: Augment, count: Any, limit: float) -> Any:
        limits.append(limit)
        values = original(layer, count, limit)
        assert float(keras.ops.max(keras.ops.abs(values))) <= limit
        return values

    monkeypatch.setattr(Augment, "_uniform", uniform)
    changed(images, zoom=0.2, shift=0.1)
    assert limits == [0.2, 0.1 * SIZE] * 2


@pytest.mark.parametrize("fill", SCIPY_MODE)
def test_values_stay_within_those_of_the_image(images: Array, fill: str) -> None:
    output = changed(images, fill=fill, horizontal_flip=True, zoom=0.4, shift=0.3, crop=3)
    assert output.min() >= 0
    assert output.max() <= 255.001
    assert not np.array_equal(output, images)


@pytest.mark.parametrize("fill", ["nearest", "reflect"])
def test_no_black_comes_in_where_the_fill_is_the_image_itself(fill: str) -> None:
    white = np.full((256, SIZE, SIZE, 3), 200, np.uint8)
    for how in ({"zoom": 0.5, "shift": 0.5}, {"zoom": 0.99, "shift": 0.99, "crop": 16}):
        np.testing.assert_allclose(changed(white, fill=fill, **how), 200, rtol=1e-3)


def test_constant_fill_is_black_outside_the_image() -> None:
    white = np.full((64, SIZE, SIZE, 3), 200, np.uint8)
    output = changed(white, fill="constant", crop=8)
    assert set(np.unique(output)) == {0, 200}


def test_rows_and_columns_are_changed_independently_and_every_image_its_own_way(images: Array) -> None:
    output = changed(np.repeat(images[:1], 64, axis=0), crop=4)
    assert len({image.tobytes() for image in output}) > 40


def test_brightness_and_contrast_are_those_of_their_definition(images: Array, drawn: list[Array]) -> None:
    seen = changed(images, brightness=0.5, contrast=0.4)
    factors = [1 + one[:, :, None, None] for one in drawn]
    bright = images * factors[0]
    mean = bright.mean(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(seen, np.clip(mean + (bright - mean) * factors[1], 0, 255), atol=1e-2)
    assert seen.min() >= 0 and seen.max() <= 255


def test_a_square_of_the_mean_colour_covers_every_place_equally_often() -> None:
    white = np.zeros((4000, 8, 10, 3), np.uint8)
    white[:, 0, 0] = 80  # so that the mean differs from the rest
    seen = changed(white, erase=3)
    covered = (seen == 1).all(axis=3)  # 80 / (8 * 10)
    assert set(np.unique(covered.sum(axis=(1, 2)))) == {4, 6, 9}  # at a corner, an edge, inside
    inside = covered.mean(axis=0)[1:-1, 1:-1]
    assert inside == pytest.approx(np.full_like(inside, 9 / 80), abs=0.03)


def test_the_seed_decides_and_every_batch_is_new(images: Array) -> None:
    how = settings(horizontal_flip=True, zoom=0.2, crop=2)
    first, again, other = Augment(how, 1), Augment(how, 1), Augment(how, 2)
    one, two = (keras.ops.convert_to_numpy(first(images, training=True)) for _ in range(2))
    assert not np.array_equal(one, two)
    assert np.array_equal(keras.ops.convert_to_numpy(again(images, training=True)), one)
    assert np.array_equal(keras.ops.convert_to_numpy(again(images, training=True)), two)
    assert not np.array_equal(keras.ops.convert_to_numpy(other(images, training=True)), one)


def test_the_largest_seed_is_one_of_every_backend(compose: Compose, images: Array) -> None:
    seed = compose(f"seed={2**31 - 1}").seed  # the schema refuses the next one
    assert not np.array_equal(changed(images, seed, crop=4), images)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="compiles with tf.function")
def test_it_compiles_with_xla_to_the_same_images(images: Array, drawn: list[Array]) -> None:
    import tensorflow as tf

    layer = Augment(settings(horizontal_flip=True, zoom=0.2, rotation=30, rand_augment=1), seed=3)
    batch = tf.constant(images)
    plain = keras.ops.convert_to_numpy(layer(batch, training=True))
    parameters = iter(drawn.copy())  # the same again: XLA's own random numbers differ from those outside it
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Augment, "_uniform", lambda layer, count, limit: tf.constant(next(parameters)))
        compiled = tf.function(lambda batch: layer(batch, training=True), jit_compile=True)(batch)
    np.testing.assert_allclose(compiled.numpy(), plain, atol=0.01)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="compiles with tf.function")
def test_compiled_with_xla_the_seed_decides_and_every_batch_is_new(images: Array) -> None:
    import tensorflow as tf

    def two_batches(seed: int) -> list[Array]:
        layer = Augment(settings(horizontal_flip=True, crop=2), seed)
        step = tf.function(lambda batch: layer(batch, training=True), jit_compile=True)
        return [step(tf.constant(images)).numpy() for _ in range(2)]

    first, again, other = two_batches(1), two_batches(1), two_batches(2)
    assert np.array_equal(first, again)
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], other[0])
