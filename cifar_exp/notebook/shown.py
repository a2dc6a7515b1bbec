"""Runs as HTML for a notebook. All text comes from a store, where anyone may have written it, and is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jinja2 import Environment

from cifar_exp.review import tables
from cifar_exp.review.comparison import Comparison

SUMMARY = ("val/best_accuracy", "test/accuracy")

_ROWS = (*SUMMARY, "val/best_epoch", "test/loss", "model/parameters", "train/seconds")
_NAME = '{% if page %}<a href="{{ page }}" target="_blank">{{ name }}</a>{% else %}{{ name }}{% endif %}'
_RUN = f"""<p><b>{_NAME}</b> {{{{ status }}}}{{% if outcome %}}, {{{{ outcome }}}}{{% endif %}}</p>
<table>{{% for key, value in rows %}}<tr><td>{{{{ key }}}}</td><td>{{{{ value }}}}</td></tr>{{% endfor %}}</table>
{{% if curves %}}<img src="data:image/png;base64,{{{{ curves }}}}" alt="curves" style="max-width: 100%">{{% endif %}}"""
_RUNS = """<table><tr>{% for heading in headings %}<th>{{ heading }}</th>{% endfor %}</tr>
{% for cells, page in rows %}<tr>{% for cell in cells %}<td>{% if loop.first and page %}
<a href="{{ page }}" target="_blank">{{ cell }}</a>{% else %}{{ cell }}{% endif %}</td>{% endfor %}</tr>
{% endfor %}</table>{% for note in notes %}<p>{{ note }}</p>{% endfor %}"""


def run(name: str, status: str, outcome: str, metrics: Mapping[str, float], page: str | None, curves: str) -> str:
    """One run: its name as a link, results, and curves.

    Args:
        name: of the run.
        status: of the run.
        outcome: of the run.
        metrics: of the run.
        page: web address.
        curves: PNG in base 64; may be empty.
    """
    rows = [(key, _number(metrics[key])) for key in _ROWS if key in metrics]
    return _render(_RUN, name=name, status=status, outcome=outcome, rows=rows, page=page, curves=curves)


def runs(compared: Comparison, pages: Sequence[str | None]) -> str:
    """The table of `cifar-exp compare`, with links.

    Args:
        compared: the table.
        pages: web address of each row.
    """
    headings, rows = tables.cells(compared)
    return _render(_RUNS, headings=headings, rows=list(zip(rows, pages, strict=True)), notes=compared.notes)


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) > 1 else f"{value:.4f}"


def _render(template: str, **values: object) -> str:
    return Environment(autoescape=True).from_string(template).render(**values)
