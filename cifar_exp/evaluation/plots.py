"""Plots of training histories and of confusion matrices."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from cifar_exp.errors import shorten
from cifar_exp.evaluation.style import (
    BLACK,
    BLUE,
    COLOURS,
    GREY,
    LINE_STYLES,
    MARKERS,
    PALE,
    RED,
    percent,
    styled,
)

_COUNTED_CLASSES = 40  # with more, the cells of a confusion matrix are too small for their counts


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
    size, classes = len(classes), [shorten(name) for name in classes]
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
            in_layout=False,  # it is inside the axes, and the layout would measure each several times
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
