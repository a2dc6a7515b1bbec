"""Picture of a learning curve: test errors by the number of training images, and the power law through them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from cifar_exp.evaluation.style import BLUE, GREY, RED, percent, styled

Floats = npt.NDArray[np.float64]


@styled
def learning_curve(
    points: Sequence[tuple[int, float]], line: tuple[Floats, Floats, Floats, Floats], title: str
) -> Figure:
    """Draw a learning curve.

    Args:
        points: (training images, test error) of each run.
        line: numbers of training images, error by the power law, and the ends of its interval, each (N,).
        title: of the figure.
    """
    figure = Figure(figsize=(6.5, 4.2), layout="constrained")
    figure.suptitle(textwrap.fill(title, 64), fontsize=11, fontweight="bold", x=0.015, ha="left")
    axes = figure.subplots()
    images, errors = zip(*points, strict=True)
    most = max(images)
    numbers, law, low, high = line
    axes.fill_between(numbers, low, high, color=RED, alpha=0.15, lw=0, label="95 % interval")
    measured = numbers <= most
    axes.plot(numbers[measured], law[measured], color=RED, label="power law")
    axes.plot(numbers[~measured], law[~measured], color=RED, ls="--", label="beyond the runs")
    axes.plot(images, errors, "o", color=BLUE, ms=5, alpha=0.7, label="runs")
    axes.axvline(most, color=GREY, lw=1, ls=":")
    axes.set(xlabel="training images", ylabel="test error", xscale="log", ylim=(0, None))
    axes.set_xticks(sorted({*images, 2 * most}))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: percent(share)))
    axes.tick_params(axis="x", rotation=30)
    axes.legend(loc="upper right", fontsize=8)
    return figure
