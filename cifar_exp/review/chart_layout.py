"""The look of the report page's charts: layout, colours, and figures as plain data.

Colours such as `var(--text)` are CSS variables of the page, so that the charts follow its light or dark theme.
"""

from __future__ import annotations

import html
import json
from typing import Any

Chart = dict[str, Any]

LOG_RATIO = 20  # of largest to smallest value, from which an axis is logarithmic

_LOW_COLOUR, _HIGH_COLOUR = (126, 150, 171), (213, 94, 0)  # pale blue to RED, distinct in light and dark


def apply_layout(figure: Any, title: str, x: str, y: str) -> None:
    """Give a figure the look of the page, a title and the names of its axes."""
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


def to_chart(figure: Any) -> Chart:
    """Convert a figure to plain lists, instead of Plotly's binary arrays, which the page's script cannot read."""
    drawn: Chart = json.loads(json.dumps(figure.to_plotly_json(), default=list))
    drawn["layout"].pop("template", None)
    return drawn


def escape(name: str) -> str:
    """Escape text for Plotly, which interprets it as HTML."""
    return html.escape(name, quote=False)


def shorten(label: str, longest: int = 24) -> str:
    """Shorten a label to this many characters, by leaving out what stands before its last six."""
    return label if len(label) <= longest else f"{label[: longest - 7]}…{label[-6:]}"


def in_two_lines(name: str) -> str:
    """Split a name such as `optimizer.learning_rate` into two lines."""
    first, dot, rest = name.rpartition(".") if "." in name else name.rpartition("/")
    return f"{escape(first + dot)}<br>{escape(rest)}"


def shade(share: float) -> str:
    """Colour of a rank: pale blue for 0, the worst, to orange for 1, the best."""
    mixed = [round(low + share * (high - low)) for low, high in zip(_LOW_COLOUR, _HIGH_COLOUR, strict=True)]
    return f"rgb({mixed[0]},{mixed[1]},{mixed[2]})"
