"""Remarks on runs that are no verdicts: comments, and requests that somebody reviews the run.

Each remark is a tag of its own, `review.remark.<UTC time>.<author>.<random>`, as each verdict is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cifar_exp.review import verdicts
from cifar_exp.tracking.untrusted import parse_json

if TYPE_CHECKING:
    from mlflow.entities import Run

_PREFIX = "review.remark."


@dataclass(frozen=True)
class Remark:
    """A comment on a run, or a request to review it.

    Attributes:
        by: its author.
        at: when it was made, in UTC.
        text: the comment.
        reviewer: who is asked to review the run; empty for a comment.
    """

    by: str
    at: datetime
    text: str = ""
    reviewer: str = ""


def of_run(run: Run) -> list[Remark]:
    """All remarks on a run, the oldest first. Tags that do not hold a valid remark are ignored."""
    return in_tags(run.data.tags)


def in_tags(tags: Mapping[str, str]) -> list[Remark]:
    """As `of_run`, for the tags of a run."""
    found = [_parse(value) for key, value in tags.items() if key.startswith(_PREFIX)]
    return sorted((remark for remark in found if remark), key=lambda remark: remark.at)


def asked(tags: Mapping[str, str]) -> list[str]:
    """Who was asked to review the run since its newest verdict."""
    given = verdicts.in_tags(tags)
    since = given[-1].at if given else datetime.min.replace(tzinfo=UTC)
    return sorted({remark.reviewer for remark in in_tags(tags) if remark.reviewer and remark.at > since})


def as_tag(remark: Remark) -> tuple[str, str]:
    """Name and value of the tag that holds a remark."""
    content = asdict(remark) | {"at": remark.at.isoformat()}
    value = json.dumps({key: value for key, value in content.items() if value}, ensure_ascii=False)
    return verdicts.tag_name(_PREFIX, remark.at, remark.by), value


def _parse(value: str) -> Remark | None:
    try:
        content = parse_json(value)
        at = datetime.fromisoformat(content["at"])
        by, text, reviewer = content["by"], content.get("text", ""), content.get("reviewer", "")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    valid = at.tzinfo is not None and all(isinstance(one, str) for one in (by, text, reviewer))
    return Remark(by, at, text, reviewer) if valid else None
