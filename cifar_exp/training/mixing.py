"""Mixup and CutMix: each training image with a part of another one, and the loss and metrics of its two labels.

Keras's own MixUp and CutMix draw from gamma distributions, which XLA cannot compile on TensorFlow. Here a share is a
uniform random number looked up among the quantiles of its beta distribution.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops
from scipy.special import betaincinv

from cifar_exp.config.training_schema import AugmentationConfig

_QUANTILES = 4096  # of a beta distribution, at equal steps of probability

PerImage = Callable[[Any, Any], Any]  # labels (N,), logits (N, classes) -> values (N,)


class Mix(keras.layers.Layer):  # type: ignore[misc]
    """Layer that mixes each training image with the one before it in its batch, the first one with the last.

    Batches are in random order, so that one is a random other image; torchvision does the same. The share that an image
    keeps is drawn for each image anew. With two kinds of mixing, a coin decides for each image.

    - mixup (Zhang et al., 2018): share * image + (1 - share) * other, where share ~ Beta(mixup, mixup).
    - CutMix (Yun et al., 2019): a rectangle of the image is replaced by the same pixels of the other. Its centre is any
      pixel. Its sides are sqrt(1 - a) of those of the image, where a ~ Beta(cutmix, cutmix), rounded down to an even
      number of pixels. What lies outside the image is cut off, so the share is that of the pixels that remain.

    Args:
        config: its `mixup` and `cutmix` are used; one of them at least is not 0.
        seed: of the shares and places.
    """

    def __init__(self, config: AugmentationConfig, seed: int, **kwargs: Any) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.random = keras.random.SeedGenerator(seed)
        probabilities = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
        alphas = {"mixup": config.mixup, "cutmix": config.cutmix}
        self._quantiles = {
            kind: betaincinv(alpha, alpha, probabilities).astype(np.float32) for kind, alpha in alphas.items() if alpha
        }

    def call(self, images: Any, training: bool = False) -> tuple[Any, Any]:
        """Mix a batch.

        Args:
            images: (N, H, W, C), any numeric dtype.
            training: whether to mix.

        Returns:
            The images (N, H, W, C) float32, and the share (N, 1) of each that is its own: 1 outside training.
        """
        images = ops.cast(images, "float32")
        if not training:
            return images, ops.ones_like(images[:, 0, 0, :1])
        own = self._own(ops.shape(images)[0], *images.shape[1:3])
        return own * images + (1 - own) * _previous(images), ops.mean(own, axis=(1, 2))

    def _own(self, count: Any, height: int, width: int) -> Any:
        """Draw the share of each pixel that is the image's own: (count, H or 1, W or 1, 1) in 0..1."""
        kinds = {"mixup": self._mixup, "cutmix": self._cutmix}
        own = [kinds[kind](self._beta(kind, count), count, height, width) for kind in self._quantiles]
        return own[0] if len(own) == 1 else ops.where(self._uniform(count)[:, :, None, None] < 0.5, *own)

    def _mixup(self, share: Any, *_: Any) -> Any:
        return share[:, :, None, None]

    def _cutmix(self, share: Any, count: Any, *sizes: int) -> Any:
        inside = []
        for size in sizes:
            half = ops.floor(ops.sqrt(1 - share) * size / 2)
            centre = ops.floor(self._uniform(count) * size)
            positions = ops.arange(size, dtype="float32")[None, :]
            inside.append(ops.logical_and(positions >= centre - half, positions < centre + half))
        both = ops.logical_and(inside[0][:, :, None, None], inside[1][:, None, :, None])
        return 1 - ops.cast(both, "float32")

    def _beta(self, kind: str, count: Any) -> Any:
        """Draw a share for each image, (count, 1) in 0..1."""
        indices = ops.cast(ops.floor(self._uniform(count) * _QUANTILES), "int32")
        return ops.take(ops.convert_to_tensor(self._quantiles[kind]), indices, axis=0)

    def _uniform(self, count: Any) -> Any:
        """Draw one value in [0, 1) for each image, (count, 1) float32."""
        return keras.random.uniform((count, 1), seed=self.random)


def is_on(config: AugmentationConfig) -> bool:
    """Whether images are mixed."""
    return bool(config.mixup or config.cutmix)


def mixed(model: keras.Model, config: AugmentationConfig, seed: int) -> keras.Model:
    """Put the mixing before a model; the weights are shared.

    Args:
        model: takes images (N, H, W, C) and returns logits (N, classes) float32.
        config: which images to mix.
        seed: of the run.

    Returns:
        A model with outputs (N, classes + 1): the logits and, because Keras passes one output to a loss, the share of
        each image that is its own. `loss` and `metrics` take them apart.
    """
    inputs = keras.Input(model.input_shape[1:])
    # `Augment` has the seed itself, and `fit` shuffles by (seed, epoch), from 1. PyTorch keeps seeds in 32 signed bits.
    own_seed = int(np.random.default_rng((seed, 0)).integers(2**31))
    images, share = Mix(config, own_seed)(inputs)
    return keras.Model(inputs, keras.layers.Concatenate(dtype="float32")([model(images), share]))


def loss(of_label: PerImage) -> PerImage:
    """Return the loss of mixed images: the mean of the losses of their two labels, weighted by their shares.

    For a cross-entropy this is the cross-entropy of the mixed label.

    Args:
        of_label: the loss of labels (N,) and logits (N, classes), for each image.

    Returns:
        A function of labels (N,) and outputs of the model that `mixed` returns.
    """

    def of_both(labels: Any, outputs: Any) -> Any:
        labels, logits, share = ops.reshape(labels, (-1,)), outputs[:, :-1], outputs[:, -1]
        return share * of_label(labels, logits) + (1 - share) * of_label(_previous(labels), logits)

    return of_both


def metrics() -> list[keras.metrics.Metric]:
    """Return new metrics like those of `objective.metrics`, of labels (N,) and outputs of the model that is trained.

    `cross_entropy` is that of both labels, weighted by their shares. `accuracy` is that of the label with the larger
    share, the own one of equals.
    """

    def cross_entropy(labels: Any, logits: Any) -> Any:
        return keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)

    def accuracy(labels: Any, outputs: Any) -> Any:
        labels = ops.reshape(labels, (-1,))
        larger = ops.where(outputs[:, -1] >= 0.5, labels, _previous(labels))
        return keras.metrics.sparse_categorical_accuracy(larger, outputs[:, :-1])

    wrapper = keras.metrics.MeanMetricWrapper
    return [wrapper(accuracy, name="accuracy"), wrapper(loss(cross_entropy), name="cross_entropy")]


def _previous(batch: Any) -> Any:
    """What each image of a batch is mixed with, or its label."""
    return ops.roll(batch, 1, axis=0)
