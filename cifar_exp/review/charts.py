"""The charts of a report, for Plotly. Colours of the surroundings are the page's own, `var(--name)`, light or dark."""

from __future__ import annotations

import html
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from cifar_exp.evaluation.style import BLUE, GREEN, ORANGE, PURPLE, RED, SKY
from cifar_exp.review import comparison
from cifar_exp.review.run_record import RunRecord, value
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

_FEW_EPOCHS = 25
_BINS = 8
_LOW, _HIGH = (126, 150, 171), (213, 94, 0)  # of accuracy: pale blue to RED, apart in light and dark
_JITTER = 0.05  # of an axis, so that runs with the same settings lie side by side
_LOG_FROM = 20  # times the least, before an axis is logarithmic
_MOST_TICKS = 9

Chart = dict[str, Any]


def looks(count: int) -> list[dict[str, str]]:
    """Colour, dash and marker of each run, the same in all charts."""
    return [
        {
            "colour": COLOURS[rank % len(COLOURS)],
            "dash": DASHES[rank // len(COLOURS) % len(DASHES)],
            "marker": MARKERS[rank % len(MARKERS)],
        }
        for rank in range(count)
    ]


def curves(names: Sequence[str], histories: Sequence[History]) -> dict[str, Chart]:
    """Metric -> its values by epoch, a trace a run."""
    import plotly.graph_objects as go

    drawn = {}
    for metric in CURVES:
        found = [history.get(metric, {}) for history in histories]
        if not any(found):
            continue
        epochs = max(max(steps, default=0) for steps in found)
        figure = go.Figure()
        for name, steps, look in zip(names, found, looks(len(names)), strict=True):
            figure.add_scatter(
                x=list(steps),
                y=[y if math.isfinite(y) else None for y in steps.values()],
                name=_text(name),
                mode="lines+markers" if epochs <= _FEW_EPOCHS else "lines",
                line={"color": look["colour"], "dash": look["dash"], "width": 2},
                marker={"symbol": look["marker"], "size": 6},
                hovertemplate="epoch %{x}: %{y:.4f}",
            )
        _style(figure, TITLES[metric], "epoch", "")
        figure.update_layout(hovermode="closest", showlegend=False)
        figure.update_xaxes(tick0=0, dtick=max(1, round(epochs / 8)), range=[0.5, epochs + 0.5])
        if metric.endswith("loss") and (limit := _limit(found)):
            figure.update_yaxes(range=[0, limit])
        drawn[metric] = _chart(figure)
    return drawn


def parallel(runs: Sequence[RunRecord]) -> Chart | None:
    """A line a run, over what differs between them to the test accuracy; None where too little does."""
    import plotly.graph_objects as go

    measured = [run for run in runs if run.accuracy is not None]
    if len(measured) < 3:
        return None
    keys = [key for key in comparison.compare(measured).differing if key in measured[0].params]
    if not keys:
        return None
    accuracies = [run.accuracy or 0.0 for run in measured]
    axes = [_axis(key, [value(key, run.params.get(key)) for run in measured]) for key in keys]
    axes.append(_numbers("test/accuracy", accuracies))
    figure = go.Figure()
    order = sorted(accuracies)
    placed = [order.index(one) * _BINS // len(order) for one in accuracies]
    for bin_ in sorted(set(placed)):
        x: list[float | None] = []
        y: list[float | None] = []
        texts: list[str] = []
        for at, run in enumerate(measured):
            if placed[at] != bin_:
                continue
            said = _text(run.name) + f"<br>test accuracy {accuracies[at]:.4f}"
            x += [*range(len(axes)), None]
            y += [axis["places"][at] for axis in axes] + [None]
            texts += [said] * (len(axes) + 1)
        figure.add_scatter(
            x=x,
            y=y,
            text=texts,
            mode="lines+markers",
            hoverinfo="text",
            line={"color": _shade(bin_ / (_BINS - 1)), "width": 1.8},
            marker={"size": 5},
            opacity=0.9 if len(measured) <= 100 else 0.5,
            showlegend=False,
        )
    for at, axis in enumerate(axes):
        figure.add_shape(type="line", x0=at, x1=at, y0=-0.03, y1=1.03, layer="below", line={"color": "var(--muted)"})
        figure.add_annotation(
            x=at, y=1, yref="paper", text=_broken(axis["name"]), showarrow=False, font={"size": 12}, yanchor="bottom"
        )
        for place, label in axis["ticks"]:
            figure.add_annotation(
                x=at,
                y=place,
                text=_text(label),
                showarrow=False,
                xanchor="right" if at == len(axes) - 1 else "left",
                xshift=-6 if at == len(axes) - 1 else 6,
                font={"size": 11},
                bgcolor="var(--veil)",
            )
    _style(figure, "", "", "")
    figure.update_layout(height=420, margin={"t": 70, "b": 20, "l": 30, "r": 30}, hovermode="closest")
    figure.update_xaxes(visible=False, range=[-0.15, len(axes) - 0.85], fixedrange=True)
    figure.update_yaxes(visible=False, range=[-0.06, 1.08], fixedrange=True)
    return _chart(figure) | {"axes": len(axes)}


def costs(runs: Sequence[RunRecord]) -> dict[str, Chart]:
    """Test accuracy against training seconds, and against parameters, with the line of those that nothing beats."""
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
    for x, y in sorted(zip(cost, accuracy, strict=True), key=lambda one: (one[0], -one[1])):
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
    for rank, (kind, members) in enumerate(_kinds(runs).items()):
        figure.add_scatter(
            x=[cost[at] for at in members],
            y=[accuracy[at] for at in members],
            text=[_text(runs[at].name) for at in members],
            name=_text(kind),
            mode="markers",
            marker={
                "color": COLOURS[rank % len(COLOURS)],
                "symbol": MARKERS[rank % len(MARKERS)],
                "size": 9 if len(runs) <= 100 else 6,
                "line": {"color": "var(--panel)", "width": 1},
            },
            hovertemplate="%{text}<br>" + name + " %{x:,.4~g}<br>test accuracy %{y:.4f}<extra></extra>",
            showlegend=bool(kind),
        )
    _style(figure, f"test accuracy against {name}", name, "")
    figure.update_layout(legend={"orientation": "h", "y": -0.22, "x": 0}, hovermode="closest")
    if max(cost) > _LOG_FROM * min(cost):
        figure.update_xaxes(type="log", dtick=1)
    return _chart(figure)


def _kinds(runs: Sequence[RunRecord]) -> dict[str, list[int]]:
    """Runs by their model, else by their optimizer, if there are few enough of them to tell apart."""
    for key in ("model.name", "optimizer.name"):
        found: dict[str, list[int]] = {}
        for at, run in enumerate(runs):
            found.setdefault(run.params.get(key, "-"), []).append(at)
        if 1 < len(found) <= len(COLOURS):
            return found
    return {"": list(range(len(runs)))}


def _axis(name: str, values: Sequence[Any]) -> dict[str, Any]:
    """Numbers on a scale where they are many, everything else evenly spread."""
    distinct = list(dict.fromkeys(values))
    numeric = all(isinstance(one, int | float) and not isinstance(one, bool) for one in distinct)
    ordered = sorted(distinct) if numeric else sorted(distinct, key=str)
    if numeric and len(distinct) > _MOST_TICKS:
        return _numbers(name, values)
    step = {repr(one): at / max(1, len(ordered) - 1) for at, one in enumerate(ordered)}
    spread = max(1, len(values) - 1)
    places = [step[repr(one)] + _JITTER * (at / spread - 0.5) for at, one in enumerate(values)]
    every = -(-len(ordered) // _MOST_TICKS)
    ticks = [(step[repr(one)], "-" if one is None else str(one)) for one in ordered[::every]]
    return {"name": name, "places": places, "ticks": ticks}


def _numbers(name: str, values: Sequence[float]) -> dict[str, Any]:
    low, high = min(values), max(values)
    log = low > 0 and high > _LOG_FROM * low

    def place(one: float) -> float:
        if high == low:
            return 0.5
        return math.log(one / low) / math.log(high / low) if log else (one - low) / (high - low)

    share = [low * (high / low) ** (at / 4) if log else low + (high - low) * at / 4 for at in range(5)]
    ticks = [(place(one), f"{one:.4g}") for one in dict.fromkeys(share)]
    return {"name": name, "places": [place(one) for one in values], "ticks": ticks}


def _shade(share: float) -> str:
    mixed = [round(low + share * (high - low)) for low, high in zip(_LOW, _HIGH, strict=True)]
    return f"rgb({mixed[0]},{mixed[1]},{mixed[2]})"


def _limit(found: Sequence[Mapping[int, float]]) -> float | None:
    """Of a loss axis, where one diverged run would flatten all others."""
    highest = [max(finite) for steps in found if (finite := [y for y in steps.values() if math.isfinite(y)])]
    if not highest:
        return None
    limit = 2 * statistics.median_low(highest)
    return limit if max(highest) > limit else None


def _style(figure: Any, title: str, x: str, y: str) -> None:
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


def _chart(figure: Any) -> Chart:
    """As plain data; not Plotly's binary arrays, which the page's own script could not read."""
    drawn: Chart = json.loads(json.dumps(figure.to_plotly_json(), default=list))
    drawn["layout"].pop("template", None)
    return drawn


def _text(name: str) -> str:
    """Plotly takes text for HTML."""
    return html.escape(name, quote=False)


def _broken(name: str) -> str:
    """`optimizer.learning_rate` in two lines."""
    first, dot, rest = name.rpartition(".") if "." in name else name.rpartition("/")
    return f"{_text(first + dot)}<br>{_text(rest)}"
