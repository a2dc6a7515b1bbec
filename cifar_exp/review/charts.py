"""Plotly charts of the report page.

Colours such as `var(--text)` are CSS variables of the page, so that the charts follow its light or dark theme.
"""

from __future__ import annotations

import html
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from cifar_exp.evaluation.style import BLUE, GREEN, ORANGE, PURPLE, RED, SKY
from cifar_exp.review import comparison
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
_ACCURACY_BINS = 8
_LOW_COLOUR, _HIGH_COLOUR = (126, 150, 171), (213, 94, 0)  # pale blue to RED, distinct in light and dark
_JITTER = 0.05  # of the axis length, so that runs with equal settings do not cover each other
_LOG_RATIO = 20  # of largest to smallest value, from which an axis is logarithmic
_MAX_TICKS = 9

Chart = dict[str, Any]


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
                name=_escape(name),
                mode="lines+markers" if epochs <= _MAX_EPOCHS_WITH_MARKERS else "lines",
                line={"color": style["colour"], "dash": style["dash"], "width": 2},
                marker={"symbol": style["marker"], "size": 6},
                hovertemplate="epoch %{x}: %{y:.4f}",
            )
        _apply_layout(figure, TITLES[metric], "epoch", "")
        figure.update_layout(hovermode="closest", showlegend=False)
        figure.update_xaxes(tick0=0, dtick=max(1, round(epochs / 8)), range=[0.5, epochs + 0.5])
        if metric.endswith("loss") and (limit := _loss_limit(series)):
            figure.update_yaxes(range=[0, limit])
        drawn[metric] = _to_chart(figure)
    return drawn


