"""History, images and predictions -> matplotlib figures.

Images are uint8 (N, 32, 32, 3) and labels uint8 (N,) throughout.
"""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from cifar_exp.figure_style import (
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


def _panels(height: float) -> tuple[Figure, Axes, Axes]:
    """Figure with a loss and an accuracy panel over epochs."""
    figure = Figure(figsize=(9, height), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    for axes, name in ((loss, "loss"), (accuracy, "accuracy")):
        axes.set(title=name, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    return figure, loss, accuracy


def _finite(history: Mapping[str, Sequence[float]], key: str) -> np.ndarray:
    """One metric by epoch, float (epochs,), NaN where it is not finite; empty where it is missing."""
    values = np.asarray(history.get(key, ()), dtype=float)
    return np.where(np.isfinite(values), values, np.nan)


def _highest(values: np.ndarray) -> float:
    """Highest finite value, or NaN where there is none."""
    return float(np.nanmax(values)) if np.isfinite(values).any() else np.nan


def _epochs(values: np.ndarray) -> np.ndarray:
    """Epochs of `values`, counted from 1."""
    return np.arange(1, len(values) + 1)


def _show_epochs(axes: Axes, epochs: int) -> None:
    """Limit `axes` to epochs 1 to `epochs` with a little room at both ends."""
    axes.set_xlim(0.5, max(epochs, 1) + max(0.5, 0.02 * epochs))


@styled
def curves(history: Mapping[str, Sequence[float]], title: str) -> Figure:
    """Loss and accuracy by epoch, training against validation; `history` holds one value per epoch."""
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
    """Validation loss and accuracy by epoch of several runs, {name: history}, the most accurate run first."""
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
        panels[0].set_ylim(0, limit)  # or one diverged run would flatten all others
    if names:
        title = "best validation accuracy and run"
        figure.legend(handles=panels[1].lines, title=title, loc="outside lower center", ncols=columns)
    return figure


@styled
def confusion_matrix(matrix: np.ndarray, classes: Sequence[str], title: str) -> Figure:
    """Confusion matrix of integer counts (C, C), rows true, columns predicted, with each class's recall."""
    size = len(classes)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(8, 7), layout="constrained")
    axes = figure.subplots()
    axes.set_title(textwrap.fill(title, 70), fontsize=11, fontweight="bold", pad=12)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="true", yticks=range(size), yticklabels=classes)
    axes.set_xticks(range(size), classes, rotation=40, ha="right", rotation_mode="anchor")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    for row, column in np.ndindex(size, size):
        count, dark = matrix[row, column], share[row, column] > 0.5
        colour = "white" if dark else BLACK if count else PALE
        axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=min(9, 90 / size))
    for row, recall in enumerate(np.diag(share)):
        known = matrix[row].any()
        axes.text(size - 0.4, row, percent(recall, 1) if known else "–", va="center", color=GREY, fontsize=8)
    axes.text(size - 0.4, -0.65, "recall", color=GREY, fontsize=8)
    colorbar = figure.colorbar(image, ax=axes, shrink=0.5, aspect=25)
    colorbar.formatter = FuncFormatter(lambda value, _: percent(value))
    colorbar.set_label("share of the true class")
    colorbar.outline.set_visible(False)
    return figure


@styled
def predictions(
    images: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], count: int = 12
) -> Figure:
    """Most confident mistakes, then least confident hits, each with its class probabilities, float (N, C)."""
    probabilities = np.nan_to_num(probabilities)
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    by_confidence = np.argsort(confidence, kind="stable")
    right = (predicted == labels)[by_confidence]
    mistakes, hits = by_confidence[~right][::-1], by_confidence[right]
    mistakes = mistakes[: max(count * 3 // 4, count - len(hits))]
    hits = hits[: count - len(mistakes)]
    shown = np.concatenate([mistakes, hits])

    columns, width, height = 3, 2.99, 1.72
    rows = -(-len(shown) // columns)
    title = f"The most confident mistakes ({len(mistakes)}), then the least confident correct predictions ({len(hits)})"
    figure, axes = page(columns * width + 0.1, max(rows, 1) * height, title)
    side, bar_left, bar_width = 1.3, 2.1, 0.77
    bar_height = side / len(classes)
    for place, index in enumerate(shown):
        left, top = place % columns * width + 0.15, place // columns * height + 0.22
        true, guess = int(labels[index]), int(predicted[index])
        verdict = "recognized" if guess == true else f"taken for {classes[guess]}"
        caption = f"{classes[true]}, {verdict} ({percent(confidence[index])})"
        axes.text(left, top - 0.07, caption, color=BLUE if guess == true else RED, fontsize=8.5)
        axes.imshow(images[index], extent=(left, left + side, top + side, top), aspect="auto")
        colours = [PALE] * len(classes)
        colours[guess], colours[true] = RED, BLUE
        middles = top + bar_height * (np.arange(len(classes)) + 0.5)
        lengths = probabilities[index] * bar_width
        axes.barh(middles, lengths, 0.75 * bar_height, left + bar_left, color=colours)
        axes.vlines(left + bar_left, top, top + side, color=GREY, lw=0.8)
        for name, middle, colour in zip(classes, middles, colours, strict=True):
            colour = GREY if colour == PALE else colour
            x = left + bar_left - 0.05
            axes.text(x, middle, name, color=colour, fontsize=7, ha="right", va="center_baseline")
    return figure


@styled
def samples(
    images: np.ndarray, labels: np.ndarray, classes: Sequence[str], per_class: int = 10, seed: int = 0
) -> Figure:
    """Grid with one row per class of up to `per_class` random images."""
    generator = np.random.default_rng(seed)
    side, gap = images.shape[1], 4
    cell = side + gap
    grid = np.full((len(classes) * cell, per_class * cell, 3), 255, dtype=np.uint8)
    for row in range(len(classes)):
        members = np.flatnonzero(labels == row)
        chosen = generator.choice(members, min(per_class, len(members)), replace=False)
        for column, index in enumerate(chosen):
            grid[row * cell : row * cell + side, column * cell : column * cell + side] = images[index]
    inches = min(2 / DPI, 8 / grid.shape[1])  # a pixel becomes 2 x 2 where that fits
    margin = 0.3 + 0.08 * max(map(len, classes))
    width, height = grid.shape[1] * inches, grid.shape[0] * inches
    title = f"Random images of each class (up to {per_class})"
    figure, axes = page(margin + width + 0.1, height + 0.1, title)
    axes.imshow(grid, extent=(margin, margin + width, height, 0), aspect="auto")
    for row, name in enumerate(classes):
        axes.text(margin - 0.1, (row * cell + side / 2) * inches, name, ha="right", va="center_baseline")
    return figure
