"""Grids of images: samples of the training images, and predictions of a model.

Images are (N, H, W, C) uint8 with any number of channels, and labels (N,) of an unsigned type throughout.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from cifar_exp.data.mapped import StoredImages
from cifar_exp.errors import shorten
from cifar_exp.evaluation.pictures import as_rgb
from cifar_exp.evaluation.style import BLUE, DPI, GREY, PALE, RED, page, percent, styled

_SHOWN_CLASSES = 20  # classes with random samples, at most
_LISTED_CLASSES = 12  # classes with a bar beside a predicted image, at most; with more classes, the most probable ones


@styled
def predictions(
    images: StoredImages, labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], count: int = 12
) -> Figure:
    """Draw the most confident mistakes, then the least confident correct predictions.

    Args:
        images: (N, H, W, C) uint8.
        labels: (N,).
        probabilities: (N, classes) float. The bars beside each image show them, those of the true and of the most
            probable classes if there are many.
        classes: class names in the order of the labels.
        count: number of images; three quarters are mistakes if there are enough.
    """
    probabilities = np.nan_to_num(probabilities)
    classes = [shorten(name) for name in classes]
    listed = min(len(classes), _LISTED_CLASSES)
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    by_confidence = np.argsort(confidence, kind="stable")
    right = (predicted == labels)[by_confidence]
    mistakes, hits = by_confidence[~right][::-1], by_confidence[right]
    mistakes = mistakes[: max(count * 3 // 4, count - len(hits))]
    hits = hits[: count - len(mistakes)]
    shown = np.concatenate([mistakes, hits])

    columns, width, height = 3, max(2.99, 2.35 + 0.06 * max(map(len, classes))), 1.72
    characters = int((width - 0.15) / 0.06 - 20) // 2  # of two class names in a caption
    rows = -(-len(shown) // columns)
    title = f"The most confident mistakes ({len(mistakes)}), then the least confident correct predictions ({len(hits)})"
    figure, axes = page(columns * width + 0.1, max(rows, 1) * height, title)
    side = 1.3
    bar_left = side + 0.2 + 0.06 * max(map(len, classes))
    bar_width, bar_height = width - bar_left - 0.12, side / max(listed, 4)
    for place, index in enumerate(shown):
        left, top = place % columns * width + 0.15, place // columns * height + 0.22
        true, guess = int(labels[index]), int(predicted[index])
        true_name, guessed = (shorten(classes[label], characters) for label in (true, guess))
        verdict = "recognized" if guess == true else f"taken for {guessed}"
        caption = f"{true_name}, {verdict} ({percent(confidence[index])})"
        axes.text(left, top - 0.07, caption, color=BLUE if guess == true else RED, fontsize=8.5)
        high, wide = (side * length / max(images.shape[1:3]) for length in images.shape[1:3])
        axes.imshow(as_rgb(images[index]), extent=(left, left + wide, top + high, top), aspect="auto")
        bars = _bars(probabilities[index], true, listed)
        colours = [BLUE if label == true else RED if label == guess else PALE for label in bars]
        middles = top + bar_height * (np.arange(listed) + 0.5)
        lengths = probabilities[index][bars] * bar_width
        axes.barh(middles, lengths, 0.75 * bar_height, left + bar_left, color=colours)
        axes.vlines(left + bar_left, top, top + side, color=GREY, lw=0.8)
        for name, middle, colour in zip([classes[label] for label in bars], middles, colours, strict=True):
            colour = GREY if colour == PALE else colour
            x = left + bar_left - 0.05
            axes.text(x, middle, name, color=colour, fontsize=7, ha="right", va="center_baseline")
    return figure


def _bars(probabilities: np.ndarray, true: int, count: int) -> np.ndarray:
    """Return the labels whose bars are drawn, in ascending order: the most probable ones and always the true one."""
    most = np.argsort(-probabilities, kind="stable")[:count]
    if true not in most:
        most[-1] = true
    return np.sort(most)


@styled
def samples(
    images: StoredImages,
    labels: np.ndarray,
    classes: Sequence[str],
    first: int = 20,
    per_class: int = 10,
    seed: int = 0,
    changed: np.ndarray | None = None,
) -> Figure:
    """Draw the first training images with their classes, then random ones of each class, of 20 classes at most.

    Between them are the first images as training changes them, if it does.

    Args:
        images: (N, H, W, C) uint8.
        labels: (N,).
        classes: class names in the order of the labels.
        first: number of images shown in their order.
        per_class: number of random images of each class.
        seed: of the random choice.
        changed: (first, H, W, C) uint8, the first images after augmentation; None if there is none.
    """
    classes = [shorten(name) for name in classes]
    generator = np.random.default_rng(seed)
    chosen_labels = np.linspace(0, len(classes) - 1, min(len(classes), _SHOWN_CLASSES)).round().astype(int)
    shown = np.arange(min(first, len(images)))
    in_order = [shown[start : start + per_class] for start in range(0, len(shown), per_class)]
    members = [np.flatnonzero(labels == label) for label in chosen_labels]
    random = [
        generator.choice(class_members, min(per_class, len(class_members)), replace=False) for class_members in members
    ]
    names = [f"{indices[0] + 1} – {indices[-1] + 1}" for indices in in_order]
    first_rows = list(zip(names, in_order, strict=True))

    (side, wide), gap = images.shape[1:3], 4
    # Each pixel becomes 2 x 2 if that fits; small images are enlarged until their captions fit below them.
    inches_per_pixel = max(min(2 / DPI, 8 / (per_class * (wide + gap))), 0.6 / (wide + gap))
    row, cell, caption, heading = (side + gap) * inches_per_pixel, (wide + gap) * inches_per_pixel, 0.18, 0.5
    random_names = [classes[label] for label in chosen_labels]
    margin = 0.3 + 0.08 * max(map(len, [*random_names, *names]))
    captioned = len(in_order) * (row + caption)
    strips = [(name, images, chosen, place * (row + caption)) for place, (name, chosen) in enumerate(first_rows)]
    middle = captioned + heading
    titles = {}
    if changed is not None:
        titles[middle] = "The same images, changed at random as in training"
        strips += [(name, changed, chosen, middle + place * row) for place, (name, chosen) in enumerate(first_rows)]
        middle += len(in_order) * row + heading
    strips += [
        (name, images, chosen, middle + place * row)
        for place, (name, chosen) in enumerate(zip(random_names, random, strict=True))
    ]
    width = margin + per_class * cell + 0.1
    figure, axes = page(width, middle + len(random) * row + 0.1, f"The first {len(shown)} training images")
    chosen_classes = "each class" if len(random) == len(classes) else f"{len(random)} of {len(classes)} classes"
    titles[middle] = f"Random training images of {chosen_classes}"
    for below, title in titles.items():
        axes.text(0.15, below - 0.14, title, fontsize=11, fontweight="bold")
    for name, source, chosen, top in strips:
        axes.text(margin - 0.1, top + side * inches_per_pixel / 2, name, ha="right", va="center_baseline")
        strip = np.full((side, per_class * (wide + gap), 3), 255, dtype=np.uint8)
        for column, index in enumerate(chosen):
            strip[:, column * (wide + gap) :][:, :wide] = as_rgb(source[index])
            if top < captioned:
                x = margin + column * cell + wide * inches_per_pixel / 2
                axes.text(
                    x,
                    top + side * inches_per_pixel + 0.13,
                    shorten(classes[labels[index]], int(cell / 0.055)),
                    fontsize=7.5,
                    ha="center",
                )
        axes.imshow(
            strip, extent=(margin, margin + per_class * cell, top + side * inches_per_pixel, top), aspect="auto"
        )
    return figure
