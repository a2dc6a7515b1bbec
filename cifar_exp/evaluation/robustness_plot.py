"""Pictures of a classifier's robustness: its errors by corruption and severity, and what the corruptions look like."""

from __future__ import annotations

import textwrap

import numpy as np
from matplotlib.figure import Figure

from cifar_exp.data.splits import Images
from cifar_exp.evaluation import corruptions
from cifar_exp.evaluation.pictures import as_rgb
from cifar_exp.evaluation.robustness import Robustness
from cifar_exp.evaluation.style import BLACK, page, percent, styled

_NAMES = tuple(name.replace("_", " ") for name in corruptions.NAMES)


@styled
def errors(robustness: Robustness, title: str) -> Figure:
    """Draw the errors as a heat map: a row for each corruption, columns for the severities and their mean."""
    table = np.column_stack([robustness.errors, robustness.errors.mean(axis=1)])
    columns = [*map(str, corruptions.SEVERITIES), "mean"]
    figure = Figure(figsize=(7.2, 6.4), layout="constrained")
    axes = figure.subplots()
    summary = f"mean {percent(robustness.mean_error, 1)}, without corruption {percent(robustness.clean_error, 1)}"
    heading = f"{textwrap.fill(title, 75)}\nError by corruption and severity: {summary}"
    axes.set_title(heading, fontsize=10, fontweight="bold", pad=10)
    axes.imshow(table, cmap="Reds", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(_NAMES)), _NAMES)
    axes.set_xlabel("severity")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.axvline(len(columns) - 1.5, color="white", lw=4)
    for row, column in np.ndindex(table.shape):
        error = float(table[row, column])
        colour = "white" if error > 0.6 else BLACK
        axes.text(column, row, percent(error, 1), ha="center", va="center", color=colour, fontsize=8)
    return figure


@styled
def examples(image: Images) -> Figure:
    """Draw an image, (H, W, C) uint8, under every corruption: a row each, from the clean image to severity 5."""
    side, gap, left, top = 0.78, 0.05, 1.5, 0.25
    wide, high = (side * length / max(image.shape[:2]) for length in (image.shape[1], image.shape[0]))
    steps = 1 + len(corruptions.SEVERITIES)
    width, height = left + steps * (wide + gap) + 0.1, top + len(_NAMES) * (high + gap) + 0.1
    figure, axes = page(width, height, "One image under every corruption")
    for step, heading in enumerate(["clean", *map(str, corruptions.SEVERITIES)]):
        axes.text(left + step * (wide + gap) + wide / 2, top - 0.07, heading, ha="center", fontsize=8)
    for row, name in enumerate(corruptions.NAMES):
        y = top + row * (high + gap)
        axes.text(left - 0.1, y + high / 2, _NAMES[row], ha="right", va="center_baseline")
        strip = [image, *(corruptions.corrupt(image[None], name, severity)[0] for severity in corruptions.SEVERITIES)]
        for step, shown in enumerate(strip):
            x = left + step * (wide + gap)
            axes.imshow(as_rgb(shown), extent=(x, x + wide, y + high, y), aspect="auto")
    return figure
