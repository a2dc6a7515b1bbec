"""Queue of finished runs that wait for a review."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

from cifar_exp.review import query, verdicts
from cifar_exp.tracking import addresses, run_tags
from cifar_exp.tracking.store import Store
from cifar_exp.tracking.untrusted import moment

_WAITING = (verdicts.UNREVIEWED, verdicts.RERUN)


@dataclass(frozen=True)
class WaitingRun:
    """A run that waits for a review.

    Attributes:
        run_id: MLflow's run id.
        name: of the run.
        by: user who started the run.
        ended: when the run ended, in UTC.
        accuracy: on the test images; `None` if it was not logged.
        outcome: of the training, such as completed or collapsed.
        state: unreviewed or rerun-requested.
        objections: reasons against an approval; approving the run in spite of them needs a reason.
        address: URL of the run's page in the MLflow UI.
    """

    run_id: str
    name: str
    by: str
    ended: datetime
    accuracy: float | None
    outcome: str
    state: str
    objections: tuple[str, ...]
    address: str

    @property
    def lines(self) -> list[str]:
        """Lines for the terminal."""
        accuracy = "no test accuracy" if self.accuracy is None else f"test accuracy {self.accuracy:.4f}"
        head = f"{self.run_id[: query.SHORT_ID]}  {self.name}  {accuracy}, {self.outcome}, {self.state}"
        when = f"by {self.by}, ended {self.ended:%Y-%m-%d %H:%M} UTC"
        objections = [f"  an approval needs a reason: {'; '.join(self.objections)}"] if self.objections else []
        return [f"{head}; {when}", *objections, f"  {self.address}"]

    def as_data(self) -> Mapping[str, object]:
        """JSON-compatible mapping."""
        return asdict(self) | {"ended": self.ended.isoformat()}


def waiting_runs(store: Store) -> list[WaitingRun]:
    """List the finished runs that are unreviewed or for which a rerun was requested, by the time they ended.

    Runs that a search has pruned are not listed: they have no model to review.

    Raises:
        UserError: if the store cannot be read.
    """
    finished_runs = query.search(store, "attributes.status = 'FINISHED'")
    jobs = [
        run
        for run in finished_runs
        if query.has_model(run.data.tags)
        and run.data.tags.get(run_tags.OUTCOME) != run_tags.PRUNED
        and verdicts.state(run) in _WAITING
    ]
    return [
        WaitingRun(
            run.info.run_id,
            run.info.run_name,
            verdicts.owner(run) or "unknown",
            moment(run.info.end_time or run.info.start_time),
            run.data.metrics.get("test/accuracy"),
            run.data.tags.get(run_tags.OUTCOME, "unknown"),
            verdicts.state(run),
            verdicts.objections(run),
            addresses.run(store, run.info.run_id),
        )
        for run in sorted(jobs, key=lambda run: (run.info.end_time or run.info.start_time or 0, run.info.run_id))
    ]
