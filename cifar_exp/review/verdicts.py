"""Review verdicts on runs: approved, rejected or rerun-requested. Every verdict is kept.

Each verdict is a tag of its own, `review.verdict.<UTC time>.<reviewer>.<random>`, so that no two reviewers write the
same tag. The newest verdict counts. `review.state`, `review.by`, `review.note` and the run's description are derived
from these tags and written again until they agree with them, so that they show the newest of simultaneous verdicts.
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
from cifar_exp.review import description, digest, texts
from cifar_exp.review.query import SHORT_ID, has_model
from cifar_exp.tracking import run_tags
from cifar_exp.tracking.store import Store
from cifar_exp.tracking.untrusted import parse_json

if TYPE_CHECKING:
    from mlflow.entities import Run

UNREVIEWED, APPROVED, REJECTED, RERUN = "unreviewed", "approved", "rejected", "rerun-requested"
ACTIONS = {"approve": APPROVED, "reject": REJECTED, "request-rerun": RERUN, "withdraw": UNREVIEWED}
WITHDRAWN = "withdrawn"  # name of a verdict that makes a run unreviewed again
DESCRIPTION_TAG = "mlflow.note.content"

_UNKNOWN = "unknown"  # MLflow's word
_PREFIX = "review.verdict."
_TIME = "%Y-%m-%dT%H-%M-%S.%fZ"
_MAX_UPDATES = 100


@dataclass(frozen=True)
class Verdict:
    """A verdict on a run.

    Attributes:
        state: `APPROVED`, `REJECTED` or `RERUN`.
        by: the reviewer.
        at: time of the verdict, in UTC.
        note: comment of the reviewer.
        even_though: reason for an approval in spite of the objections.
        objections: reasons against the approval at that time.
        digest: of the run at that time (`review.digest`); empty if no server kept the rules.
    """

    state: str
    by: str
    at: datetime
    note: str = ""
    even_though: str = ""
    objections: tuple[str, ...] = ()
    digest: str = ""

    @property
    def name(self) -> str:
        """What the verdict is called: its state, or withdrawn."""
        return WITHDRAWN if self.state == UNREVIEWED else self.state

    @property
    def lines(self) -> list[str]:
        """Lines for the terminal."""
        head = f"  {self.at:%Y-%m-%d %H:%M:%S} UTC  {self.name} by {self.by}" + (f": {self.note}" if self.note else "")
        reason = f"    even though {'; '.join(self.objections)}: {self.even_though}"
        return [head, reason] if self.objections else [head]

    def as_data(self) -> Mapping[str, object]:
        """JSON-compatible mapping."""
        return asdict(self) | {"at": self.at.isoformat()}


def history(run: Run) -> list[Verdict]:
    """All verdicts on a run, the oldest first. Tags that do not hold a valid verdict are ignored."""
    return in_tags(run.data.tags)


def in_tags(tags: Mapping[str, str]) -> list[Verdict]:
    """As `history`, for the tags of a run."""
    dated = []
    for key, value in tags.items():
        if key.startswith(_PREFIX) and (verdict := _parse(value)):
            dated.append((verdict.at, key, verdict))
    return [verdict for _, _, verdict in sorted(dated, key=lambda item: item[:2])]


def state(run: Run) -> str:
    """Review state by the newest verdict; unreviewed again if the run was changed after its approval.

    A tag `review.state` that was set by hand does not count.
    """
    verdicts = history(run)
    if not verdicts or changed_since(run, verdicts[-1]):
        return UNREVIEWED
    return verdicts[-1].state


def changed_since(run: Run, verdict: Verdict) -> bool:
    """Whether a run was changed after an approval that a server has kept."""
    return verdict.state == APPROVED and verdict.digest != "" and verdict.digest != digest.of_run(run)


def objections(run: Run) -> tuple[str, ...]:
    """Reasons why a run should not be approved."""
    tags = run.data.tags
    outcome = tags.get(run_tags.OUTCOME, "unknown")
    reasons = []
    if run.info.status != "FINISHED":
        reasons.append(f"it is {run.info.status}, not FINISHED")
    if outcome == run_tags.COLLAPSED:
        reasons.append("it collapsed: it ended with the accuracy of chance")
    if outcome == run_tags.PRUNED:
        reasons.append("a search pruned it: it was not trained to its end and has no model")
    if outcome == run_tags.DIVERGED:
        reasons.append("it diverged")
    if run_tags.WARNING in tags or run.data.params.get("data.validation") == "test":
        reasons.append("it was validated on the test images")
    if tags.get(run_tags.GIT_DIRTY) == "true":
        reasons.append("its code had uncommitted changes")
    return tuple(reasons)


def check_reviewable(run: Run) -> None:
    """Check that a run can be reviewed.

    Raises:
        UserError: if it is the parent run of a sweep, an evaluation or an explanation.
    """
    kind, short = run.data.tags.get(run_tags.KIND), run.info.run_id[:SHORT_ID]
    if kind == run_tags.SWEEP_KIND:
        raise UserError(f"run {short} is the sweep {run.info.run_name!r}: review its jobs")
    if not has_model(run.data.tags):
        raise UserError(f"run {short} is an {kind}, which has no model: review the run that it is of")


def give(
    store: Store, run: Run, state: str, by: str, note: str = "", even_though: str = "", allow_own: bool = False
) -> Run:
    """Record a verdict on a run.

    Args:
        store: contains the run.
        run: as last read from the store.
        state: `APPROVED`, `REJECTED` or `RERUN`.
        by: the reviewer.
        note: comment, at most 1,000 characters.
        even_though: reason for an approval in spite of the objections, at most 1,000 characters.
        allow_own: allow reviewers to approve their own runs.

    Returns:
        The run with this verdict, read anew.

    Raises:
        UserError: if the review rules or the server forbid it.
    """
    own = "(review.allow_own=true, in conf/config.yaml or as an argument, allows it)"
    verdict = prepare(run, state, by, note, even_though, None if allow_own else own)
    key, value = as_tag(verdict)
    with store.connected() as client:
        client.set_tag(run.info.run_id, key, value)
    return update_shown_tags(store, run.info.run_id)


def prepare(
    run: Run, state: str, by: str, note: str = "", even_though: str = "", own: str | None = "", digest: str = ""
) -> Verdict:
    """Check a verdict against the rules.

    Args:
        run: as last read from the store.
        state: `APPROVED`, `REJECTED`, `RERUN`, or `UNREVIEWED` to withdraw the newest verdict.
        by: the reviewer.
        note: comment, at most 1,000 characters.
        even_though: reason for an approval in spite of the objections, at most 1,000 characters.
        own: what the refusal of an approval of one's own run adds; None permits it.
        digest: of the run, if a server keeps the rules.

    Returns:
        The verdict, dated after all earlier ones.

    Raises:
        UserError: if the review rules forbid it.
    """
    check_reviewable(run)
    run_objections = objections(run) if state == APPROVED else ()
    for text in (note, even_though):
        texts.check(text)
    if state == APPROVED and own is not None and owner(run) == by:
        raise UserError(f"{run.info.run_name} is your own run, {by}: another user has to approve it {own}".rstrip())
    if run_objections and not even_though:
        raise UserError(
            f"{run.info.run_name} cannot be approved: {'; '.join(run_objections)}; "
            '--even-though "reason" approves it anyway, and the reason is recorded'
        )
    earlier = history(run)
    if state == UNREVIEWED and (not earlier or earlier[-1].state == UNREVIEWED):
        raise UserError(f"{run.info.run_name} has no verdict that could be withdrawn")
    # Later than the verdicts before it, even if the clocks of two machines differ.
    now = max([datetime.now(UTC), *(verdict.at + timedelta(microseconds=1) for verdict in earlier[-1:])])
    return Verdict(state, by, now, note, even_though if run_objections else "", run_objections, digest)


def owner(run: Run) -> str | None:
    """User who started a run, or `None` if it was not logged."""
    logged: str | None = run.data.tags.get("mlflow.user")
    user: str | None = run.info.user_id
    return logged or (user if user and user != _UNKNOWN else None)


def update_shown_tags(store: Store, run_id: str) -> Run:
    """Update the tags that show the review state, and the description, to the history of verdicts.

    The run is read again after each write, and written again until it agrees. The last of several simultaneous writers
    therefore sees all verdicts.

    Returns:
        The run as last read.

    Raises:
        UserError: if the server does not permit it.
    """
    with store.connected() as client:
        from mlflow.entities import RunTag

        for _ in range(_MAX_UPDATES):
            run = client.get_run(run_id)
            tags = {
                key: value for key, value in shown_tags(run.data.tags).items() if run.data.tags.get(key, "") != value
            }
            if not tags:
                break
            client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
    return run


def shown_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags that show the review state of a run, and its description, from its verdicts; none without a verdict."""
    verdicts = in_tags(tags)
    if not verdicts:
        return {}
    newest = verdicts[-1]
    text = description.with_reviews(tags.get(DESCRIPTION_TAG, ""), [_list_item(verdict) for verdict in verdicts])
    return {
        "review.state": newest.state,
        "review.by": newest.by,
        "review.note": newest.note or newest.even_though,
        DESCRIPTION_TAG: text,
    }


