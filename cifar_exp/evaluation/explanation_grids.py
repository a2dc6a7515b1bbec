"""Pictures of explained predictions: images with maps laid over them, and what each class is confused with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from cifar_exp.data.mapped import StoredImages
from cifar_exp.data.splits import Labels
from cifar_exp.errors import shorten
from cifar_exp.evaluation.calibration import Floats
from cifar_exp.evaluation.pictures import as_rgb
from cifar_exp.evaluation.saliency import Maps
from cifar_exp.evaluation.style import BLUE, GREY, RED, page, percent, styled

_SIDE, _GAP = 1.15, 0.08  # of a picture, in inches
_CONFUSED = 8  # images of a class
_ROWS = 20  # classes, at most: those with most mistakes


@styled
def explained(
    images: np.ndarray,
    indices: Sequence[int],
    labels: Labels,
    probabilities: Floats,
    maps: Mapping[str, Maps],
    classes: Sequence[str],
) -> Figure:
    """Draw each image, and beside it each map over the image.

    Args:
        images: (N, H, W, C) uint8.
        indices: of the images in their data set.
        labels: true classes, (N,).
        probabilities: (N, classes).
        maps: method -> (N, H, W); each is drawn from 0 to its own maximum.
        classes: class names in the order of the labels.
    """
    wide, high = _sizes(images.shape[1:3])
    block = (1 + len(maps)) * (wide + _GAP) + 0.25
    columns = 1 if len(images) == 1 else 2
    row_height = high + 0.3
    rows = -(-len(images) // columns)
    title = f"What speaks for the predicted class: {', '.join(maps)}"
    figure, axes = page(columns * block + 0.15, rows * row_height + 0.05, title)
    for place, image in enumerate(as_rgb(images)):
        left, top = 0.15 + place % columns * block, place // columns * row_height + 0.22
        true, guess = int(labels[place]), int(probabilities[place].argmax())
        name, guessed = (shorten(classes[label], 18) for label in (true, guess))
        verdict = "recognized" if true == guess else f"taken for {guessed}"
        caption = f"{indices[place]}: {name}, {verdict} ({percent(probabilities[place, guess])})"
        axes.text(left, top - 0.06, caption, color=BLUE if true == guess else RED, fontsize=8.5)
        shown = [image, *(_overlaid(image, each[place]) for each in maps.values())]
        for column, picture in enumerate(shown):
            x = left + column * (wide + _GAP)
            axes.imshow(picture, extent=(x, x + wide, top + high, top), aspect="auto")
    return figure


@styled
def confusions(images: StoredImages, labels: Labels, probabilities: Floats, classes: Sequence[str]) -> Figure:
    """Draw for each class the images that were most confidently taken for another one.

    Args:
        images: (N, H, W, C) uint8.
        labels: true classes, (N,).
        probabilities: (N, classes).
        classes: class names in the order of the labels. Those without a mistake are left out; if there are many, those
            with most mistakes are drawn.
    """
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = predicted != labels
    mistakes = np.bincount(labels[wrong], minlength=len(classes))
    rows = np.sort([row for row in np.argsort(-mistakes, kind="stable")[:_ROWS] if mistakes[row]])
    counts = {row: f"{mistakes[row]} of {np.sum(labels == row):,} wrong" for row in rows}
    wide, high = _sizes(images.shape[1:3])
    longest = max((len(text) for row in rows for text in (shorten(classes[row]), counts[row])), default=0)
    margin, row_height = 0.35 + 0.075 * longest, high + 0.3
    title = "What each class is taken for: its most confident mistakes"
    figure, axes = page(margin + _CONFUSED * (wide + _GAP) + 0.1, max(1, len(rows)) * row_height + 0.05, title)
    for place, row in enumerate(rows):
        top = place * row_height + 0.22
        axes.text(margin - 0.1, top + high / 2 - 0.08, shorten(classes[row]), ha="right", va="center", fontsize=9)
        axes.text(margin - 0.1, top + high / 2 + 0.1, counts[row], ha="right", va="center", color=GREY, fontsize=7.5)
        members = np.flatnonzero(wrong & (labels == row))
        for column, index in enumerate(members[np.argsort(-confidence[members], kind="stable")][:_CONFUSED]):
            x = margin + column * (wide + _GAP)
            guessed = shorten(classes[predicted[index]], int(wide / 0.075) - 6)
            axes.text(x, top - 0.06, f"{guessed}, {percent(confidence[index])}", color=RED, fontsize=7.5)
            axes.imshow(as_rgb(images[index]), extent=(x, x + wide, top + high, top), aspect="auto")
    return figure


def _sizes(shape: tuple[int, ...]) -> tuple[float, float]:
    """Width and height of a picture in inches."""
    return _SIDE * shape[1] / max(shape), _SIDE * shape[0] / max(shape)


def _overlaid(image: np.ndarray, each: np.ndarray) -> np.ndarray:
    """Lay a map over a grey image, as colours: (H, W, 3) float in 0..1."""
    grey = image.mean(axis=-1, keepdims=True) / 255
    shares = np.clip(each / max(float(each.max()), 1e-12), 0, 1)
    colours = matplotlib.colormaps["inferno"](shares)[..., :3]
    mixed: np.ndarray = 0.45 * grey + 0.55 * colours
    return mixed
