"""Model diagrams, drawn with matplotlib instead of graphviz."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from cifar_exp.config.architecture import LayerRow
from cifar_exp.evaluation.style import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, RED, page, styled

KINDS = {
    "convolution": (BLUE, ("conv",)),
    "normalization": (PURPLE, ("normalization",)),
    "pooling": (RED, ("pool",)),
    "dropout / regularization": (ORANGE, ("dropout", "noise", "regularization")),
    "dense": (GREEN, ("dense",)),
    "other": (GREY, ("",)),
}


def _kind(name: str) -> str:
    """Kind of a layer class: a key of `KINDS`."""
    return next(kind for kind, (_, parts) in KINDS.items() if any(part in name.lower() for part in parts))


@styled
def diagram(rows: Sequence[LayerRow], title: str) -> Figure:
    """Draw a model: one box per layer from top to bottom, coloured by kind, indented by depth, joined by arrows.

    Args:
        rows: the layers in order, those inside a block with a greater depth.
        title: of the figure.
    """
    indent, box, step, top, margin = 0.28, 0.29, 0.42, 0.5, 0.15
    names, details, shapes, counts = (max((len(str(row[field])) for row in rows), default=0) for field in range(4))
    deepest = max((row.depth for row in rows), default=0)
    # Column widths in inches, from the average character width at each column's font size.
    detail_left, detail_width = 0.35 + 0.087 * names, 0.062 * details
    shape_width, count_width = max(0.08 * shapes, 0.9), max(0.09 * counts, 0.9)
    needed = detail_left + detail_width + shape_width + count_width + 0.3
    width = max(8.0, needed + indent * deepest + 2 * margin)
    right = width - margin
    count_right, shape_right = right - 0.12, right - 0.12 - count_width
    arrow_x = margin + indent * deepest + 0.6
    figure, axes = page(width, top + step * len(rows), title)

    kinds = [_kind(row.name) for row in rows]
    # No arrow leads into the first layer of a shortcut: its input is that of the block.
    shortcuts = {place - row.shortcut for place, row in enumerate(rows) if row.shortcut}
    handles = [Patch(color=colour, label=kind) for kind, (colour, _) in KINDS.items() if kind in kinds]
    legend = axes.legend(handles=handles, ncols=len(KINDS), loc="upper left", handlelength=0.9, fontsize=8)
    legend.set_bbox_to_anchor((margin - 0.1, -0.06), axes.transData)
    for x, name in ((shape_right, "output shape"), (count_right, "parameters")):
        axes.text(x, top - 0.1, name, color=GREY, fontsize=8, ha="right")

    for place, (row, kind) in enumerate(zip(rows, kinds, strict=True)):
        y, middle, left = top + place * step, top + place * step + box / 2, margin + indent * row.depth
        for level in range(row.depth):  # shade each block, without gaps between its rows
            above = step if place > 0 and rows[place - 1].depth > level else 0.06
            x, tall, shade = margin + indent * level + 0.12, box + above + 0.06, str(0.94 - 0.04 * level)
            block = Rectangle((x, y - above), right + 0.08 - x, tall, color=shade, lw=0, zorder=level / 10)
            axes.add_patch(block)
        colour = KINDS[kind][0]
        tint = tuple(0.86 + 0.14 * part for part in to_rgb(colour))
        outline = Rectangle((left, y), right - left, box, facecolor=tint, edgecolor=colour, lw=0.8, zorder=2)
        axes.add_patch(outline)
        axes.add_patch(Rectangle((left, y), 0.08, box, color=colour, lw=0, zorder=2))
        axes.text(left + 0.18, middle, row.name, fontweight="bold", va="center_baseline")
        axes.text(left + detail_left, middle, row.detail, fontsize=8, va="center_baseline")
        axes.text(shape_right, middle, row.shape, ha="right", va="center_baseline")
        count_colour = BLACK if row.parameters else GREY
        count = f"{row.parameters:,}"
        axes.text(count_right, middle, count, color=count_colour, ha="right", va="center_baseline")
        if place > 0 and place not in shortcuts:
            _arrow(axes, (arrow_x, y - step + box), (arrow_x, y))
        if row.name in ("Add", "Multiply"):
            first_inside = place
            while first_inside > 0 and rows[first_inside - 1].depth > row.depth:
                first_inside -= 1
            x, input_y = left + indent - 0.08, top + first_inside * step - (step - box)  # below the layer before it
            if row.shortcut:
                first = middle - row.shortcut * step
                _arrow(axes, (x, input_y), (x, first), (left + indent, first))
                beside = right + 0.06
                _arrow(axes, (right, first - step), (beside, first - step), (beside, middle), (right, middle))
            else:
                _arrow(axes, (x, input_y), (x, y))
    return figure


def _arrow(axes: Axes, *corners: tuple[float, float]) -> None:
    """Draw a line through the points, with an arrowhead at the last one."""
    xs, ys = zip(*corners[:-1], strict=True)
    axes.plot(xs, ys, color=GREY, lw=1, solid_capstyle="butt", zorder=1.9)
    style = {"arrowstyle": "-|>,head_width=0.2,head_length=0.3", "color": GREY, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", corners[-1], corners[-2], arrowprops=style)
