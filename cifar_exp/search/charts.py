"""Charts of how a search went: its trials over time, the epochs it took, its rungs and its Pareto front."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from cifar_exp.evaluation.style import BLUE, GREEN, PURPLE, RED
from cifar_exp.review.chart_layout import LOG_RATIO, Chart, apply_layout, escape, shorten, to_chart
from cifar_exp.search.trials import (
    COMPLETE,
    FAILED,
    INTERRUPTED,
    MINIMIZE,
    PRUNED,
    RUNNING,
    Search,
    Trial,
    Trials,
    undominated,
)

# state -> colour and marker
STYLES = {
    COMPLETE: (BLUE, "circle"),
    PRUNED: (PURPLE, "circle-open"),
    RUNNING: (GREEN, "diamond"),
    INTERRUPTED: (GREEN, "diamond-open"),
    FAILED: (RED, "x"),
}
CONFIRMED = "confirmed with another seed"

_MANY = 60  # trials, from which marks are smaller
_LEGIBLE = 0.06  # of the tallest bar: smaller parts have no room for their number
_MAX_SETTINGS = 8  # of a trial, shown where the mouse is


def describe(trial: Trial, search: Search) -> str:
    """Number, settings, values and epochs of a trial, as lines of escaped text."""
    shown = list(trial.params.items())
    lines = [f"trial {trial.trial}, {trial.state}"]
    lines += [f"{escape(key)} = {escape(shorten(format_value(value)))}" for key, value in shown[:_MAX_SETTINGS]]
    lines += [f"and {len(shown) - _MAX_SETTINGS} more settings"] if len(shown) > _MAX_SETTINGS else []
    values = zip(search.metrics, trial.values, strict=False)
    lines += [f"{escape(metric)} {value:.5g}" for metric, value in values if value is not None]
    return "<br>".join([*lines, f"{trial.epochs} epochs"])


def format_value(value: Any) -> str:
    """A setting's value as short text."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def measured(trials: Trials) -> list[Trial]:
    """Trials, without confirming runs, that have a finite first objective, by number."""
    rows = [row for row in trials.rows if not row.confirmed and row.value is not None and math.isfinite(row.value)]
    return sorted(rows, key=lambda row: row.trial)


def history(trials: Trials) -> Chart | None:
    """Draw the value of each trial by its number, with the best so far; None without any value."""
    import plotly.graph_objects as go

    search, rows = trials.search, measured(trials)
    if not rows:
        return None
    figure = go.Figure()
    best = _best_so_far(search, rows)
    _add_steps(figure, [row.trial for row in rows], best, "best so far")
    for state in STYLES:
        _add_trials(figure, search, [row for row in rows if row.state == state], lambda row: row.trial, state)
    failed = [row for row in trials.rows if row.state == FAILED and row.value is None and not row.confirmed]
    if failed:
        lowest = min((row.value or 0.0 for row in rows), key=search.score)
        _add_trials(figure, search, failed, lambda row: row.trial, "failed, no value", lambda row: lowest)
    repeated = [row for row in trials.rows if row.confirmed and row.value is not None]
    _add_trials(figure, search, repeated, lambda row: row.trial, CONFIRMED)
    apply_layout(figure, f"{escape(search.metrics[0])} of each trial", "trial", "")
    _place_legend(figure)
    last = max(row.trial for row in trials.rows)
    figure.update_xaxes(dtick=1 if last <= 12 else None)
    return to_chart(figure)


def effort(trials: Trials, shown: Trials) -> Chart | None:
    """Draw the best value so far over the epochs trained so far; None without any value.

    The epochs of a trial count when it ends: when it was trained in between is not recorded.

    Args:
        trials: of the search.
        shown: those that have a mark.
    """
    import plotly.graph_objects as go

    search = trials.search
    rows = sorted(measured(trials), key=lambda row: row.ended)
    if not rows:
        return None
    spent, epochs = [], 0
    for row in rows:
        epochs += row.epochs
        spent.append(epochs)
    figure = go.Figure()
    _add_steps(figure, spent, _best_so_far(search, rows), "best so far")
    where = dict(zip((row.trial for row in rows), spent, strict=True))
    rows = measured(shown)
    for state in STYLES:
        _add_trials(figure, search, [row for row in rows if row.state == state], lambda row: where[row.trial], state)
    apply_layout(figure, "Best so far over epochs of training", "epochs of all trials so far", "")
    _place_legend(figure)
    figure.update_xaxes(rangemode="tozero")
    return to_chart(figure)


def rungs(trials: Trials) -> dict[str, Chart]:
    """Draw the objective of each trial over its epochs, and how many trials went on from each rung.

    Returns:
        Name -> chart; empty if the search has no rungs or its objective no history.
    """
    import plotly.graph_objects as go

    search = trials.search
    rows = [row for row in trials.rows if row.history and not row.confirmed]
    if not rows or not search.rungs:
        return {}
    figure = go.Figure()
    for state, (colour, _) in STYLES.items():
        x: list[float | None] = []
        y: list[float | None] = []
        members = [row for row in rows if row.state == state]
        for row in members:
            x += [*range(1, len(row.history) + 1), None]
            y += [*(value if math.isfinite(value) else None for value in row.history), None]
        opacity = 0.8 if len(rows) <= _MANY else 0.35
        line = {"color": colour, "width": 1.5 if len(rows) <= _MANY else 1}
        figure.add_scatter(
            **{"x": x, "y": y, "mode": "lines", "line": line, "opacity": opacity},
            **{"hoverinfo": "skip", "showlegend": False, "legendgroup": state},
        )
        _add_trials(figure, search, members, lambda row: len(row.history), state, lambda row: _finite(row.history[-1]))
    for rung in search.rungs:
        figure.add_vline(x=rung, line={"color": "var(--muted)", "dash": "dot", "width": 1}, layer="below")
    apply_layout(figure, f"{escape(search.metrics[0])} over epochs; dotted: rungs", "epoch", "")
    _place_legend(figure)
    if search.epochs > LOG_RATIO / 2:  # rungs are powers
        ticks = sorted({1, *search.rungs, search.epochs})
        figure.update_xaxes(type="log", tickvals=ticks, ticktext=[str(tick) for tick in ticks])
    return {"search-curves": to_chart(figure), "search-rungs": _counts(search, rows)}


