"""Parallel coordinates: one line per run or trial, across an axis per setting, to its result.

They are drawn as lines, because Plotly's own need WebGL, which a browser without a GPU does not have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cifar_exp.review.chart_layout import LOG_RATIO, Chart, apply_layout, escape, in_two_lines, shade, shorten, to_chart

_BINS = 8
_JITTER = 0.05  # of the axis length, so that runs with equal settings do not cover each other
_MAX_TICKS = 9
_MAX_LABEL = 15  # characters between two axes
_ABSENT_BELOW = 0.12  # of the axis length; values that are not there stand at its foot


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes:
        name: of the setting or metric.
        places: of each line, from 0, the foot of the axis, to 1.
        ticks: places with their labels.
    """

    name: str
    places: tuple[float, ...]
    ticks: tuple[tuple[float, str], ...]


def axis(name: str, values: Sequence[Any], order: Sequence[Any] = ()) -> Axis:
    """An axis of values of any kind: a scale for many distinct numbers, otherwise evenly spaced values.

    Args:
        name: of the setting.
        values: of each line. One that is not there, `None`, stands at the foot as "-".
        order: all values from the foot, if they have an order of their own.
    """
    distinct = list(dict.fromkeys(values))
    present = [one for one in distinct if one is not None]
    numeric = all(isinstance(one, int | float) and not isinstance(one, bool) for one in present)
    if numeric and len(present) > _MAX_TICKS:
        return numeric_axis(name, values)
    ordered = sorted(present) if numeric else sorted(present, key=list(order).index if order else str)
    ordered = [None] * (len(distinct) - len(present)) + ordered
    step = {repr(one): at / max(1, len(ordered) - 1) for at, one in enumerate(ordered)}
    spread = max(1, len(values) - 1)
    places = tuple(step[repr(one)] + _JITTER * (at / spread - 0.5) for at, one in enumerate(values))
    every = -(-len(ordered) // _MAX_TICKS)
    return Axis(name, places, tuple((step[repr(one)], _label(one)) for one in ordered[::every]))


def _label(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def numeric_axis(name: str, values: Sequence[float | None]) -> Axis:
    """An axis of numbers, logarithmic if they span a wide range; `None` stands below them."""
    present = [one for one in values if one is not None]
    low, high = min(present), max(present)
    log = low > 0 and high > LOG_RATIO * low
    foot = _ABSENT_BELOW if len(present) < len(values) else 0.0

    def place(one: float | None) -> float:
        if one is None:
            return 0.0
        if high == low:
            return foot + (1 - foot) / 2
        share = math.log(one / low) / math.log(high / low) if log else (one - low) / (high - low)
        return foot + (1 - foot) * share

    tick_values = [low * (high / low) ** (at / 4) if log else low + (high - low) * at / 4 for at in range(5)]
    ticks = [(place(one), f"{one:.4g}") for one in dict.fromkeys(tick_values)]
    return Axis(name, tuple(map(place, values)), (*([(0.0, "-")] if foot else []), *ticks))


def draw(axes: Sequence[Axis], results: Sequence[float], texts: Sequence[str]) -> Chart:
    """Draw the lines, from pale for the worst to orange for the best.

    Args:
        axes: at least two; the last is the result.
        results: of each line; greater is better.
        texts: of each line, shown where the mouse is; not escaped.

    Returns:
        The chart, with its number of axes under `axes`.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    ranking = {result: rank for rank, result in reversed(list(enumerate(sorted(results))))}
    bins = [ranking[result] * _BINS // len(results) for result in results]
    for bin_ in sorted(set(bins)):
        x: list[float | None] = []
        y: list[float | None] = []
        shown: list[str] = []
        for line in (at for at, of in enumerate(bins) if of == bin_):
            x += [*range(len(axes)), None]
            y += [one.places[line] for one in axes] + [None]
            shown += [texts[line]] * (len(axes) + 1)
        figure.add_scatter(
            x=x,
            y=y,
            text=shown,
            mode="lines+markers",
            hoverinfo="text",
            line={"color": shade(bin_ / (_BINS - 1)), "width": 1.8},
            marker={"size": 5},
            opacity=0.9 if len(results) <= 100 else 0.5,
            showlegend=False,
        )
    for at, one in enumerate(axes):
        _draw_axis(figure, one, at, is_last=at == len(axes) - 1)
    apply_layout(figure, "", "", "")
    figure.update_layout(height=420, margin={"t": 70, "b": 20, "l": 30, "r": 30}, hovermode="closest")
    figure.update_xaxes(visible=False, range=[-0.15, len(axes) - 0.85], fixedrange=True)
    figure.update_yaxes(visible=False, range=[-0.06, 1.08], fixedrange=True)
    return to_chart(figure) | {"axes": len(axes)}


def _draw_axis(figure: Any, one: Axis, at: int, is_last: bool) -> None:
    figure.add_shape(type="line", x0=at, x1=at, y0=-0.03, y1=1.03, layer="below", line={"color": "var(--muted)"})
    heading = {"x": at, "y": 1, "yref": "paper", "yanchor": "bottom", "showarrow": False, "font": {"size": 12}}
    figure.add_annotation(text=in_two_lines(one.name), **heading)
    for place, label in one.ticks:
        figure.add_annotation(
            x=at,
            y=place,
            text=escape(shorten(label, _MAX_LABEL)),
            showarrow=False,
            xanchor="right" if is_last else "left",
            xshift=-6 if is_last else 6,
            font={"size": 11},
            bgcolor="var(--veil)",
        )
