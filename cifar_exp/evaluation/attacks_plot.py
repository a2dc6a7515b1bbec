"""Pictures of attacks: the accuracy by epsilon, and what the attacks do to an image."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from cifar_exp.data.splits import Images
from cifar_exp.errors import shorten
from cifar_exp.evaluation.attacks import METHODS, Attacks, Example
from cifar_exp.evaluation.intervals import wilson
from cifar_exp.evaluation.pictures import as_rgb
from cifar_exp.evaluation.style import BLACK, COLOURS, GREY, MARKERS, RED, page, percent, styled


@styled
def accuracies(attacks: Attacks, title: str) -> Figure:
    """Draw the accuracy under each attack by epsilon, with its 95 % interval, from that without an attack."""
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.subplots()
    heading = f"{textwrap.fill(title, 75)}\nAccuracy under white-box attacks, with 95 % intervals"
    axes.set_title(heading, fontsize=10, fontweight="bold", pad=10)
    clean, epsilons = attacks.clean_correct, [0, *attacks.epsilons]
    for method, counts, colour, marker in zip(METHODS, attacks.correct.tolist(), COLOURS, MARKERS, strict=False):
        shares = np.array([clean, *counts]) / attacks.images
        intervals = np.array([wilson(count, attacks.images) for count in (clean, *counts)])
        around = np.abs(intervals.T - shares)
        axes.errorbar(epsilons, shares, around, color=colour, marker=marker, ms=4.5, capsize=3, label=method)
    axes.axhline(clean / attacks.images, color=GREY, lw=1, ls=":", label="without an attack")
    axes.set_xticks(epsilons, list(map(str, epsilons)))
    axes.set_xlabel("epsilon: largest change of a pixel's value, of 255")
    axes.set_ylabel("accuracy")
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: percent(share)))
    axes.legend()
    return figure


@styled
def example(shown: Example, epsilons: Sequence[int], classes: Sequence[str]) -> Figure:
    """Draw an image under each attack with each epsilon, and how it was changed: grey is unchanged."""
    side, gap, left, top, caption = 1.15, 0.08, 1.15, 0.3, 0.36
    wide, high = (side * length / max(shown.clean.shape[:2]) for length in (shown.clean.shape[1], shown.clean.shape[0]))
    across, down = wide + gap, high + gap
    block = 2 * down + caption
    width = left + (1 + len(epsilons)) * across + 0.1
    name = shorten(classes[shown.label])
    figure, axes = page(width, top + len(METHODS) * block, f"Image {shown.index}, {name}, under attack")

    def draw(image: Images, x: float, y: float) -> None:
        axes.imshow(as_rgb(image), extent=(x, x + wide, y + high, y), aspect="auto", interpolation="nearest")

    for column, heading in enumerate(["clean", *(f"epsilon {epsilon}" for epsilon in epsilons)]):
        axes.text(left + column * across + wide / 2, top - 0.08, heading, ha="center", fontsize=8)
    for row, method in enumerate(METHODS):
        y = top + row * block
        axes.text(left - 0.1, y + high / 2, method, ha="right", va="center_baseline", fontweight="bold")
        axes.text(left - 0.1, y + down + high / 2, "its change", ha="right", va="center_baseline")
        draw(shown.clean, left, y)
        for column, epsilon in enumerate(epsilons):
            x, attacked = left + (column + 1) * across, shown.attacked[row, column]
            draw(attacked, x, y)
            change = (attacked.astype(float) - shown.clean) / epsilon
            draw((127.5 + 127.5 * change).round().astype(np.uint8), x, y + down)
            label = int(shown.predicted[row, column])
            words = f"{shorten(classes[label], 14)}\n{percent(float(shown.probability[row, column]))}"
            colour = BLACK if label == shown.label else RED
            axes.text(x + wide / 2, y + 2 * down, words, ha="center", va="top", fontsize=8, color=colour)
    return figure
