"""Figures of training histories, images and predictions.

Images are (N, H, W, C) uint8, of any number of channels, and labels (N,) of an unsigned type throughout.
"""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from cifar_exp.data.mapped import StoredImages
from cifar_exp.evaluation.pictures import as_rgb
from cifar_exp.evaluation.style import (
    BLACK,
    BLUE,
    COLOURS,
    DPI,
    GREY,
    LINE_STYLES,
    MARKERS,
    PALE,
    RED,
    page,
    percent,
    styled,
)

_SHOWN_CLASSES = 20  # of which a picture has samples
_LISTED_CLASSES = 12  # beside a predicted image: with more classes, the most probable ones
_COUNTED_CLASSES = 40  # with more, the cells of a confusion matrix are too small for their counts
_NAME = 24  # characters of a class name that a picture shows


def _short(name: str, characters: int = _NAME) -> str:
    """A class name, cut to so many characters."""
    return name if len(name) <= characters else f"{name[: characters - 1]}…"


def _panels(height: float) -> tuple[Figure, Axes, Axes]:
    """Create a figure with a loss panel and an accuracy panel over epochs."""
    figure = Figure(figsize=(9, height), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    for axes, name in ((loss, "loss"), (accuracy, "accuracy")):
        axes.set(title=name, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    return figure, loss, accuracy


def _finite(history: Mapping[str, Sequence[float]], key: str) -> np.ndarray:
    """Values of one metric by epoch, (epochs,) float: NaN where not finite, empty if the metric is missing."""
    values = np.asarray(history.get(key, ()), dtype=float)
    return np.where(np.isfinite(values), values, np.nan)


def _highest(values: np.ndarray) -> float:
    """Highest finite value, or NaN if there is none."""
    return float(np.nanmax(values)) if np.isfinite(values).any() else np.nan


def _epochs(values: np.ndarray) -> np.ndarray:
    """Epoch numbers of `values`, counted from 1."""
    return np.arange(1, len(values) + 1)


def _show_epochs(axes: Axes, epochs: int) -> None:
    """Limit the x axis to epochs 1 to `epochs`, with a margin at both ends."""
    axes.set_xlim(0.5, max(epochs, 1) + max(0.5, 0.02 * epochs))


@styled
def curves(history: Mapping[str, Sequence[float]], title: str) -> Figure:
    """Plot training and validation loss and accuracy by epoch.

    Args:
        history: metric name (`"train/loss"`, ...) -> one value per epoch.
        title: of the figure.
    """
    figure, *panels = _panels(3.9)
    figure.suptitle(textwrap.fill(title, 90), fontsize=11, fontweight="bold", x=0.015, ha="left")
    validation = _finite(history, "val/accuracy")
    epochs = max((len(values) for values in history.values()), default=0)
    marker = "o" if epochs <= 25 else ""
    for axes, metric in zip(panels, ("loss", "accuracy"), strict=True):
        for prefix, name, colour in (("train", "training", BLUE), ("val", "validation", RED)):
            values = _finite(history, f"{prefix}/{metric}")
            if np.isfinite(values).any():
                axes.plot(_epochs(values), values, color=colour, marker=marker, ms=4, label=name)
        if not axes.lines:
            axes.text(0.5, 0.5, "no finite values", transform=axes.transAxes, ha="center", color=GREY)
        _show_epochs(axes, epochs)
    if np.isfinite(best := _highest(validation)):
        epoch = int(np.nanargmax(validation)) + 1
        for axes in panels:
            axes.axvline(epoch, color=GREY, lw=1, ls=":", zorder=1)
        label = f"best validation: {best:.3f} in epoch {epoch}"
        panels[1].plot(epoch, best, "o", ms=10, mfc="none", mec=BLACK, mew=1.4, ls="", label=label)
    handles = [handle for axes in panels for handle in axes.get_legend_handles_labels()[0]]
    if named := {handle.get_label(): handle for handle in handles}:  # one entry for both panels
        figure.legend(handles=list(named.values()), loc="outside lower center", ncols=len(named))
    return figure


@styled
def overlaid_curves(histories: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Plot validation loss and accuracy by epoch of several runs; the legend lists the most accurate run first.

    Args:
        histories: run name -> metric name -> one value per epoch.
    """
    best = {name: _highest(_finite(history, "val/accuracy")) for name, history in histories.items()}
    names = sorted(histories, key=lambda name: -np.nan_to_num(best[name], nan=-1))
    columns = max(1, min(4, 110 // (max(map(len, names), default=0) + 14)))
    figure, *panels = _panels(4 + 0.2 * -(-len(names) // columns))
    for axes, metric in zip(panels, ("loss", "accuracy"), strict=True):
        series = [_finite(histories[name], f"val/{metric}") for name in names]
        epochs = max(map(len, series), default=0)
        for rank, (name, values) in enumerate(zip(names, series, strict=True)):
            axes.plot(
                _epochs(values),
                values,
                color=COLOURS[rank % len(COLOURS)],
                ls=LINE_STYLES[rank // len(COLOURS) % len(LINE_STYLES)],
                marker=MARKERS[rank % len(MARKERS)],
                ms=4.5,
                markevery=max(1, epochs // 10),
                zorder=3 - rank / len(names),
                label=f"{best[name]:.3f}  {name}" if np.isfinite(best[name]) else f"–  {name}",
            )
        axes.set_title(f"validation {metric}")
        _show_epochs(axes, epochs)
    highest = [_highest(_finite(history, "val/loss")) for history in histories.values()]
    highest = [value for value in highest if np.isfinite(value)]
    if highest and max(highest) > (limit := 2 * statistics.median_low(highest)):
        panels[0].set_ylim(0, limit)  # otherwise one diverged run would flatten all other curves
    if names:
        title = "best validation accuracy and run"
        figure.legend(handles=panels[1].lines, title=title, loc="outside lower center", ncols=columns)
    return figure


@styled
def confusion_matrix(matrix: np.ndarray, classes: Sequence[str], title: str) -> Figure:
    """Draw a confusion matrix with the recall of each class.

    Args:
        matrix: counts (C, C) int; rows are the true classes, columns the predicted ones.
        classes: C class names.
        title: of the figure.
    """
    size, classes = len(classes), [_short(name) for name in classes]
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    inches = min(max(0, size - 10) * 0.3, 12)
    figure = Figure(figsize=(8 + inches, 7 + inches), layout="constrained")
    axes = figure.subplots()
    axes.set_title(textwrap.fill(title, 70), fontsize=11, fontweight="bold", pad=12)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    name_size = 9 if size <= _COUNTED_CLASSES else max(3.0, 640 / size - 0.5)
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_yticks(range(size), classes, fontsize=name_size)
    turned, beside = (40, "top") if size <= 10 else (90, "center")
    axes.set_xticks(range(size), classes, rotation=turned, ha="right", va=beside, fontsize=name_size)
    for label in axes.get_xticklabels():
        label.set_rotation_mode("anchor")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    count_size, recall_size = min(9, 90 / size + 2 * (size > 10)), min(8, 640 / size)
    for row, column in np.ndindex(size, size) if size <= _COUNTED_CLASSES else ():
        count, dark = matrix[row, column], share[row, column] > 0.5
        colour = "white" if dark else BLACK if count else PALE
        axes.text(
            column,
            row,
            str(count),
            ha="center",
            va="center",
            color=colour,
            fontsize=count_size,
        )
    for row, recall in enumerate(np.diag(share)):
        known = matrix[row].any()
        axes.text(size - 0.4, row, percent(recall, 1) if known else "–", va="center", color=GREY, fontsize=recall_size)
    axes.text(size - 0.4, -0.5 - 0.015 * size, "recall", color=GREY, fontsize=8)
    colorbar = figure.colorbar(image, ax=axes, shrink=0.5, aspect=25)
    colorbar.formatter = FuncFormatter(lambda value, _: percent(value))
    colorbar.set_label("share of the true class")
    colorbar.outline.set_visible(False)
    return figure


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
    classes = [_short(name) for name in classes]
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
        true_name, guessed = (_short(classes[label], characters) for label in (true, guess))
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
    """The labels whose bars are drawn, in their order: all, or the most probable ones with the true one among them."""
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
) -> Figure:
    """Draw the first training images with their classes, then random ones of each class, of 20 classes at most.

    Args:
        images: (N, H, W, C) uint8.
        labels: (N,).
        classes: class names in the order of the labels.
        first: number of images shown in their order.
        per_class: number of random images of each class.
        seed: of the random choice.
    """
    classes = [_short(name) for name in classes]
    generator = np.random.default_rng(seed)
    chosen_labels = np.linspace(0, len(classes) - 1, min(len(classes), _SHOWN_CLASSES)).round().astype(int)
    shown = np.arange(min(first, len(images)))
    in_order = [shown[start : start + per_class] for start in range(0, len(shown), per_class)]
    members = [np.flatnonzero(labels == label) for label in chosen_labels]
    random = [
        generator.choice(class_members, min(per_class, len(class_members)), replace=False) for class_members in members
    ]
    names = [f"{indices[0] + 1} – {indices[-1] + 1}" for indices in in_order]

    (side, wide), gap = images.shape[1:3], 4
    # Each pixel becomes 2 x 2 if that fits; small images are enlarged until their captions fit below them.
    inches_per_pixel = max(min(2 / DPI, 8 / (per_class * (wide + gap))), 0.6 / (wide + gap))
    row, cell, caption, heading = (side + gap) * inches_per_pixel, (wide + gap) * inches_per_pixel, 0.18, 0.5
    random_names = [classes[label] for label in chosen_labels]
    margin = 0.3 + 0.08 * max(map(len, [*random_names, *names]))
    middle = len(in_order) * (row + caption) + heading
    width = margin + per_class * cell + 0.1
    figure, axes = page(width, middle + len(random) * row + 0.1, f"The first {len(shown)} training images")
    of = "each class" if len(random) == len(classes) else f"{len(random)} of {len(classes)} classes"
    title = f"Random training images of {of}"
    axes.text(0.15, middle - 0.14, title, fontsize=11, fontweight="bold")
    tops = [place * (row + caption) for place in range(len(in_order))]
    tops += [middle + place * row for place in range(len(random))]
    for name, chosen, top in zip([*names, *random_names], in_order + random, tops, strict=True):
        axes.text(margin - 0.1, top + side * inches_per_pixel / 2, name, ha="right", va="center_baseline")
        strip = np.full((side, per_class * (wide + gap), 3), 255, dtype=np.uint8)
        for column, index in enumerate(chosen):
            strip[:, column * (wide + gap) :][:, :wide] = as_rgb(images[index])
            if top < middle - heading:
                x = margin + column * cell + wide * inches_per_pixel / 2
                axes.text(
                    x,
                    top + side * inches_per_pixel + 0.13,
                    _short(classes[labels[index]], int(cell / 0.055)),
                    fontsize=7.5,
                    ha="center",
                )
        axes.imshow(
            strip, extent=(margin, margin + per_class * cell, top + side * inches_per_pixel, top), aspect="auto"
        )
    return figure
