"""Common style of all matplotlib figures. pyplot is not used, so that any thread can draw."""

from __future__ import annotations

import io
import textwrap
import threading
import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cifar_exp.evaluation import fonts

# Okabe and Ito's palette for colour-blind readers, without yellow, which is too pale for lines.
BLUE, RED, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
PURPLE, SKY, BLACK = "#CC79A7", "#56B4E9", "#222222"
GREY, PALE = "#767676", "#D4D4D4"
COLOURS = (BLUE, RED, GREEN, ORANGE, PURPLE, SKY, BLACK)
LINE_STYLES = ("-", "--", ":")
MARKERS = "osD^vP*X"

DPI = 110
STYLE: dict[Any, Any] = {
    "figure.dpi": DPI,
    "figure.facecolor": "white",
    "font.size": 9,
    "text.color": BLACK,
    "text.parse_math": False,  # a dollar sign in a run's name does not start a formula
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E8E8E8",
    "lines.linewidth": 1.6,
    "legend.frameon": False,
}

# What no font of this machine has is drawn as boxes, without a warning for each letter
warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from font", category=UserWarning)

P = ParamSpec("P")
R = TypeVar("R")
_rc_lock = threading.Lock()  # rc_context changes and restores parameters that all threads share


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Decorator: call a drawing function with `STYLE` applied."""

    @wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with _rc_lock, matplotlib.rc_context({**STYLE, "font.family": fonts.families()}):
            return draw(*args, **kwargs)

    return wrapper


def page(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    """Create a figure with a title and one empty axes whose unit is an inch.

    Args:
        width: of the figure, in inches.
        height: of the area below the title, in inches.
        title: wrapped to the width.

    Returns:
        The figure and its axes; (0, 0) is the upper left corner below the title.
    """
    lines = textwrap.wrap(title, int(width * 10)) or [""]
    top = 0.2 + 0.2 * len(lines)
    figure = Figure(figsize=(width, height + top))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, -top))
    axes.set_axis_off()
    axes.text(0.15, 0.12 - top, "\n".join(lines), fontsize=11, fontweight="bold", va="top")
    return figure, axes


def percent(share: float, decimals: int = 0) -> str:
    """Format a share in 0..1 as a percentage: `0.5` as `"50 %"`."""
    return f"{100 * share:.{decimals}f} %"


@styled
def to_png(figure: Figure) -> bytes:
    """Render a figure as PNG."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)  # type: ignore[no-untyped-call]  # `savefig` would draw everything twice
    figure.set_layout_engine("none")  # repeated layouts would move elements by a fraction of a pixel
    return buffer.getvalue()


@styled
def to_svg(figure: Figure) -> bytes:
    """Render a figure as SVG with text kept as text. Equal figures give equal bytes."""
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "cifar_exp"}):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        figure.set_layout_engine("none")
        return buffer.getvalue()
