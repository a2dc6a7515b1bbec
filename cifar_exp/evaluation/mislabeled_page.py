"""The page on which a person decides about labels that look wrong: one HTML file that loads nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cifar_exp.data.splits import Images
from cifar_exp.evaluation import html_page
from cifar_exp.evaluation.pictures import as_data_uri

_SHOWN = 1000  # images, a few kilobytes each


def render(source: str, words: str, rows: Sequence[Mapping[str, Any]], images: Sequence[Images | None]) -> str:
    """Create the page. Everything on it is data, so all text is escaped; its only script writes the list as CSV.

    Args:
        source: of the images.
        words: what was found.
        rows: of the list, as `review.mislabeled.Suspects.rows` gives them.
        images: (H, W, C) uint8 of each row; `None` where there is none.

    Returns:
        The page as HTML.
    """
    shown = list(zip(rows, images, strict=True))[:_SHOWN]
    return html_page.render(
        "cifar_exp.evaluation",
        "mislabeled",
        title="Labels that look wrong",
        source=source,
        words=words,
        hidden=len(rows) - len(shown),
        key=next(iter(rows[0])) if rows else "index",
        columns=list(rows[0]) if rows else [],
        rows=[(row, None if image is None else as_data_uri(image)) for row, image in shown],
    )
