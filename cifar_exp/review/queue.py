"""The finished runs that wait for a reviewer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from cifar_exp.review import query, verdicts
from cifar_exp.tracking.store import Store

_WAITING = (verdicts.UNREVIEWED, verdicts.RERUN)


@dataclass(frozen=True)
class Waiting:
    """A run, with what a reviewer needs to know first."""

    run_id: str
    name: str
    by: str
    ended: datetime
    accuracy: float | None
    """On the test images."""
    outcome: str
    state: str
    objections: tuple[str, ...]
    """What an approval would have to give a reason for."""
    address: str

    @property
    def lines(self) -> list[str]:
        """For a terminal."""
        accuracy = "no test accuracy" if self.accuracy is None else f"test accuracy {self.accuracy:.4f}"
        head = f"{self.run_id[: query.SHORT]}  {self.name}  {accuracy}, {self.outcome}, {self.state}"
        when = f"by {self.by}, ended {self.ended:%Y-%m-%d %H:%M} UTC"
        against = [f"  an approval needs a reason: {'; '.join(self.objections)}"] if self.objections else []
        return [f"{head}; {when}", *against, f"  {self.address}"]

    def as_data(self) -> Mapping[str, object]:
        """For JSON."""
        return asdict(self) | {"ended": self.ended.isoformat()}


def waiting(store: Store) -> list[Waiting]:
    """Finished runs that nobody has looked at, or that are to be run again; the one that ended first comes first.

    Raises:
        UserError: if the store cannot be read.
    """
    found = query.search(store, "attributes.status = 'FINISHED'")
    jobs = [run for run in found if run.data.tags.get("cifar_exp.kind") != "sweep" and verdicts.state(run) in _WAITING]
    return [
        Waiting(
            run.info.run_id,
            run.info.run_name,
            verdicts.owner(run) or "unknown",
            datetime.fromtimestamp((run.info.end_time or run.info.start_time) / 1000, UTC),
            run.data.metrics.get("test/accuracy"),
            run.data.tags.get("cifar_exp.outcome", "unknown"),
            verdicts.state(run),
            verdicts.objections(run),
            store.run_address(run.info.run_id),
        )
        for run in sorted(jobs, key=lambda run: (run.info.end_time or run.info.start_time, run.info.run_id))
    ]
