"""One HTML page on runs, which opens anywhere: it asks no other host for anything, and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_exp.errors import UserError
from cifar_exp.review import charts, comparison, paired, report_pairs, run_record, run_results, tables
from cifar_exp.review.comparison import Comparison
from cifar_exp.review.query import SHORT
from cifar_exp.review.run_record import RunRecord
from cifar_exp.review.run_results import RunResults
from cifar_exp.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

DETAILED = 12  # runs with curves, predictions and settings, the most accurate ones


def of_store(store: Store, runs: Sequence[Run], title: str) -> str:
    """The page on runs of a store, in this order.

    Raises:
        UserError: if the store is away.
    """
    known = [run_record.of_run(run) for run in runs]
    chosen = _best(known)
    detailed = [run_results.of_run(store, runs[at]) for at in chosen]
    links = {run.id: store.run_address(run.id) for run in known if run.id} if store.is_server else {}
    return _page(title, known, chosen, detailed, f"experiment {store.experiment!r} of {store.uri}", links)


def of_folders(folders: Sequence[Path], title: str) -> str | None:
    """The page on the runs that were trained in these folders; None if there are none. It needs no store."""
    found = [(folder, run) for folder in folders if (run := run_record.of_folder(folder))]
    if not found:
        return None
    found.sort(key=lambda one: -(one[1].accuracy if one[1].accuracy is not None else -1.0))
    known = [run for _, run in found]
    chosen = _best(known)
    return _page(title, known, chosen, [run_results.of_folder(found[at][0]) for at in chosen], "", {})


def _best(runs: Sequence[RunRecord]) -> list[int]:
    """Which of them are looked at closely; in their own order."""
    order = sorted(range(len(runs)), key=lambda at: -(runs[at].accuracy or -1.0))
    return sorted(order[:DETAILED])


def _page(
    title: str,
    runs: Sequence[RunRecord],
    chosen: Sequence[int],
    detailed: Sequence[RunResults],
    where: str,
    links: Mapping[str, str],
) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from plotly.offline import get_plotlyjs

    close = [runs[at] for at in chosen]
    names = _distinct_names(close)
    compared = comparison.compare(runs)
    alike = _Alike.of(close, detailed)
    drawn = {
        "curves": charts.curves(names, [detail.history for detail in detailed]),
        "parallel": charts.parallel(runs),
        "costs": charts.costs(runs),
    }
    pairs = None
    if len(alike.members) > 1:
        members = alike.members
        pairs = report_pairs.of([names[at] for at in members], [detailed[at] for at in members], alike.images)
    folder = resources.files("cifar_exp.review") / "page"
    with resources.as_file(folder) as path:
        environment = Environment(
            loader=FileSystemLoader(path), autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )
        scripts = [get_plotlyjs(), (path / "report.js").read_text(encoding="utf-8")]
        return environment.get_template("report.html").render(
            title=title,
            where=where,
            made=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            count=len(runs),
            detailed=len(close),
            table=_table(compared),
            links=[links.get(run.id or "") for run in runs],
            seeds=_over_seeds(runs, compared.notes),
            names=names,
            looks=charts.looks(len(close)),
            charts=drawn,
            pairs=pairs,
            notes=alike.notes,
            devices=sorted({device for run in runs if (device := run.tags.get("cifar_exp.device"))}),
            classes=_classes(close),
            settings=_settings(close),
            reproduce=[_reproduce(name, run) for name, run in zip(names, close, strict=True)],
            json=_embedded({"charts": drawn, "pairs": pairs}),
            css=(path / "report.css").read_text(encoding="utf-8"),
            scripts=scripts,
            hashes=[_hash(script) for script in scripts],
        )


@dataclass(frozen=True)
class _Alike:
    """Which of the runs can be set side by side, image by image."""

    members: tuple[int, ...]
    images: Any
    notes: tuple[str, ...]

    @classmethod
    def of(cls, runs: Sequence[RunRecord], detailed: Sequence[RunResults]) -> _Alike:
        """Those with predictions of the same images as the first has."""
        known = [at for at, detail in enumerate(detailed) if detail.predictions is not None]
        notes = [detail.problem for detail in detailed if detail.problem]
        members: list[int] = []
        for at in known:
            try:
                paired.check_same([_predicted(runs[one], detailed[one]) for one in (*members[:1], at)])
                members.append(at)
            except UserError as error:
                notes.append(str(error))
        if len(members) < 2:
            return cls(tuple(members), None, tuple(notes))
        images, missing = run_results.images([runs[at] for at in members])
        return cls(tuple(members), images, (*notes, missing) if missing else tuple(notes))


def _predicted(run: RunRecord, detail: RunResults) -> paired.Predicted:
    assert detail.predictions is not None
    return paired.Predicted(run.id or run.name, run.test_digest, detail.predictions)


def _distinct_names(runs: Sequence[RunRecord]) -> list[str]:
    """Each with the beginning of its id where another has the same."""
    names = [run.name for run in runs]
    return [f"{run.name} ({(run.id or '-')[:SHORT]})" if names.count(run.name) > 1 else run.name for run in runs]


def _table(compared: Comparison) -> dict[str, Any]:
    """Headings, rows, whether each column is of numbers, notes; the name stands first."""
    headings, rows = tables.cells(compared)
    at = headings.index("name")
    order = [at, *(other for other in range(len(headings)) if other != at)]
    return {
        "headings": [tables.in_two_lines(headings[at]).strip() for at in order],
        "rows": [[row[at] for at in order] for row in rows],
        "numeric": [tables.numeric(rows)[at] for at in order],
        "notes": compared.notes,
    }


def _over_seeds(runs: Sequence[RunRecord], said: Sequence[str]) -> dict[str, Any] | None:
    """The table over repeated seeds, where there are any; without the notes that were said before."""
    if len({run.params.get("seed") for run in runs if run.accuracy is not None}) < 2:
        return None
    grouped = comparison.grouped(runs)
    if not (grouped.frame["n"] > 1).any():
        return None
    return _table(replace(grouped, notes=tuple(note for note in grouped.notes if note not in said)))


def _classes(runs: Sequence[RunRecord]) -> dict[str, Any]:
    """F1 of each class and run, and how it is shaded: from 0 for the least of the table to 1 for the most."""
    known = list(dict.fromkeys(key for run in runs for key in run.metrics if key.startswith("test/f1/")))
    scores = [[run.metrics.get(key) for key in known] for run in runs]
    measured = [score for row in scores for score in row if score is not None]
    low, high = (min(measured), max(measured)) if measured else (0.0, 1.0)
    shades = [[None if one is None else round((one - low) / (high - low or 1), 3) for one in row] for row in scores]
    return {"names": [key.removeprefix("test/f1/") for key in known], "scores": scores, "shades": shades}


def _settings(runs: Sequence[RunRecord]) -> list[tuple[str, list[str]]]:
    """All that differs: the parameter, and its value in each run."""
    return [(key, [run.params.get(key, "-") for run in runs]) for key in comparison.differing(runs)]


def _reproduce(name: str, run: RunRecord) -> dict[str, str | None]:
    tags = run.tags
    return {
        "name": name,
        "command": f"python -m cifar_exp {tags.get('cifar_exp.overrides', '')}".rstrip(),
        "commit": tags.get("cifar_exp.git_commit", "unknown"),
        "dirty": " with uncommitted changes" if tags.get("cifar_exp.git_dirty") == "true" else "",
        "id": run.id,
    }


def _embedded(content: Any) -> str:
    """JSON that ends no script element."""
    return json.dumps(content, allow_nan=False).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hash(script: str) -> str:
    """As a content security policy names it: no other script runs in the page."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
