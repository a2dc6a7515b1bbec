"""What people say of a run: approved, rejected, or to be run again. Every verdict is kept.

A verdict is a tag of its own, `review.verdict.<UTC time>.<who>.<chance>`, so that no two people write the same one. The
newest is what counts: `review.state`, `review.by`, `review.note` and the run's description are made from these tags,
and made again until they agree, so that of verdicts said at the same moment all show the one with the later time.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cifar_exp.errors import UserError
from cifar_exp.review import description
from cifar_exp.review.query import SHORT
from cifar_exp.tracking.store import Store
from cifar_exp.tracking.untrusted import parse_json
from cifar_exp.training.outcome import COLLAPSED

if TYPE_CHECKING:
    from mlflow.entities import Run

UNREVIEWED, APPROVED, REJECTED, RERUN = "unreviewed", "approved", "rejected", "rerun-requested"
NOTE = "mlflow.note.content"  # the description
LONGEST = 1000  # characters of a note or a reason; a tag holds 8,000 and is silently cut

_DIVERGED = "diverged"
_PREFIX = "review.verdict."
_TIME = "%Y-%m-%dT%H-%M-%S.%fZ"
_TRIES = 100


@dataclass(frozen=True)
class Verdict:
    """What somebody said of a run."""

    state: str
    by: str
    at: datetime
    note: str = ""
    even_though: str = ""
    """Why it was approved in spite of the objections."""
    objections: tuple[str, ...] = ()

    @property
    def lines(self) -> list[str]:
        """For a terminal."""
        head = f"  {self.at:%Y-%m-%d %H:%M:%S} UTC  {self.state} by {self.by}" + (f": {self.note}" if self.note else "")
        reason = f"    even though {'; '.join(self.objections)}: {self.even_though}"
        return [head, reason] if self.objections else [head]

    def as_data(self) -> Mapping[str, object]:
        """For JSON."""
        return asdict(self) | {"at": self.at.isoformat()}


def history(run: Run) -> list[Verdict]:
    """Every verdict on the run, the oldest first. What is in no form of ours is none."""
    said = []
    for key, value in run.data.tags.items():
        if key.startswith(_PREFIX) and (verdict := _read(key, value)):
            said.append((verdict.at, key, verdict))
    return [verdict for _, _, verdict in sorted(said, key=lambda one: one[:2])]


def state(run: Run) -> str:
    """By the newest verdict; a tag `review.state` that somebody set by hand does not count."""
    said = history(run)
    return said[-1].state if said else UNREVIEWED


def objections(run: Run) -> tuple[str, ...]:
    """Why the run should not be approved."""
    tags = run.data.tags
    outcome = tags.get("cifar_exp.outcome", "unknown")
    found = []
    if run.info.status != "FINISHED":
        found.append(f"it is {run.info.status}, not FINISHED")
    if outcome == COLLAPSED:
        found.append("it collapsed: it ended with the accuracy of chance")
    if outcome == _DIVERGED:
        found.append("it diverged")
    if "cifar_exp.warning" in tags or run.data.params.get("data.validation") == "test":
        found.append("it was validated on the test images")
    if tags.get("cifar_exp.git_dirty") == "true":
        found.append("its code had uncommitted changes")
    return tuple(found)


def check_reviewable(run: Run) -> None:
    """Raises UserError for a run that is a sweep's parent."""
    if run.data.tags.get("cifar_exp.kind") == "sweep":
        raise UserError(f"run {run.info.run_id[:SHORT]} is the sweep {run.info.run_name!r}: review its jobs")


