"""Mixup and CutMix: images, labels, loss and metrics, against NumPy and SciPy from the same draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats
from scipy.special import log_softmax
from trained import go_on, measured

from cifar_exp.config.schema import Config
from cifar_exp.config.training_schema import AugmentationConfig
from cifar_exp.data import datasets
from cifar_exp.errors import UserError
from cifar_exp.tracking import fingerprint
from cifar_exp.training import examples, mixing, objective
from cifar_exp.training.mixing import Mix

Array = npt.NDArray[Any]
Compose = Callable[..., Config]
HEIGHT, WIDTH, COUNT = 12, 16, 200
BOTH = (0.4, 1.0)


def layer(mixup: float = 0.0, cutmix: float = 0.0, seed: int = 0) -> Mix:
    return Mix(AugmentationConfig("test", mixup=mixup, cutmix=cutmix), seed)


def numpy(tensors: Any) -> Any:
    return keras.tree.map_structure(lambda tensor: np.asarray(keras.ops.convert_to_numpy(tensor)), tensors)


@pytest.fixture
def images() -> Array:
    return np.random.default_rng(0).integers(0, 256, (COUNT, HEIGHT, WIDTH, 3)).astype(np.uint8)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Array]:
    """The random numbers, in the order in which they are drawn."""
    record: list[Array] = []
    generator = np.random.default_rng(7)

    def uniform(layer: Mix, count: Any) -> Any:
        record.append(generator.random((int(count), 1), np.float32))
        return keras.ops.convert_to_tensor(record[-1])

    monkeypatch.setattr(Mix, "_uniform", uniform)
    return record


def blended(images: Array, level: float, alpha: float, i: int) -> tuple[Array, float]:
    share = float(stats.beta.ppf(level, alpha, alpha))
    return share * images[i] + (1 - share) * images[i - 1], share


def pasted(images: Array, level: float, row: float, column: float, alpha: float, i: int) -> tuple[Array, float]:
    """CutMix as its authors write it: `rand_bbox` in their train.py."""
    cut = np.sqrt(1 - stats.beta.ppf(level, alpha, alpha))
    (top, bottom), (left, right) = (
        np.clip([int(place * size) - int(size * cut) // 2, int(place * size) + int(size * cut) // 2], 0, size)
        for place, size in ((row, HEIGHT), (column, WIDTH))
    )
    image = images[i].astype(np.float64)
    image[top:bottom, left:right] = images[i - 1, top:bottom, left:right]
    return image, 1 - (bottom - top) * (right - left) / (HEIGHT * WIDTH)


def test_mixup_is_that_of_its_definition(images: Array, drawn: list[Array]) -> None:
    mixed, share = numpy(layer(mixup=0.4)(images, training=True))
    assert mixed.dtype == share.dtype == np.float32 and share.shape == (COUNT, 1)
    (levels,) = drawn
    for i in range(COUNT):
        image, own = blended(images, levels[i, 0], 0.4, i)
        assert share[i, 0] == pytest.approx(own, abs=0.002)  # between two quantiles
        np.testing.assert_allclose(mixed[i], image, atol=0.5)


def test_cutmix_is_that_of_its_authors(images: Array, drawn: list[Array]) -> None:
    mixed, share = numpy(layer(cutmix=1.0)(images, training=True))
    level, row, column = (draw[:, 0].astype(float) for draw in drawn)
    expected = [pasted(images, level[i], row[i], column[i], 1.0, i) for i in range(COUNT)]
    # Between two quantiles, a length can be on the other side of a whole number.
    same = [np.array_equal(new, image) for new, (image, _) in zip(mixed, expected, strict=True)]
    assert np.mean(same) > 0.98
    assert share[same, 0] == pytest.approx(np.array([own for _, own in expected])[same], abs=1e-6)
    assert len(np.unique(share)) > 30 and share.max() == 1


def test_of_both_one_is_chosen_for_each_image(images: Array, drawn: list[Array]) -> None:
    mixed, share = numpy(layer(*BOTH)(images, training=True))
    level, cut_level, row, column, coin = (draw[:, 0].astype(float) for draw in drawn)
    close = 0
    for i in range(COUNT):
        if coin[i] < 0.5:
            image, own = blended(images, level[i], BOTH[0], i)
        else:
            image, own = pasted(images, cut_level[i], row[i], column[i], BOTH[1], i)
        close += bool(np.allclose(mixed[i], image, atol=0.5) and abs(share[i, 0] - own) < 0.002)
    assert 0.4 < np.mean(coin < 0.5) < 0.6
    assert close > 0.98 * COUNT


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1.0, 3.0])
def test_shares_are_from_the_beta_distribution(alpha: float) -> None:
    _, share = numpy(layer(mixup=alpha)(np.zeros((20_000, 1, 1, 1), np.uint8), training=True))
    assert share.mean() == pytest.approx(0.5, abs=0.02)
    assert (share < 0.5).sum() == pytest.approx(10_000, abs=300)
    # Near 0 float32 is finer than near 1.
    assert stats.kstest(share[share < 0.5], lambda x: 2 * stats.beta.cdf(x, alpha, alpha)).pvalue > 0.01


def test_the_share_of_cutmix_is_that_of_the_pixels_and_at_the_border_less_is_replaced() -> None:
    white, black = (np.full((10_000, 8, 8, 1), value, np.uint8) for value in (1, 0))
    alternating = np.stack([white, black], axis=1).reshape(-1, 8, 8, 1)
    mixed, share = numpy(layer(cutmix=1.0)(alternating, training=True))
    own = np.where(np.arange(20_000) % 2 == 0, mixed.mean(axis=(1, 2, 3)), 1 - mixed.mean(axis=(1, 2, 3)))
    assert share[:, 0] == pytest.approx(own)
    assert 0.55 < share.mean() < 0.8


def test_outside_training_images_are_left_alone(images: Array) -> None:
    seen, share = numpy(layer(*BOTH)(images, training=False))
    assert np.array_equal(seen, images) and np.array_equal(share, np.ones((COUNT, 1)))


def test_the_seed_decides_and_every_batch_is_new(images: Array) -> None:
    first, again, other = layer(*BOTH, 1), layer(*BOTH, 1), layer(*BOTH, 2)
    one, two = (numpy(first(images, training=True)) for _ in range(2))
    for expected in (one, two):
        assert all(map(np.array_equal, numpy(again(images, training=True)), expected))
    assert not np.array_equal(one[1], two[1])
    assert not np.array_equal(numpy(other(images, training=True))[1], one[1])


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="compiles with tf.function")
def test_it_compiles_with_xla(images: Array) -> None:
    import tensorflow as tf

    mix = layer(*BOTH)
    step = tf.function(lambda batch: mix(batch, training=True), jit_compile=True)
    mixed, share = numpy(step(tf.constant(images)))
    assert not np.array_equal(mixed, images) and len(np.unique(share)) > COUNT // 2


def outputs(share: Array) -> tuple[Array, Array]:
    logits = np.random.default_rng(1).normal(0, 3, (len(share), 10)).astype(np.float32)
    return logits, np.concatenate([logits, share[:, None].astype(np.float32)], axis=1)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", ["none", "{3: 5.0}"])
def test_the_loss_is_the_cross_entropy_of_the_mixed_label(compose: Compose, smoothing: float, weights: str) -> None:
    config = compose("data=digits", f"training.label_smoothing={smoothing}", f"data.class_weights={weights}")
    labels, share = np.array([3, 1, 3, 9], np.uint8), np.array([1, 0.7, 0.2, 0.5])
    logits, output = outputs(share)
    one_hot = (1 - smoothing) * np.eye(10)[labels] + smoothing / 10
    one_hot *= np.where((labels == 3) & (weights != "none"), 5, 1)[:, None]
    mixed = share[:, None] * one_hot + (1 - share)[:, None] * np.roll(one_hot, 1, axis=0)
    expected = -(mixed * log_softmax(logits, axis=1)).sum(axis=1)
    loss = mixing.loss(objective.loss(config, datasets.load(config.data)))
    assert numpy(loss(labels, keras.ops.convert_to_tensor(output))) == pytest.approx(expected, rel=1e-5)


def test_metrics_are_those_of_the_labels_by_their_shares() -> None:
    labels, share = np.array([3, 1, 3, 9], np.int32), np.array([1, 0.7, 0.2, 0.5])
    logits, output = outputs(share)
    logits[[0, 2], [3, 1]] = output[[0, 2], [3, 1]] = 20  # the only two that are right
    logits[[1, 3], 0] = output[[1, 3], 0] = 20
    mixed = share[:, None] * np.eye(10)[labels] + (1 - share)[:, None] * np.eye(10)[np.roll(labels, 1)]
    accuracy, cross_entropy = mixing.metrics()
    for metric in (accuracy, cross_entropy):
        metric.update_state(labels, keras.ops.convert_to_tensor(output))
    assert float(accuracy.result()) == 0.5
    expected = -(mixed * log_softmax(logits, axis=1)).sum(axis=1).mean()
    assert float(cross_entropy.result()) == pytest.approx(expected, rel=1e-5)
    assert [metric.name for metric in (accuracy, cross_entropy)] == [metric.name for metric in objective.metrics()]


def test_images_and_labels_are_mixed_alike_in_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a share of 0, every image and every label are those of the one before: nothing but their places changes."""
    overrides = (
        *("model.layers=[Flatten,{Dense:{units:10}}]", "training.epochs=1"),
        *("training.label_smoothing=0.1", "training.focal_gamma=2"),
    )
    plain = go_on(overrides)
    monkeypatch.setattr(Mix, "_own", lambda mix, count, *_: keras.ops.zeros((count, 1, 1, 1)))
    moved = go_on((*overrides, "augmentation.cutmix=1"))
    for name, values in measured(moved.history).items():
        assert values == pytest.approx(plain.history[name], rel=1e-4), name


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_batches_of_one_image_are_refused(compose: Compose, kind: str) -> None:
    with pytest.raises(UserError, match=rf"^augmentation\.{kind}: got 0\.5 with training\.batch_size=1, expected at"):
        compose("data=digits", f"augmentation.{kind}=0.5", "training.batch_size=1")