def _list_item(verdict: Verdict) -> str:
    """Item of the list of reviews in the run's description."""
    reason = f"even though {'; '.join(verdict.objections)}: {verdict.even_though}" if verdict.objections else ""
    text = ". ".join(part for part in (verdict.note, reason) if part)
    return description.list_item(f"**{verdict.name}** by {verdict.by}, {verdict.at:%Y-%m-%d %H:%M} UTC", text)


def as_tag(verdict: Verdict) -> tuple[str, str]:
    """Name and value of the tag that holds a verdict."""
    content = asdict(verdict) | {"at": verdict.at.isoformat()}
    value = json.dumps({key: value for key, value in content.items() if value}, ensure_ascii=False)
    return tag_name(_PREFIX, verdict.at, verdict.by), value


def tag_name(prefix: str, at: datetime, by: str = "") -> str:
    """Name of a tag that no other writer uses: the prefix, the time, the author if given, and something random."""
    author = re.sub(r"[^A-Za-z0-9_-]", "_", by)[:100]
    return f"{prefix}{at:{_TIME}}.{f'{author}.' if author else ''}{secrets.token_hex(3)}"


def _parse(value: str) -> Verdict | None:
    try:
        content = parse_json(value)
        at = datetime.fromisoformat(content["at"])
        texts = [content["state"], content["by"], *(content.get(key, "") for key in ("note", "even_though", "digest"))]
        objections = content.get("objections", [])
        if (
            at.tzinfo is None
            or content["state"] not in (APPROVED, REJECTED, RERUN, UNREVIEWED)
            or not _are_strings(texts, objections)
        ):
            return None
        state, by, note, even_though, of_run = texts
        return Verdict(state, by, at, note, even_though, tuple(objections), of_run)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _are_strings(texts: Sequence[object], objections: object) -> bool:
    return isinstance(objections, list) and all(isinstance(text, str) for text in (*texts, *objections))
