"""What the pages show of runs: tables, pictures and comments."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from cifar_exp.errors import UserError
from cifar_exp.review import comparison, remarks, run_predictions, run_record
from cifar_exp.review.evaluations import LoggedEvaluation
from cifar_exp.review.run_predictions import Matrix
from cifar_exp.server import database, lists, shown
from cifar_exp.server.shown import ShownRun
from cifar_exp.tracking import fetch, run_tags, untrusted

if TYPE_CHECKING:
    from mlflow.entities import Run

_LARGEST_PICTURE, _LARGEST_MATRIX = 8_000_000, 2_000_000  # bytes
_PICTURES = ("calibration", "predictions", "samples")  # on the page of a run
_SHADES = 5  # of a cell of a confusion matrix


@dataclass(frozen=True)
class Table:
    """Runs as rows.

    Attributes:
        headings: of the columns of parameters that differ.
        rows: the run, and its cells.
        hidden: how many rows the filter hides.
    """

    headings: list[str]
    rows: list[tuple[ShownRun, list[str]]]
    hidden: int


@dataclass(frozen=True)
class RunDetails:
    """What the page of a run shows below its result.

    Attributes:
        params: all parameters.
        overrides: what its command changed from the defaults.
        matrix: confusion matrix; None if it was not logged.
        curves: metric -> (epoch, value).
        pictures: names of logged pictures.
        evaluations: of the model, logged later.
        comments: on the run.
        commit: of its code; empty if unknown.
    """

    params: list[tuple[str, str]]
    overrides: list[str]
    matrix: Matrix | None
    curves: dict[str, lists.Points]
    pictures: list[str]
    evaluations: list[LoggedEvaluation]
    comments: list[remarks.Remark]
    commit: str


def table(logged: Sequence[Run], sort: str, words: str) -> Table:
    """A table of runs with the parameters that differ.

    Args:
        logged: the runs.
        sort: column to sort by; the order of `logged` if it is none.
        words: only rows that contain all of these are shown.
    """
    records = [run_record.from_run(run) for run in logged]
    keys = comparison.differing(records)
    rows = [(shown.run(run), [run.data.params.get(key, "") for key in keys]) for run in logged]
    wanted = words.casefold().split()
    kept = [row for row in rows if all(word in _searched(*row) for word in wanted)]
    if sort in keys:
        at = keys.index(sort)
        kept.sort(key=lambda row: _sortable(row[1][at]))
    elif sort == "name":
        kept.sort(key=lambda row: row[0].name)
    return Table(keys, kept, len(rows) - len(kept))


def _searched(run: ShownRun, cells: Sequence[str]) -> str:
    return " ".join([run.name, run.outcome, run.state, run.by, *cells]).casefold()


def _sortable(cell: str) -> tuple[bool, float, str]:
    try:
        return False, float(cell), cell
    except ValueError:
        return True, 0.0, cell


def of_run(run: Run) -> RunDetails:
    """Everything that the page of a run shows."""
    store = database.store_of(run)
    logged = pictures(store, run)
    curves = {
        name: points
        for name in ("val/accuracy", "train/accuracy", "val/loss", "train/loss")
        if (points := lists.histories([run.info.run_id], name).get(run.info.run_id))
    }
    return RunDetails(
        sorted(run.data.params.items()),
        shown.overrides(run),
        matrix(store, run),
        curves,
        [name for name in _PICTURES if name in logged],
        lists.evaluations_of(run),
        [one for one in remarks.of_run(run) if not one.reviewer],
        run.data.tags.get(run_tags.GIT_COMMIT, ""),
    )


def pictures(store: database.ServerStore, run: Run) -> list[str]:
    """Names of the pictures that a run has logged."""
    from mlflow.exceptions import MlflowException

    try:
        paths = [item.path for item in store.artifacts(run).list_artifacts("figures")]
    except (MlflowException, OSError):  # the page shows the run without them
        return []
    return [path.removeprefix("figures/").removesuffix(".png") for path in paths]


def matrix(store: database.ServerStore, run: Run) -> Matrix | None:
    """The confusion matrix of a run; None if it has logged neither it nor predictions."""
    try:
        content = fetch.file(store, run, "evaluation/confusion_matrix.json", _LARGEST_MATRIX)
        return shown.matrix(json.loads(content))
    except UserError:
        pass
    except (ValueError, RecursionError):
        return None
    try:  # a run of another program may have predictions only
        return run_predictions.confusion_matrix(run_predictions.read(store, run))
    except UserError:
        return None


def shade(count: int, total: int) -> int:
    """Shade of a cell of a confusion matrix, 0 to 5, by its share of the images of its class, `total`."""
    return min(_SHADES, round(_SHADES * abs(count) / total + 0.49)) if total and count else 0


def picture(run: Run, name: str) -> bytes | None:
    """A logged PNG picture, as it is; None if there is none, it is something else or too large to show."""
    try:
        content = fetch.file(database.store_of(run), run, f"figures/{name}.png", _LARGEST_PICTURE)
    except UserError:
        return None
    return content if untrusted.is_picture(content) else None


@cache
def _parser() -> Any:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False}).disable("image")


def markdown(text: str) -> Markup:
    """A comment in Markdown as HTML. HTML in it is shown as text; pictures are not loaded."""
    return Markup(_parser().render(text))
