"""Picture of a classifier's calibration: reliability diagram, and accuracy of the most confident predictions."""

from __future__ import annotations

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from cifar_exp.data.splits import Labels
from cifar_exp.evaluation.calibration import BINS, Floats, Reliability, confidences, reliability
from cifar_exp.evaluation.style import BLUE, GREY, PALE, RED, percent, styled


@styled
def calibration(labels: Labels, probabilities: Floats, scaled: Floats | None, temperature: float, title: str) -> Figure:
    """Draw the reliability diagram of predictions, and their accuracy by coverage.

    Args:
        labels: (N,) int.
        probabilities: (N, C).
        scaled: probabilities after temperature scaling, (N, C); None if they are not to be shown.
        temperature: of the scaling.
        title: of the figure.
    """
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    figure.suptitle(textwrap.fill(title, 90), fontsize=11, fontweight="bold", x=0.015, ha="left")
    diagram, coverage = figure.subplots(1, 2)
    axis = FuncFormatter(lambda share, _: percent(share))
    found = reliability(labels, probabilities)
    diagram.bar(
        (found.edges[:-1] + found.edges[1:]) / 2,
        found.counts / found.counts.sum(),
        width=1 / BINS,
        color=PALE,
        edgecolor="white",
        label="share of the predictions",
    )
    diagram.plot([0, 1], [0, 1], color=GREY, lw=1, ls=":", label="calibrated")
    _line(diagram, found, BLUE, f"as predicted: error {percent(found.error, 1)}")
    if scaled is not None:
        after = reliability(labels, scaled)
        _line(diagram, after, RED, f"temperature {temperature:.2f}: error {percent(after.error, 1)}")
    diagram.set(title="reliability", xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
    diagram.legend(loc="upper left", fontsize=8)

    confidence, right = confidences(labels, probabilities)
    sure_first = right[np.argsort(-confidence, kind="stable")]
    kept = np.arange(1, len(right) + 1)
    first = max(1, len(right) // 100)  # the accuracy of a handful of images jumps
    coverage.plot((kept / len(right))[first - 1 :], (np.cumsum(sure_first) / kept)[first - 1 :], color=BLUE)
    lowest = min(float(right.mean()), 0.9)
    coverage.set(
        title="accuracy of the most confident predictions",
        xlabel="share of the images that is predicted",
        ylabel="accuracy",
        xlim=(0, 1),
        ylim=(max(0.0, lowest - 0.05), 1.005),
    )
    for axes in (diagram, coverage):
        axes.xaxis.set_major_formatter(axis)
        axes.yaxis.set_major_formatter(axis)
    return figure


def _line(axes: Axes, found: Reliability, colour: str, label: str) -> None:
    filled = found.counts > 0
    axes.plot(found.confidence[filled], found.accuracy[filled], color=colour, marker="o", ms=4, label=label)
