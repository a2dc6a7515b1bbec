"""The page of a data set: one HTML file that loads nothing and has no scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cifar_exp.data import summary
from cifar_exp.data.analysis import TRAINING
from cifar_exp.data.splits import Split
from cifar_exp.evaluation import html_page
from cifar_exp.evaluation.pictures import as_data_uri

_SHOWN_CLASSES = 200  # with samples
_GROUPS = 24  # groups of duplicates with pictures
_MEMBERS = 6  # pictures of a group
_BAD = 1000  # bad images that are listed


def render(
    found: Mapping[str, Any],
    parts: Mapping[str, Split],
    files: Mapping[str, Any] | None = None,
    refusals: Sequence[str] = (),
) -> str:
    """Create the page. Everything on it is data, so all text is escaped.

    Args:
        found: as `data.analysis.analyse` gives it for `parts`.
        parts: split -> images and labels.
        files: as `data.headers.summarize` gives it, if the data set is made of files.
        refusals: why a run would be refused.

    Returns:
        The page as HTML.
    """
    return html_page.render(
        "cifar_exp.evaluation",
        "data",
        found=found,
        title=Path(found["source"]).name if files else found["name"],
        remarks=summary.remarks(found, refusals),
        facts=summary.facts(found, files),
        files=files,
        splits=sorted(found["counts"], key=lambda split: split != TRAINING),
        most=max(map(max, found["counts"].values())),
        samples=_samples(parts, found["classes"]),
        copies=[
            ("Same pixels", found["duplicates"], _groups(found["duplicates"], parts)),
            ("Near duplicates", found["near_duplicates"], _groups(found["near_duplicates"], parts)),
        ],
        bad=found["bad"]["images"][:_BAD],
    )


def _samples(parts: Mapping[str, Split], classes: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Class name and pictures of random images of each class, the same each time."""
    split = parts.get(TRAINING) or next(iter(parts.values()))
    count = 10 if len(classes) <= 20 else 6 if len(classes) <= 100 else 3
    generator = np.random.default_rng(0)
    shown = []
    for label, name in enumerate(classes[:_SHOWN_CLASSES]):
        members = np.flatnonzero(split.labels == label)
        chosen = np.sort(generator.choice(members, min(count, len(members)), replace=False))
        shown.append((name, [as_data_uri(image) for image in split.images[chosen]]))
    return shown


def _groups(copies: Mapping[str, Any], parts: Mapping[str, Split]) -> list[dict[str, Any]]:
    """The first groups of duplicates with their pictures."""
    shown = []
    for group in copies["listed"][:_GROUPS]:
        first = group["members"][:_MEMBERS]
        members = [{**one, "picture": as_data_uri(parts[one["split"]].images[one["index"]])} for one in first]
        shown.append({"members": members, "hidden": group["images"] - len(members)})
    return shown
