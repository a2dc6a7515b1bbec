"""Charts of what the settings of a search do: importances, slices, contour and parallel coordinates."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

from cifar_exp.evaluation.style import BLUE
from cifar_exp.review import parallel as parallel_coordinates
from cifar_exp.review.chart_layout import Chart, apply_layout, escape, shorten, to_chart
from cifar_exp.search import trials as data
from cifar_exp.search.charts import describe, measured
from cifar_exp.search.trials import FAILED, Search, Trial, Trials

_GRID = 40  # points of the contour along each axis
_LINE = 13  # characters of a label of a category
_LEAST_FOR_CONTOUR = 8
_COLOURS = [[0, "rgb(126,150,171)"], [0.5, "rgb(236,190,120)"], [1, "rgb(213,94,0)"]]  # as parallel coordinates


def importances(trials: Trials) -> dict[str, float]:
    """How much each setting has to do with being among the best tenth, by PED-ANOVA of Optuna.

    A pruned trial counts with the value at which it was pruned: else a search that prunes most trials would know
    nothing of the settings that it left.

    Returns:
        Key -> share, of 1 in total, the largest first; empty with fewer than two trials or settings that they have.
    """
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
    from optuna.trial import TrialState, create_trial

    rows = [row for row in measured(trials) if row.state != FAILED]
    if len(rows) < 2 or len(trials.search.distributions) < 2:
        return {}
    distributions = data.distributions(trials.search)
    study = data.new_study(trials.search, objectives=1)
    for row in rows:
        own = {key: distributions[key] for key in row.params}
        study.add_trial(
            create_trial(state=TrialState.COMPLETE, value=row.value, params=dict(row.params), distributions=own)
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    shares = {key: share for key, share in found.items() if math.isfinite(share)}
    return shares if len(shares) > 1 else {}


def bars(shares: dict[str, float]) -> Chart:
    """Draw the importances, the largest on top."""
    import plotly.graph_objects as go

    figure = go.Figure()
    keys = list(reversed(shares))
    figure.add_bar(
        x=[shares[key] for key in keys],
        y=[escape(key) for key in keys],
        text=[f"{shares[key]:.2f}" for key in keys],
        orientation="h",
        textposition="outside",
        marker={"color": BLUE},
        hovertemplate="%{y}: %{x:.3f}<extra></extra>",
    )
    apply_layout(figure, "Importance of each setting", "share", "")
    figure.update_layout(height=max(200, 110 + 28 * len(keys)), bargap=0.35)
    figure.update_xaxes(range=[0, max(shares.values()) * 1.15 or 1])
    return to_chart(figure)


def slices(trials: Trials, keys: Sequence[str]) -> dict[str, Chart]:
    """Draw the objective over each setting, of the trials that have it, from pale for the first to orange for the last.

    Args:
        trials: of the search.
        keys: settings to draw, in this order.
    """
    import plotly.graph_objects as go

    search = trials.search
    drawn: dict[str, Chart] = {}
    for at, key in enumerate(keys):
        rows = [row for row in measured(trials) if key in row.params]
        if not rows:
            continue
        scale = _Scale(search, key, rows)
        figure = go.Figure()
        figure.add_scatter(
            x=scale.places,
            y=[row.value for row in rows],
            text=[describe(row, search) for row in rows],
            mode="markers",
            hovertemplate="%{text}<extra></extra>",
            marker={
                **{"color": [row.trial for row in rows], "colorscale": _COLOURS, "showscale": not drawn},
                **{"size": 8 if len(rows) <= 60 else 5, "line": {"width": 0.5, "color": "var(--panel)"}},
                "colorbar": {"title": {"text": "trial", "side": "right"}, "thickness": 10, "outlinewidth": 0},
            },
        )
        apply_layout(figure, escape(key), "", escape(search.metrics[0]))
        scale.apply(figure.update_xaxes)
        figure.update_layout(height=300, hovermode="closest")
        drawn[f"search-slice-{at}"] = to_chart(figure)
    return drawn


def contour(trials: Trials, first: str, second: str) -> Chart | None:
    """Draw the objective over two settings: a mark per trial, and between them levels where both are numbers.

    Nothing is drawn beyond the trials. None if the settings never occur together.
    """
    import plotly.graph_objects as go

    search = trials.search
    rows = [row for row in measured(trials) if first in row.params and second in row.params]
    if not rows:
        return None
    across, up = _Scale(search, first, rows), _Scale(search, second, rows)
    values = [row.value or 0.0 for row in rows]
    figure = go.Figure()
    limits = _limits(search, values)
    levels = {"colorscale": _COLOURS, "zmin": limits[0], "zmax": limits[1]}
    if search.directions[0] == "minimize":
        levels["reversescale"] = True
    if grid := _interpolate(across, up, values):
        x, y, z = grid
        figure.add_contour(
            x=across.undo(x),
            y=up.undo(y),
            z=z,
            **levels,
            **{"opacity": 0.55, "connectgaps": False, "line": {"width": 0.5}, "hoverinfo": "skip", "showscale": False},
        )
    figure.add_scatter(
        x=across.places,
        y=up.places,
        text=[describe(row, search) for row in rows],
        mode="markers",
        hovertemplate="%{text}<extra></extra>",
        marker={
            **{"color": values, "colorscale": _COLOURS, "cmin": limits[0], "cmax": limits[1], "showscale": True},
            **{"size": 9 if len(rows) <= 60 else 6, "line": {"width": 1, "color": "var(--panel)"}},
            "reversescale": search.directions[0] == "minimize",
            "colorbar": {"thickness": 10, "outlinewidth": 0},
        },
    )
    apply_layout(figure, f"{escape(search.metrics[0])} by the two most important settings", escape(first), "")
    across.apply(figure.update_xaxes)
    up.apply(figure.update_yaxes)
    figure.update_yaxes(title={"text": escape(second)})
    figure.update_layout(height=420, hovermode="closest", showlegend=False)
    return to_chart(figure)


def parallel(trials: Trials) -> Chart | None:
    """Draw parallel coordinates from the settings to all objectives; None with fewer than three trials."""
    rows, search = measured(trials), trials.search
    if len(rows) < 3:
        return None
    axes = [
        parallel_coordinates.axis(key, [row.params.get(key) for row in rows], getattr(distribution, "choices", ()))
        for key, distribution in data.distributions(search).items()
    ]
    for position in reversed(range(len(search.metrics))):  # the first objective is the last axis
        values = [row.values[position] for row in rows]
        if any(value is not None for value in values):
            axes.append(parallel_coordinates.numeric_axis(search.metrics[position], values))
    results = [search.score(row.value or 0.0) for row in rows]
    return parallel_coordinates.draw(axes, results, [describe(row, search) for row in rows])


class _Scale:
    """Places along one setting, of trials that have it: numbers, or positions of categories, spread around them."""

    def __init__(self, search: Search, key: str, rows: Sequence[Trial]) -> None:
        distribution: Any = data.distributions(search)[key]
        values = [row.params[key] for row in rows]
        self.is_number = hasattr(distribution, "low")
        self.log = self.is_number and distribution.log
        self._ticks: list[str] = []
        if self.is_number:
            self.places: list[Any] = list(values)
            self._range = [distribution.low, distribution.high]
            return
        known = [choice for choice in distribution.choices if choice in values]
        seen = dict.fromkeys(known, 0)
        self.places = []
        for value in values:
            seen[value] += 1
            self.places.append(known.index(value) + 0.25 * math.sin(seen[value] * 2.4))  # spread, the same every time
        self._ticks = [shorten(str(choice)) for choice in known]

    def apply(self, update: Any) -> None:
        """Set type, range and ticks of an axis."""
        if not self.is_number:
            places = list(range(len(self._ticks)))
            text = [_wrapped(tick) for tick in self._ticks]
            update(tickvals=places, ticktext=text, range=[-0.5, len(places) - 0.5])
            return
        low, high = (math.log10(value) for value in self._range) if self.log else self._range
        margin = 0.04 * (high - low) or 1
        update(type="log" if self.log else "linear", range=[low - margin, high + margin], nticks=6)
        if self.log:
            steps = (1,) if high - low > 2 else (1, 2, 5)
            ticks = [step * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for step in steps]
            update(tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])

    def shares(self) -> Any:
        """Place of each trial, from 0 to 1 over the range of the setting."""
        import numpy as np

        ends = np.log(self._range) if self.log else np.array(self._range, float)
        places = np.log(self.places) if self.log else np.array(self.places, float)
        return (places - ends[0]) / ((ends[1] - ends[0]) or 1.0)

    def undo(self, shares: Any) -> list[float]:
        """Values at these shares of the range."""
        low, high = self._range
        return [low * (high / low) ** share if self.log else low + (high - low) * share for share in shares]


def _wrapped(label: str) -> str:
    """A label in two lines if it is long, escaped."""
    return "<br>".join(escape(part) for part in (label[:_LINE], label[_LINE:]) if part)


def _interpolate(across: _Scale, up: _Scale, values: Sequence[float]) -> tuple[Any, Any, Any] | None:
    """A grid of values between the trials, None outside; None if there is no area between them."""
    import numpy as np
    from scipy.interpolate import griddata
    from scipy.spatial import QhullError

    if not (across.is_number and up.is_number) or len(values) < _LEAST_FOR_CONTOUR:
        return None
    points = np.stack([across.shares(), up.shares()], axis=1)
    ends = np.linspace(0, 1, _GRID)
    try:
        z = griddata(points, np.array(values), tuple(np.meshgrid(ends, ends)), method="linear")
    except QhullError:  # all on one line
        return None
    return ends, ends, [[None if math.isnan(value) else float(value) for value in row] for row in z]


def _limits(search: Search, values: Sequence[float]) -> tuple[float, float]:
    """Ends of the colours: a few very bad trials would leave one colour for all others."""
    import numpy as np

    worst = np.quantile([search.score(value) for value in values], 0.25)
    ends = sorted([search.score(float(worst)), max(values, key=search.score)])
    return (ends[0], ends[1]) if ends[0] < ends[1] else (ends[0] - 1e-9, ends[1] + 1e-9)