def test_examples_are_changed_and_mixed_like_training_images(images: Array) -> None:
    first = images[:10]
    assert examples.changed(first, AugmentationConfig("none"), 0) is None
    flipped = examples.changed(first, AugmentationConfig("test", horizontal_flip=True), 0)
    assert flipped is not None and flipped.dtype == np.uint8
    for new, old in zip(flipped, first, strict=True):
        assert np.array_equal(new, old) or np.array_equal(new, old[:, ::-1])
    both = examples.changed(first, AugmentationConfig("test", horizontal_flip=True, mixup=1.0), 0)
    mixed, _ = numpy(layer(mixup=1.0)(flipped, training=True))
    assert both is not None and np.array_equal(both, np.rint(mixed))


def test_mixing_and_the_focal_loss_decide_a_result(compose: Compose) -> None:
    settings = ("augmentation.mixup=0.2", "augmentation.cutmix=0.2", "training.focal_gamma=0.2")
    configs = [compose("data=digits", *changed) for changed in ((), *((one,) for one in settings))]
    splits = datasets.load(configs[0].data)
    assert len({fingerprint.fingerprint(config, splits) for config in configs}) == 4
    assert not {"mixup", "cutmix"} & set(fingerprint._decisive(configs[0].augmentation, "augmentation"))
    assert "focal_gamma" not in fingerprint._decisive(configs[0].training, "training")
