"""A part of the report page that others add: what a search has found, for example."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cifar_exp.review.chart_layout import Chart

TWO, THREE, WIDE = "two", "three", "wide"  # charts side by side, or one that scrolls


@dataclass(frozen=True)
class Section:
    """Paragraphs and charts under one heading.

    Attributes:
        id: unique on the page; links point to it.
        title: of the section.
        charts: name, unique among all sections -> chart.
        layout: `TWO` or `THREE` charts side by side where the window is wide enough, or one that is `WIDE`.
        before: paragraphs above the charts.
        after: paragraphs below the charts.
    """

    id: str
    title: str
    charts: Mapping[str, Chart]
    layout: str = TWO
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