def front(trials: Trials) -> Chart | None:
    """Draw the first two objectives of all complete trials, and the Pareto front; None if there is one objective."""
    import plotly.graph_objects as go

    search = trials.search
    rows = [row for row in trials.rows if not row.confirmed and row.state == COMPLETE and None not in row.values]
    if len(search.metrics) < 2 or not rows:
        return None
    best = undominated(search, rows)
    figure = go.Figure()
    line = sorted(best, key=lambda row: (row.values[1], row.values[0]))
    figure.add_scatter(
        x=[row.values[1] for row in line],
        y=[row.values[0] for row in line],
        mode="lines",
        line={"color": "var(--muted)", "dash": "dot", "width": 1.5, "shape": "hv" if _is_rising(search) else "vh"},
        **{"hoverinfo": "skip", "showlegend": False},
    )
    for name, members, colour, marker in (
        ("dominated", [row for row in rows if row not in best], PURPLE, "circle-open"),
        ("Pareto front", best, BLUE, "circle"),
    ):
        figure.add_scatter(
            x=[row.values[1] for row in members],
            y=[row.values[0] for row in members],
            text=[describe(row, search) for row in members],
            **{"name": name, "mode": "markers", "hovertemplate": "%{text}<extra></extra>"},
            marker={"color": colour, "symbol": marker, "size": 9 if len(rows) <= _MANY else 7, "line": {"width": 1.5}},
        )
    names = [escape(metric) for metric in search.metrics[:2]]
    apply_layout(figure, f"{names[0]} against {names[1]}", names[1], "")
    _place_legend(figure)
    second = [row.values[1] or 0.0 for row in rows]
    if min(second) > 0 and max(second) > LOG_RATIO * min(second):
        figure.update_xaxes(type="log")
    return to_chart(figure)


def _is_rising(search: Search) -> bool:
    """Whether a worse second objective is to the right, so that a front is reached from its left."""
    return search.directions[1] == MINIMIZE


def _counts(search: Search, rows: Sequence[Trial]) -> Chart:
    """Bars: what became of the trials that reached each rung."""
    import plotly.graph_objects as go

    ends = [*search.rungs, search.epochs]
    figure = go.Figure()
    fates: dict[str, list[int]] = {"went on": [], PRUNED: [], COMPLETE: [], RUNNING: [], INTERRUPTED: [], FAILED: []}
    for at, rung in enumerate(ends):
        following = ends[at + 1] if at + 1 < len(ends) else math.inf
        reached = [row for row in rows if len(row.history) >= rung]
        here = [row for row in reached if len(row.history) < following]
        for state, counts in fates.items():
            counts.append(sum(row.state == state for row in here))
        fates["went on"][-1] = len(reached) - len(here)
    colours = {"went on": "var(--line)"} | {state: style[0] for state, style in STYLES.items()}
    for state, counts in fates.items():
        if any(counts):
            figure.add_bar(
                x=[f"epoch {rung}" for rung in ends],
                y=counts,
                text=[count if count > _LEGIBLE * len(rows) else "" for count in counts],
                textangle=0,
                name=state,
                marker={"color": colours[state], "pattern": {"shape": "/" if state == INTERRUPTED else ""}},
                hovertemplate="%{x}: %{y} " + state + "<extra></extra>",
            )
    apply_layout(figure, "Trials that reached each rung", "", "")
    _place_legend(figure)
    figure.update_layout(barmode="stack", bargap=0.35)
    figure.update_xaxes(type="category")
    return to_chart(figure)


def _best_so_far(search: Search, rows: Iterable[Trial]) -> list[float]:
    best: list[float] = []
    for row in rows:
        value = row.value or 0.0
        best.append(value if not best or search.score(value) > search.score(best[-1]) else best[-1])
    return best


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _add_steps(figure: Any, x: Sequence[float], y: Sequence[float], name: str) -> None:
    line = {"color": RED, "width": 2, "shape": "hv"}
    figure.add_scatter(x=x, y=y, name=name, mode="lines", line=line, hovertemplate="%{y:.5g}<extra>best so far</extra>")


def _add_trials(
    figure: Any, search: Search, rows: Sequence[Trial], x: Any, name: str, y: Any = lambda row: row.value
) -> None:
    """Add a mark for each trial; nothing without trials."""
    if not rows:
        return
    colour, marker = STYLES.get(name, ("var(--muted)", "line-ew-open" if name == CONFIRMED else "x"))
    figure.add_scatter(
        x=[x(row) for row in rows],
        y=[y(row) for row in rows],
        text=[describe(row, search) for row in rows],
        name=name,
        mode="markers",
        marker={"color": colour, "symbol": marker, "size": 8 if len(rows) <= _MANY else 5},
        hovertemplate="%{text}<extra></extra>",
        legendgroup=name,
    )


def _place_legend(figure: Any) -> None:
    figure.update_layout(legend={"orientation": "h", "y": -0.22, "x": 0}, hovermode="closest", showlegend=True)
