"""The card of a run as Markdown, and as one HTML page that loads nothing and has no scripts."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING

from cifar_exp.analysis.card import Card, Section
from cifar_exp.errors import UserError
from cifar_exp.evaluation import html_page
from cifar_exp.review import tables
from cifar_exp.tracking import fetch, untrusted
from cifar_exp.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

MARKDOWN, HTML = "card/card.md", "card/card.html"

_PICTURE, _PICTURE_BYTES = "figures/confusion_matrix.png", 4_000_000
_NUMBER = re.compile(r"[-+<]?[\d,.]+|-|")


def to_markdown(card: Card) -> str:
    """Write a card as Markdown. What comes from the store is escaped."""
    parts = [f"# {tables.escaped(card.title)}", tables.escaped(card.subtitle)]
    for section in card.sections:
        parts += [f"## {section.title}", *(tables.escaped(paragraph) for paragraph in section.paragraphs)]
        if section.table:
            parts.append(_table(section))
        if section.code:
            fence = "```"
            while fence in section.code:
                fence += "`"
            parts.append(f"{fence}sh\n{section.code}\n{fence}")
    return "\n\n".join(parts) + "\n"


def _table(section: Section) -> str:
    assert section.table is not None
    rows = [section.table.headings, ("---",) * len(section.table.headings), *section.table.rows]
    lines = [
        "| " + " | ".join(cell if at == 1 else tables.escaped(cell) for cell in row) + " |"
        for at, row in enumerate(rows)
    ]
    return "\n".join(lines)


def to_html(card: Card, picture: bytes | None = None) -> str:
    """Write a card as an HTML page.

    Args:
        card: the card.
        picture: PNG of the confusion matrix.
    """
    return html_page.render(
        "cifar_exp.analysis",
        "card",
        title=f"Card of {card.title}",
        card=card,
        numeric=[_numeric(section) for section in card.sections],
        picture=f"data:image/png;base64,{base64.b64encode(picture).decode()}" if picture else None,
    )


def _numeric(section: Section) -> list[bool]:
    """Whether each column of a section's table holds numbers only; the first one names the row."""
    columns = zip(section.table.headings, *section.table.rows, strict=True) if section.table else ()
    return [at > 0 and all(map(_NUMBER.fullmatch, cells)) for at, (_, *cells) in enumerate(columns)]


def picture(store: Store, run: Run) -> bytes | None:
    """The logged picture of the confusion matrix; None if there is none that can be shown."""
    try:
        content = fetch.file(store, run, _PICTURE, _PICTURE_BYTES)
    except UserError:
        return None
    return content if untrusted.is_picture(content) else None
