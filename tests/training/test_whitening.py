"""Whitening: what the first convolution makes of images has no correlations left."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from cifar_exp.config.composition import plan
from cifar_exp.config.schema import Config
from cifar_exp.data.splits import Images
from cifar_exp.errors import UserError
from cifar_exp.training import models, whitening

IMAGE_SHAPE = (32, 32, 3)

Compose = Callable[..., Config]
FILTERS = 16


@pytest.fixture(scope="module")
def images() -> Images:
    """Smooth noise: neighbouring pixels are alike, as in photographs."""
    noise = np.random.default_rng(0).normal(size=(500, *IMAGE_SHAPE))
    smooth = gaussian_filter(noise, (0, 1.5, 1.5, 0))
    return np.clip(128 + 60 * smooth / smooth.std(), 0, 255).astype(np.uint8)


@pytest.fixture
def whitened(compose: Compose, images: Images) -> keras.Model:
    model, _ = models.build(compose("model=speedrun", "model.filters=[16,8,8,8,8]").model, (32, 32, 3))
    whitening.whiten(model, images)
    return model


def first_convolution(model: keras.Model) -> keras.layers.Conv2D:
    return next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))


def test_what_it_gives_is_uncorrelated_and_each_filter_has_its_negative(whitened: keras.Model, images: Images) -> None:
    first = first_convolution(whitened)
    seen = keras.Model(whitened.input, first.output).predict(images, verbose=0)
    inside = seen[:, 1:-1, 1:-1].reshape(-1, FILTERS)  # of whole patches
    half = FILTERS // 2
    np.testing.assert_allclose(inside[:, half:], -inside[:, :half], atol=1e-4)
    correlation = np.corrcoef(inside[:, :half], rowvar=False)
    assert np.abs(correlation - np.eye(half)).max() < 0.05
    variance = inside[:, :half].var(axis=0)
    assert variance[:4] == pytest.approx(1, abs=0.1)  # below, the constant that keeps noise small counts
    assert variance.max() < 1.1


def filters(model: keras.Model, images: Images) -> Images:
    whitening.whiten(model, images)
    kernel = next(layer for layer in model.layers if layer.weights).kernel
    return np.asarray(keras.ops.convert_to_numpy(kernel))


def convolution(size: int, channels: int) -> keras.Model:
    inputs = keras.Input((8, 8, channels))
    return keras.Model(inputs, keras.layers.Conv2D(2, size)(keras.layers.Rescaling(1 / 255)(inputs)))


def test_of_large_images_fewer_are_used_so_that_the_patches_fit_in_memory(
    images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = images[:, :8, :8]
    of_a_hundred = filters(convolution(3, 3), small[:100])
    assert not np.array_equal(filters(convolution(3, 3), small), of_a_hundred)
    monkeypatch.setattr(whitening, "_VALUES", 100 * 3 * 3 * 27)  # 3 x 3 patches of each image
    assert np.array_equal(filters(convolution(3, 3), small), of_a_hundred)


def test_a_filter_of_one_pixel_scales_it(images: Images) -> None:
    grey = images[:, :8, :8, :1]
    scale = 1 / np.sqrt((grey[:, ::2, ::2] / 255).var() + 5e-4)
    assert np.abs(filters(convolution(1, 1), grey)).ravel() == pytest.approx([scale, scale], rel=1e-3)


@pytest.mark.parametrize("count", [1, 0])
def test_a_single_patch_cannot_be_whitened(images: Images, count: int) -> None:
    with pytest.raises(UserError, match=f"training.whiten: got {count} patches of 8 x 8 in the training images"):
        whitening.whiten(convolution(8, 3), images[:count, :8, :8])


def test_it_is_trained_no_more_and_nothing_else_changes(whitened: keras.Model) -> None:
    first = first_convolution(whitened)
    others = [layer for layer in whitened.layers if isinstance(layer, keras.layers.Conv2D) and layer is not first]
    assert not first.trainable_weights
    assert all(layer.trainable_weights for layer in others)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model=dense"], "training.whiten: model 'dense' begins with Flatten, expected Conv2D"),
        (
            ["model=speedrun", "model.filters=[15,8,8,8,8]"],
            "training.whiten: the first Conv2D of model 'speedrun' has 15 filters, expected an even number of at most "
            "54: components of a patch and their negatives",
        ),
        (["model=pairs", "model.filters=[56,8,8,8,8,8]"], "training.whiten: the first Conv2D of model 'pairs' has 56 "),
        (
            ["model=speedrun", "+model.layers.1.Conv2D.groups=3"],
            "training.whiten: the first Conv2D of model 'speedrun' has groups, expected none: each filter is a "
            "component of a whole patch",
        ),
        (
            ["model=speedrun", "training.start_from=s1_bn"],
            "training.whiten: got true with training.start_from, whose weights it would replace",
        ),
    ],
)
def test_what_cannot_be_whitened_is_refused_before_anything_runs(overrides: list[str], said: str) -> None:
    with pytest.raises(UserError) as refused:
        plan([*overrides, "training.whiten=true"], multirun=False)
    assert str(refused.value).startswith(said)
