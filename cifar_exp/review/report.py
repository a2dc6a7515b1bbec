"""Report page on runs: one self-contained HTML file that loads nothing and runs only its own scripts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_exp.errors import UserError
from cifar_exp.evaluation import html_page
from cifar_exp.review import (
    charts,
    comparison,
    evaluations,
    repeated,
    report_pairs,
    run_predictions,
    run_record,
    run_results,
    tables,
)
from cifar_exp.review.comparison import Comparison
from cifar_exp.review.evaluations import LoggedEvaluation
from cifar_exp.review.query import SHORT_ID
from cifar_exp.review.run_record import RunRecord
from cifar_exp.review.run_results import RunResults
from cifar_exp.review.section import Section
from cifar_exp.tracking import addresses, run_tags
from cifar_exp.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

DETAILED_RUNS = 12  # the most accurate runs are shown with curves, predictions and settings


def from_store(store: Store, runs: Sequence[Run], title: str, sections: Sequence[Section] = ()) -> str:
    """Create the report page on runs of a tracking store.

    Args:
        store: contains the runs.
        runs: in the order of the table.
        title: of the page.
        sections: shown below the table.

    Returns:
        The page as HTML.

    Raises:
        UserError: if the store cannot be reached.
    """
    records = [run_record.from_run(run) for run in runs]
    chosen = _most_accurate(records)
    results = [run_results.from_run(store, runs[at]) for at in chosen]
    links = {run.id: addresses.run(store, run.id) for run in records if run.id} if store.is_server else {}
    where = f"experiment {store.experiment!r} of {store.uri}"
    found = evaluations.of_runs(store, runs)
    if store.is_server:
        links |= {one.run_id: addresses.run(store, one.run_id) for one in found}
    return _render(title, records, chosen, results, where, links, sections, found)


def from_folders(folders: Sequence[Path], title: str, sections: Sequence[Section] = ()) -> str | None:
    """Create the report page on the runs in local folders, without a tracking store.

    Args:
        folders: of the runs. Folders without a run are skipped.
        title: of the page.
        sections: shown below the table.

    Returns:
        The page as HTML, the most accurate run first, or `None` if there are no runs.
    """
    local_runs = [(folder, run) for folder in folders if (run := run_record.from_folder(folder))]
    if not local_runs:
        return None
    local_runs.sort(key=lambda item: -(item[1].accuracy if item[1].accuracy is not None else -1.0))
    records = [run for _, run in local_runs]
    chosen = _most_accurate(records)
    results = [run_results.from_folder(local_runs[at][0]) for at in chosen]
    return _render(title, records, chosen, results, "", {}, sections)


def _most_accurate(runs: Sequence[RunRecord]) -> list[int]:
    """Positions of the runs that are shown in detail, in ascending order."""
    order = sorted(range(len(runs)), key=lambda at: -(runs[at].accuracy or -1.0))
    return sorted(order[:DETAILED_RUNS])


def _render(
    title: str,
    runs: Sequence[RunRecord],
    chosen: Sequence[int],
    results: Sequence[RunResults],
    where: str,
    links: Mapping[str, str],
    sections: Sequence[Section] = (),
    found: Sequence[LoggedEvaluation] = (),
) -> str:
    from plotly.offline import get_plotlyjs

    detailed = [runs[at] for at in chosen]
    names = _distinct_names(detailed)
    compared = comparison.compare(runs)
    comparable = _ComparableRuns.select(detailed, results)
    drawn = {
        "curves": charts.curves(names, [result.history for result in results]),
        "parallel": charts.parallel(runs),
        "costs": charts.costs(runs),
        "sections": {name: chart for section in sections for name, chart in section.charts.items()},
    }
    pairs = None
    if len(comparable.members) > 1:
        members = comparable.members
        pairs = report_pairs.pairwise([names[at] for at in members], [results[at] for at in members], comparable.images)
    return html_page.render(
        "cifar_exp.review",
        "report",
        libraries=[get_plotlyjs()],
        title=title,
        where=where,
        made=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        count=len(runs),
        detailed=len(detailed),
        table=_table(compared),
        links=[links.get(run.id or "") for run in runs],
        repeated=_repeated(runs, compared.notes),
        names=names,
        styles=charts.trace_styles(len(detailed)),
        charts=drawn,
        sections=sections,
        evaluations=_evaluations(runs, found, links),
        pairs=pairs,
        notes=comparable.notes,
        devices=sorted({device for run in runs if (device := run.tags.get(run_tags.DEVICE))}),
        classes=_class_scores(detailed),
        settings=_differing_settings(detailed),
        reproduce=[_reproduce(name, run) for name, run in zip(names, detailed, strict=True)],
        json=_json_for_script({"charts": drawn, "pairs": pairs}),
    )


@dataclass(frozen=True)
class _ComparableRuns:
    """The runs that were tested on the same images, by their positions, and those images if they are available."""

    members: tuple[int, ...]
    images: Any
    notes: tuple[str, ...]

    @classmethod
    def select(cls, runs: Sequence[RunRecord], results: Sequence[RunResults]) -> _ComparableRuns:
        """Select the runs with predictions for the same images as the first run that has predictions."""
        with_predictions = [at for at, result in enumerate(results) if result.predictions is not None]
        notes = [result.problem for result in results if result.problem]
        members: list[int] = []
        for at in with_predictions:
            try:
                run_predictions.check_same_images([_predictions(runs[one], results[one]) for one in (*members[:1], at)])
                members.append(at)
            except UserError as error:
                notes.append(str(error))
        if len(members) < 2:
            return cls(tuple(members), None, tuple(notes))
        images, missing = run_results.shared_test_images([runs[at] for at in members])
        return cls(tuple(members), images, (*notes, missing) if missing else tuple(notes))


def _predictions(run: RunRecord, result: RunResults) -> run_predictions.RunPredictions:
    assert result.predictions is not None
    return run_predictions.RunPredictions(run.id or run.name, run.test_digest, result.predictions)


def _distinct_names(runs: Sequence[RunRecord]) -> list[str]:
    """Names of the runs; the start of the id is added to names that occur more than once."""
    names = [run.name for run in runs]
    return [f"{run.name} ({(run.id or '-')[:SHORT_ID]})" if names.count(run.name) > 1 else run.name for run in runs]


def _table(compared: Comparison) -> dict[str, Any]:
    """Headings, rows, whether each column is numeric, and notes; the column of names comes first."""
    headings, rows = tables.cells(compared)
    at = headings.index("name")
    order = [at, *(other for other in range(len(headings)) if other != at)]
    return {
        "headings": [tables.in_two_lines(headings[at]).strip() for at in order],
        "rows": [[row[at] for at in order] for row in rows],
        "numeric": [tables.numeric_columns(headings, rows)[at] for at in order],
        "notes": compared.notes,
    }


def _repeated(runs: Sequence[RunRecord], shown_notes: Sequence[str]) -> list[dict[str, Any]]:
    """Tables of the runs grouped over folds and over seeds, if some were repeated, without the notes already shown."""
    shown = []
    for key, values in repeated.REPETITIONS.items():
        groups = repeated.repeated(runs, key)
        if groups:
            grouped = repeated.grouped([run for group in groups for run in group], key)
            notes = tuple(note for note in grouped.notes if note not in shown_notes)
            shown.append({"id": values, "title": f"Over {values}", "table": _table(replace(grouped, notes=notes))})
    return shown


def _evaluations(
    runs: Sequence[RunRecord], found: Sequence[LoggedEvaluation], links: Mapping[str, str]
) -> dict[str, Any] | None:
    """Table of the evaluations of the runs, and their links; None if there are none."""
    if not found:
        return None
    names = {run.id: name for run, name in zip(runs, _distinct_names(runs), strict=True)}
    attacks = sorted({(attack, epsilon) for one in found for attack, epsilon, _ in one.attacks})
    corrupted = any(one.corruption_error is not None for one in found)
    rows = []
    for one in found:
        under = {(attack, epsilon): f"{accuracy:.4f}" for attack, epsilon, accuracy in one.attacks}
        row = [one.images, names[one.of], f"{one.accuracy:.4f}", one.interval_in_words or "-"]
        row += [one.corruption_error_in_words or "-"] if corrupted else []
        rows.append(row + [under.get(attack, "-") for attack in attacks])
    headings = ["on", "run", "accuracy", "95 % interval", *(["mean corruption\nerror"] if corrupted else [])]
    headings += [f"{attack}\n{epsilon}/255" for attack, epsilon in attacks]
    table = {"headings": headings, "rows": rows, "numeric": tables.numeric_columns(headings, rows), "notes": ()}
    return {"table": table, "links": [links.get(one.run_id) for one in found]}


def _class_scores(runs: Sequence[RunRecord]) -> dict[str, Any]:
    """F1 of each class and run, and its shade: from 0 for the lowest score of the table to 1 for the highest."""
    keys = list(dict.fromkeys(key for run in runs for key in run.metrics if key.startswith("test/f1/")))
    scores = [[run.metrics.get(key) for key in keys] for run in runs]
    measured = [score for row in scores for score in row if score is not None]
    low, high = (min(measured), max(measured)) if measured else (0.0, 1.0)
    shades = [[None if one is None else round((one - low) / (high - low or 1), 3) for one in row] for row in scores]
    return {"names": [key.removeprefix("test/f1/") for key in keys], "scores": scores, "shades": shades}


def _differing_settings(runs: Sequence[RunRecord]) -> list[tuple[str, list[str]]]:
    """Parameters that differ, each with its value in every run."""
    return [(key, [run.params.get(key, "-") for run in runs]) for key in comparison.differing(runs)]


def _reproduce(name: str, run: RunRecord) -> dict[str, str | None]:
    tags = run.tags
    return {
        "name": name,
        "command": run_record.command(tags),
        "commit": tags.get(run_tags.GIT_COMMIT, "unknown"),
        "dirty": " with uncommitted changes" if tags.get(run_tags.GIT_DIRTY) == "true" else "",
        "id": run.id,
    }


def _json_for_script(content: Any) -> str:
    """Encode as JSON that can be embedded in a script element. Numbers that are not finite become null."""
    from plotly.utils import PlotlyJSONEncoder

    encoded = json.dumps(content, cls=PlotlyJSONEncoder)
    return encoded.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