def give(
    store: Store, run: Run, state: str, by: str, note: str = "", even_though: str = "", allow_own: bool = False
) -> Run:
    """Say a verdict.

    Args:
        store: of the run.
        run: as it was last read.
        state: APPROVED, REJECTED or RERUN.
        by: who says it.
        note: what else there is to say.
        even_though: why it is approved in spite of what speaks against it.
        allow_own: whether it may be the reviewer's own run that is approved.

    Returns:
        The run with this verdict.

    Raises:
        UserError: if the rules or the server do not let it be said.
    """
    check_reviewable(run)
    against = objections(run) if state == APPROVED else ()
    for text in (note, even_though):
        if len(text) > LONGEST:
            raise UserError(f"a note has at most {LONGEST:,} characters, this one {len(text):,}")
    if state == APPROVED and not allow_own and owner(run) == by:
        raise UserError(
            f"{run.info.run_name} is your own run, {by}: somebody else has to approve it "
            "(review.allow_own=true in conf/config.yaml, or after the command, lets you)"
        )
    if against and not even_though:
        raise UserError(
            f"{run.info.run_name} cannot be approved: {'; '.join(against)}; "
            '--even-though "reason" approves it nevertheless, and is kept'
        )
    before = history(run)
    # Later than what it answers, whatever the clocks of two machines say.
    now = max([datetime.now(UTC), *(verdict.at + timedelta(microseconds=1) for verdict in before[-1:])])
    verdict = Verdict(state, by, now, note, even_though if against else "", against)
    with store.asked() as client:
        client.set_tag(run.info.run_id, _key(verdict), _value(verdict))
    return settle(store, run.info.run_id)


def owner(run: Run) -> str | None:
    """Who started it."""
    found: str | None = run.data.tags.get("mlflow.user")
    return found


def settle(store: Store, run_id: str) -> Run:
    """Make the tags that show the state, and the description, say what the history says.

    Whoever wrote last has looked after writing: what it saw agreed, or it wrote again.

    Raises:
        UserError: if the server does not permit it.
    """
    with store.asked() as client:
        from mlflow.entities import RunTag

        for _ in range(_TRIES):
            run = client.get_run(run_id)
            tags = {key: value for key, value in _shown(run).items() if run.data.tags.get(key, "") != value}
            if not tags:
                break
            client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
    return run


def _shown(run: Run) -> dict[str, str]:
    said = history(run)
    if not said:
        return {}
    newest = said[-1]
    note = description.with_reviews(run.data.tags.get(NOTE, ""), [_line(verdict) for verdict in said])
    return {
        "review.state": newest.state,
        "review.by": newest.by,
        "review.note": newest.note or newest.even_though,
        NOTE: note,
    }


def _line(verdict: Verdict) -> str:
    """For the description."""
    reason = f"even though {'; '.join(verdict.objections)}: {verdict.even_though}" if verdict.objections else ""
    said = ". ".join(part for part in (verdict.note, reason) if part)
    return description.line(f"**{verdict.state}** by {verdict.by}, {verdict.at:%Y-%m-%d %H:%M} UTC", said)


def _key(verdict: Verdict) -> str:
    who = re.sub(r"[^A-Za-z0-9_-]", "_", verdict.by)[:100]
    return f"{_PREFIX}{verdict.at:{_TIME}}.{who}.{secrets.token_hex(3)}"


def _value(verdict: Verdict) -> str:
    content = asdict(verdict) | {"at": verdict.at.isoformat()}
    return json.dumps({key: value for key, value in content.items() if value}, ensure_ascii=False)


def _read(key: str, value: str) -> Verdict | None:
    try:
        content = parse_json(value)
        at = datetime.fromisoformat(content["at"])
        texts = [content["state"], content["by"], content.get("note", ""), content.get("even_though", "")]
        against = content.get("objections", [])
        if at.tzinfo is None or content["state"] not in (APPROVED, REJECTED, RERUN) or not _are_texts(texts, against):
            return None
        state, by, note, even_though = texts
        return Verdict(state, by, at, note, even_though, tuple(against))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _are_texts(texts: Sequence[object], against: object) -> bool:
    return isinstance(against, list) and all(isinstance(text, str) for text in (*texts, *against))