def parallel(runs: Sequence[RunRecord]) -> Chart | None:
    """Draw parallel coordinates: one line per run, from the parameters that differ to the test accuracy.

    Returns:
        The chart, or `None` if fewer than three runs have a test accuracy or no parameter differs.
    """
    import plotly.graph_objects as go

    measured = [run for run in runs if run.accuracy is not None]
    if len(measured) < 3:
        return None
    keys = [key for key in comparison.compare(measured).differing if key in measured[0].params]
    if not keys:
        return None
    accuracies = [run.accuracy or 0.0 for run in measured]
    axes = [_axis(key, [parse_param(key, run.params.get(key)) for run in measured]) for key in keys]
    axes.append(_numeric_axis("test/accuracy", accuracies))
    figure = go.Figure()
    ranking = sorted(accuracies)
    bins = [ranking.index(accuracy) * _ACCURACY_BINS // len(ranking) for accuracy in accuracies]
    for bin_ in sorted(set(bins)):
        x: list[float | None] = []
        y: list[float | None] = []
        texts: list[str] = []
        for at, run in enumerate(measured):
            if bins[at] != bin_:
                continue
            text = _escape(run.name) + f"<br>test accuracy {accuracies[at]:.4f}"
            x += [*range(len(axes)), None]
            y += [axis["places"][at] for axis in axes] + [None]
            texts += [text] * (len(axes) + 1)
        figure.add_scatter(
            x=x,
            y=y,
            text=texts,
            mode="lines+markers",
            hoverinfo="text",
            line={"color": _accuracy_colour(bin_ / (_ACCURACY_BINS - 1)), "width": 1.8},
            marker={"size": 5},
            opacity=0.9 if len(measured) <= 100 else 0.5,
            showlegend=False,
        )
    for at, axis in enumerate(axes):
        figure.add_shape(type="line", x0=at, x1=at, y0=-0.03, y1=1.03, layer="below", line={"color": "var(--muted)"})
        figure.add_annotation(
            x=at,
            y=1,
            yref="paper",
            text=_in_two_lines(axis["name"]),
            showarrow=False,
            font={"size": 12},
            yanchor="bottom",
        )
        for place, label in axis["ticks"]:
            figure.add_annotation(
                x=at,
                y=place,
                text=_escape(label),
                showarrow=False,
                xanchor="right" if at == len(axes) - 1 else "left",
                xshift=-6 if at == len(axes) - 1 else 6,
                font={"size": 11},
                bgcolor="var(--veil)",
            )
    _apply_layout(figure, "", "", "")
    figure.update_layout(height=420, margin={"t": 70, "b": 20, "l": 30, "r": 30}, hovermode="closest")
    figure.update_xaxes(visible=False, range=[-0.15, len(axes) - 0.85], fixedrange=True)
    figure.update_yaxes(visible=False, range=[-0.06, 1.08], fixedrange=True)
    return _to_chart(figure) | {"axes": len(axes)}


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
            text=[_escape(runs[at].name) for at in members],
            name=_escape(group),
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
    _apply_layout(figure, f"test accuracy against {name}", name, "")
    figure.update_layout(legend={"orientation": "h", "y": -0.22, "x": 0}, hovermode="closest")
    if max(cost) > _LOG_RATIO * min(cost):
        figure.update_xaxes(type="log", dtick=1)
    return _to_chart(figure)


def _groups(runs: Sequence[RunRecord]) -> dict[str, list[int]]:
    """Positions of runs by model, or else by optimizer, if there are few enough to have colours of their own."""
    for key in ("model.name", "optimizer.name"):
        groups: dict[str, list[int]] = {}
        for at, run in enumerate(runs):
            groups.setdefault(run.params.get(key, "-"), []).append(at)
        if 1 < len(groups) <= len(COLOURS):
            return groups
    return {"": list(range(len(runs)))}


def _axis(name: str, values: Sequence[Any]) -> dict[str, Any]:
    """An axis of parallel coordinates: a numeric scale for many distinct numbers, otherwise evenly spaced values."""
    distinct = list(dict.fromkeys(values))
    numeric = all(isinstance(one, int | float) and not isinstance(one, bool) for one in distinct)
    ordered = sorted(distinct) if numeric else sorted(distinct, key=str)
    if numeric and len(distinct) > _MAX_TICKS:
        return _numeric_axis(name, values)
    step = {repr(one): at / max(1, len(ordered) - 1) for at, one in enumerate(ordered)}
    spread = max(1, len(values) - 1)
    places = [step[repr(one)] + _JITTER * (at / spread - 0.5) for at, one in enumerate(values)]
    every = -(-len(ordered) // _MAX_TICKS)
    ticks = [(step[repr(one)], "-" if one is None else str(one)) for one in ordered[::every]]
    return {"name": name, "places": places, "ticks": ticks}


def _numeric_axis(name: str, values: Sequence[float]) -> dict[str, Any]:
    low, high = min(values), max(values)
    log = low > 0 and high > _LOG_RATIO * low

    def place(one: float) -> float:
        if high == low:
            return 0.5
        return math.log(one / low) / math.log(high / low) if log else (one - low) / (high - low)

    tick_values = [low * (high / low) ** (at / 4) if log else low + (high - low) * at / 4 for at in range(5)]
    ticks = [(place(one), f"{one:.4g}") for one in dict.fromkeys(tick_values)]
    return {"name": name, "places": [place(one) for one in values], "ticks": ticks}


def _accuracy_colour(share: float) -> str:
    mixed = [round(low + share * (high - low)) for low, high in zip(_LOW_COLOUR, _HIGH_COLOUR, strict=True)]
    return f"rgb({mixed[0]},{mixed[1]},{mixed[2]})"


def _loss_limit(series: Sequence[Mapping[int, float]]) -> float | None:
    """Upper limit of a loss axis if a diverged run would flatten all other curves, else `None`."""
    highest = [max(finite) for values in series if (finite := [y for y in values.values() if math.isfinite(y)])]
    if not highest:
        return None
    limit = 2 * statistics.median_low(highest)
    return limit if max(highest) > limit else None


def _apply_layout(figure: Any, title: str, x: str, y: str) -> None:
    axis = {
        "gridcolor": "var(--line)",
        "linecolor": "var(--muted)",
        "zeroline": False,
        "showline": True,
        "automargin": True,
    }
    figure.update_layout(
        template="none",
        title={"text": title, "x": 0, "xref": "paper", "font": {"size": 14}, "y": 0.97, "yanchor": "top"},
        height=320,
        margin={"l": 50, "r": 12, "t": 40, "b": 44},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 12, "color": "var(--text)"},
        hoverlabel={"bgcolor": "var(--panel)", "bordercolor": "var(--muted)", "font": {"color": "var(--text)"}},
    )
    figure.update_xaxes(**axis, title={"text": x, "standoff": 8})
    figure.update_yaxes(**axis, title={"text": y})


def _to_chart(figure: Any) -> Chart:
    """Convert a figure to plain lists, instead of Plotly's binary arrays, which the page's script cannot read."""
    drawn: Chart = json.loads(json.dumps(figure.to_plotly_json(), default=list))
    drawn["layout"].pop("template", None)
    return drawn


def _escape(name: str) -> str:
    """Escape text for Plotly, which interprets it as HTML."""
    return html.escape(name, quote=False)


def _in_two_lines(name: str) -> str:
    """Split a name such as `optimizer.learning_rate` into two lines."""
    first, dot, rest = name.rpartition(".") if "." in name else name.rpartition("/")
    return f"{_escape(first + dot)}<br>{_escape(rest)}"
