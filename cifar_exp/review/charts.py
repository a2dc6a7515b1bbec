"""Plotly charts of the report page.

Colours such as `var(--text)` are CSS variables of the page, so that the charts follow its light or dark theme.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from cifar_exp.evaluation.style import BLUE, GREEN, ORANGE, PURPLE, RED, SKY
from cifar_exp.review import comparison
from cifar_exp.review import parallel as parallel_coordinates
from cifar_exp.review.chart_layout import LOG_RATIO, Chart, apply_layout, escape, to_chart
from cifar_exp.review.run_record import RunRecord, parse_param
from cifar_exp.review.run_results import CURVES, History

COLOURS = (BLUE, RED, GREEN, ORANGE, PURPLE, SKY)
DASHES = ("solid", "dash", "dot")
MARKERS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross")
TITLES = {
    "val/loss": "validation loss",
    "val/accuracy": "validation accuracy",
    "train/loss": "training loss",
    "train/accuracy": "training accuracy",
}

_MAX_EPOCHS_WITH_MARKERS = 25


def trace_styles(count: int) -> list[dict[str, str]]:
    """Colour, dash and marker of each of `count` runs, the same in all charts."""
    return [
        {
            "colour": COLOURS[rank % len(COLOURS)],
            "dash": DASHES[rank // len(COLOURS) % len(DASHES)],
            "marker": MARKERS[rank % len(MARKERS)],
        }
        for rank in range(count)
    ]


def curves(names: Sequence[str], histories: Sequence[History]) -> dict[str, Chart]:
    """Draw training and validation curves, one trace per run.

    Args:
        names: of the runs.
        histories: of the same runs.

    Returns:
        Metric -> chart; metrics that no run has are left out.
    """
    import plotly.graph_objects as go

    drawn = {}
    for metric in CURVES:
        series = [history.get(metric, {}) for history in histories]
        if not any(series):
            continue
        epochs = max(max(values, default=0) for values in series)
        figure = go.Figure()
        for name, values, style in zip(names, series, trace_styles(len(names)), strict=True):
            figure.add_scatter(
                x=list(values),
                y=[value if math.isfinite(value) else None for value in values.values()],
                name=escape(name),
                mode="lines+markers" if epochs <= _MAX_EPOCHS_WITH_MARKERS else "lines",
                line={"color": style["colour"], "dash": style["dash"], "width": 2},
                marker={"symbol": style["marker"], "size": 6},
                hovertemplate="epoch %{x}: %{y:.4f}",
            )
        apply_layout(figure, TITLES[metric], "epoch", "")
        figure.update_layout(hovermode="closest", showlegend=False)
        figure.update_xaxes(tick0=0, dtick=max(1, round(epochs / 8)), range=[0.5, epochs + 0.5])
        if metric.endswith("loss") and (limit := _loss_limit(series)):
            figure.update_yaxes(range=[0, limit])
        drawn[metric] = to_chart(figure)
    return drawn


def parallel(runs: Sequence[RunRecord]) -> Chart | None:
    """Draw parallel coordinates: one line per run, from the parameters that differ to the test accuracy.

    Returns:
        The chart, or `None` if fewer than three runs have a test accuracy or no parameter differs.
    """
    measured = [run for run in runs if run.accuracy is not None]
    if len(measured) < 3:
        return None
    keys = [key for key in comparison.compare(measured).differing if key in measured[0].params]
    if not keys:
        return None
    accuracies = [run.accuracy or 0.0 for run in measured]
    values = {key: [parse_param(key, run.params.get(key)) for run in measured] for key in keys}
    axes = [parallel_coordinates.axis(key, of) for key, of in values.items()]
    axes.append(parallel_coordinates.numeric_axis("test/accuracy", accuracies))
    texts = [f"{escape(run.name)}<br>test accuracy {run.accuracy:.4f}" for run in measured]
    return parallel_coordinates.draw(axes, accuracies, texts)


def costs(runs: Sequence[RunRecord]) -> dict[str, Chart]:
    """Draw test accuracy against training seconds and against the number of parameters, with the Pareto front.

    Returns:
        Cost metric -> chart; metrics that do not differ between the runs are left out.
    """
    drawn = {}
    for metric, name in (("train/seconds", "seconds of training"), ("model/parameters", "parameters")):
        measured = [run for run in runs if run.accuracy is not None and run.metrics.get(metric, 0) > 0]
        if len({run.metrics[metric] for run in measured}) > 1:
            drawn[metric] = _cost(measured, metric, name)
    return drawn


def _cost(runs: Sequence[RunRecord], metric: str, name: str) -> Chart:
    import plotly.graph_objects as go

    figure = go.Figure()
    cost = [run.metrics[metric] for run in runs]
    accuracy = [run.accuracy or 0.0 for run in runs]
    front: list[tuple[float, float]] = []
    for x, y in sorted(zip(cost, accuracy, strict=True), key=lambda point: (point[0], -point[1])):
        if not front or y > front[-1][1]:
            front.append((x, y))
    front.append((max(cost), front[-1][1]))
    figure.add_scatter(
        x=[x for x, _ in front],
        y=[y for _, y in front],
        mode="lines",
        line={"color": "var(--muted)", "dash": "dot", "shape": "hv", "width": 1.5},
        hoverinfo="skip",
        showlegend=False,
    )
    for rank, (group, members) in enumerate(_groups(runs).items()):
        figure.add_scatter(
            x=[cost[at] for at in members],
            y=[accuracy[at] for at in members],
            text=[escape(runs[at].name) for at in members],
            name=escape(group),
            mode="markers",
            marker={
                "color": COLOURS[rank % len(COLOURS)],
                "symbol": MARKERS[rank % len(MARKERS)],
                "size": 9 if len(runs) <= 100 else 6,
                "line": {"color": "var(--panel)", "width": 1},
            },
            hovertemplate="%{text}<br>" + name + " %{x:,.4~g}<br>test accuracy %{y:.4f}<extra></extra>",
            showlegend=bool(group),
        )
    apply_layout(figure, f"test accuracy against {name}", name, "")
    figure.update_layout(legend={"orientation": "h", "y": -0.22, "x": 0}, hovermode="closest")
    if max(cost) > LOG_RATIO * min(cost):
        figure.update_xaxes(type="log", dtick=1)
    return to_chart(figure)


def _groups(runs: Sequence[RunRecord]) -> dict[str, list[int]]:
    """Positions of runs by model, or else by optimizer, if there are few enough to have colours of their own."""
    for key in ("model.name", "optimizer.name"):
        groups: dict[str, list[int]] = {}
        for at, run in enumerate(runs):
            groups.setdefault(run.params.get(key, "-"), []).append(at)
        if 1 < len(groups) <= len(COLOURS):
            return groups
    return {"": list(range(len(runs)))}


def _loss_limit(series: Sequence[Mapping[int, float]]) -> float | None:
    """Upper limit of a loss axis if a diverged run would flatten all other curves, else `None`."""
    highest = [max(finite) for values in series if (finite := [y for y in values.values() if math.isfinite(y)])]
    if not highest:
        return None
    limit = 2 * statistics.median_low(highest)
    return limit if max(highest) > limit else None
