"""Maps of what a classifier looks at in an image.

- Grad-CAM (Selvaraju et al., 2017): the channels of the last convolution, weighted by the mean derivative of the logit
  with respect to each, summed up where the sum is positive.
- HiResCAM (Draelos and Carin, 2020): the same with the derivative at each place. If a global average follows, both are
  equal. If a dense layer sees the places one by one, the mean over them can highlight what the model does not use;
  HiResCAM does not.
- Occlusion (Zeiler and Fergus, 2014): how much the log-probability of the class falls if a patch of the image is
  covered. It needs no convolution and no derivative.
"""

from __future__ import annotations

import keras
import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.special import log_softmax

from cifar_exp.data.splits import Images
from cifar_exp.evaluation import gradients

Maps = npt.NDArray[np.float32]

OCCLUSION = "occlusion"
_IMAGE_RANK = 4  # batch, height, width, channels
_PATCHES = 4  # a patch is as large as this part of the image, and moves by half of its size


def maps(model: keras.Model, images: Images, classes: npt.NDArray[np.intp]) -> dict[str, Maps]:
    """Map what speaks for a class in each image.

    Args:
        model: takes pixels (N, H, W, C) and returns logits (N, classes).
        images: (N, H, W, C) uint8.
        classes: (N,), the class of each image that is explained.

    Returns:
        Method -> maps (N, H, W): `"Grad-CAM"` and `"HiResCAM"`, 0 or more, if the model has a convolution;
        `"occlusion"`, which is negative where covering the image helps the class.
    """
    found = {}
    if parts := _at_last_convolution(model):
        features_of, head = parts
        features = np.asarray(features_of.predict(images, verbose=0), np.float32)
        derivatives = gradients.of_outputs(head, features, classes)
        weights = derivatives.mean(axis=(1, 2), keepdims=True)
        for name, factors in (("Grad-CAM", weights), ("HiResCAM", derivatives)):
            small = np.maximum((factors * features).sum(axis=-1), 0)
            found[name] = np.stack([_enlarged(one, images.shape[1:3]) for one in small])
    return found | {OCCLUSION: occlusion(model, images, classes)}


def _at_last_convolution(model: keras.Model) -> tuple[keras.Model, keras.Model] | None:
    """Cut a model behind its last convolution that has several places, and what follows without changing its shape.

    Returns:
        Images -> features (N, h, w, channels), and features -> logits. None if there is no such convolution, or if all
        of them are inside of branches.
    """
    layers = model.layers
    for place in reversed(range(len(layers))):
        shape = layers[place].output.shape
        if "Conv" not in type(layers[place]).__name__ or len(shape) != _IMAGE_RANK or shape[1] * shape[2] == 1:
            continue
        for layer in reversed([layer for layer in layers[place:] if layer.output.shape == shape]):
            try:
                return keras.Model(model.input, layer.output), keras.Model(layer.output, model.output)
            except ValueError:  # inside a branch: the logits do not follow from it alone
                continue
    return None


def _enlarged(small: Maps, size: tuple[int, ...]) -> Maps:
    """Scale a map to the size (H, W) of the image, with linear interpolation."""
    scaled = Image.fromarray(small).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(scaled, np.float32)


def occlusion(model: keras.Model, images: Images, classes: npt.NDArray[np.intp]) -> Maps:
    """Map how much the log-probability of a class falls, in nats, if a patch is covered with the image's mean colour.

    For the arguments see `maps`. A pixel gets the mean over all patches that cover it.

    Returns:
        (N, H, W) float32.
    """
    height, width = images.shape[1:3]
    windows = [(rows, columns) for rows in _windows(height) for columns in _windows(width)]
    found = np.zeros(images.shape[:3], np.float32)
    counts = np.zeros((height, width), np.float32)
    for rows, columns in windows:
        counts[rows, columns] += 1
    for index, (image, label) in enumerate(zip(images, classes, strict=True)):
        views = np.repeat(image[np.newaxis], len(windows) + 1, axis=0)
        mean = image.mean(axis=(0, 1)).round().astype(np.uint8)
        for view, (rows, columns) in zip(views[1:], windows, strict=True):
            view[rows, columns] = mean
        logits = np.asarray(model.predict_on_batch(views), np.float64)
        whole, *covered = log_softmax(logits, axis=1)[:, label]
        for value, (rows, columns) in zip(covered, windows, strict=True):
            found[index, rows, columns] += whole - value
    return found / counts


def _windows(length: int) -> list[slice]:
    """Patches along an axis, from end to end, each of which overlaps half of the next."""
    size = max(1, length // _PATCHES)
    starts = [*range(0, length - size, max(1, size // 2)), length - size]
    return [slice(start, start + size) for start in starts]
