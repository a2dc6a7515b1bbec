"""Tests of model diagrams."""

from __future__ import annotations

import numpy as np
import pytest
from drawn import ROWS, texts
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Annotation

from cifar_exp.config.architecture import LayerRow
from cifar_exp.evaluation import diagram


def test_diagram_shows_every_layer_and_only_the_kinds_in_use() -> None:
    shown = texts(diagram.diagram(ROWS, "a model"))
    for row in ROWS:
        assert {row.name, row.shape, f"{row.parameters:,}"} <= set(shown)
        assert not row.detail or row.detail in shown
    assert "a model" in shown and set(diagram.KINDS) <= set(shown)
    assert "dense" not in texts(diagram.diagram(ROWS[:3], ""))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("DepthwiseConv2D", "convolution"),
        ("LayerNormalization", "normalization"),
        ("MaxPooling2D", "pooling"),
        ("GaussianNoise", "dropout / regularization"),
        ("Dense", "dense"),
        ("Activation", "other"),
    ],
)
def test_boxes_are_coloured_by_kind(name: str, kind: str) -> None:
    figure = diagram.diagram([LayerRow(name, "", "10", 0, 0)], "")
    assert kind in texts(figure)
    edges = {to_hex(patch.get_edgecolor()).upper() for patch in figure.axes[0].patches}
    assert diagram.KINDS[kind][0] in edges


def test_depth_indents() -> None:
    figure = diagram.diagram(ROWS, "")
    left = {text.get_text(): text.get_position()[0] for text in figure.axes[0].texts}
    assert left["SeparableConv2D"] == left["BatchNormalization"] > left["Conv2D"] == left["Dense"]


def arrows(figure: Figure) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Start (of its whole line) and end of each arrow."""
    ends = []
    for line, head in zip(figure.axes[0].lines, figure.findobj(Annotation), strict=True):
        assert isinstance(line, Line2D) and isinstance(head, Annotation)
        (x, *_), (y, *_) = line.get_data()
        ends.append(((float(x), float(y)), tuple(map(float, head.xy))))
    return ends


@pytest.mark.parametrize(("end", "shortcut"), [("Add", 0), ("Add", 1), ("Add", 2), ("Multiply", 0)])
def test_arrows_lead_around_the_layers_of_a_block_and_into_its_sum_or_product(end: str, shortcut: int) -> None:
    inside = [LayerRow("Conv2D", "", "8", 9, 1) for _ in range(2 + shortcut)]
    rows = [LayerRow("ReLU", "", "8", 0, 0), *inside, LayerRow(end, "", "8", 0, 0, shortcut)]
    figure = diagram.diagram(rows, "")
    tops = {text.get_position()[1] for text in figure.axes[0].texts if text.get_text() in ("ReLU", "Conv2D", end)}
    middles = sorted(tops)

    def row_of(y: float) -> int:
        return int(np.argmin([abs(middle - y) for middle in middles]))

    def between(y: float) -> tuple[int, int]:  # an arrow's end lies on the edge of a box, or halfway up its side
        return row_of(y - 0.02), row_of(y + 0.02)

    joined = sorted((between(start[1])[0], between(end[1])[1]) for start, end in arrows(figure))
    add = len(rows) - 1
    expected = [(0, 1), (1, 2), *((place, place + 1) for place in range(3, add))]
    expected += [(0, 3), (2, add), (add - 1, add)] if shortcut else [(2, add), (0, add)]
    assert joined == sorted(set(expected))


@pytest.mark.parametrize("length", [0, 1, 5, 40])
def test_diagram_texts_stay_apart_and_inside(length: int) -> None:
    rows = (ROWS * 6)[:length]
    figure = diagram.diagram(rows, "a model")
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text()]
    assert all(0 <= box.x0 < box.x1 <= figure.bbox.width for box in boxes)
    assert all(0 <= box.y0 < box.y1 <= figure.bbox.height for box in boxes)
    assert not any(box.overlaps(other) for index, box in enumerate(boxes) for other in boxes[:index])
    outlines = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    assert len(outlines) == 2 * length + sum(row.depth for row in rows)
