"""Result of a job of a sweep."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from cifar_exp.tracking import local_run, run_tags
from cifar_exp.tracking.local_run import LocalRun

log = logging.getLogger(__name__)

RESULT = "result.json"
PRUNED = "PRUNED"


@dataclass(frozen=True)
class JobResult:
    """Result of a job of a sweep. It is stored as result.json in the folder of the job, where the sweep reads it."""

    name: str
    status: str
    """FINISHED, PRUNED (a search may continue it), FAILED or KILLED."""
    seconds: float
    run_id: str | None = None
    metrics: dict[str, float] | None = None
    history: dict[str, list[float]] | None = None
    error: str | None = None
    collapsed: bool = False

    @classmethod
    def read(cls, folder: Path) -> JobResult | None:
        """Read the result from the folder of a job; None if it is missing or damaged."""
        path = folder / RESULT
        try:
            return cls(**json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            log.warning("%s is damaged and not used: %s", path, error)
            return None

    def write(self, folder: Path) -> None:
        """Write the result to the folder of a job atomically."""
        part = folder / f"{RESULT}.part"
        part.write_text(json.dumps(asdict(self)))
        part.rename(folder / RESULT)


def from_journal(folder: Path) -> JobResult:
    """Read the result of a finished job from its journal, if it is of an earlier command or its process was killed."""
    run, metrics = LocalRun.read(folder), local_run.metrics(folder)
    assert run is not None
    last = {name: steps[0] for name, steps in metrics.items() if list(steps) == [0]}
    history = {name: list(steps.values()) for name, steps in metrics.items() if 1 in steps and "system/" not in name}
    status = PRUNED if run.is_pruned else local_run.FINISHED
    collapsed = run.tags.get(run_tags.OUTCOME) == run_tags.COLLAPSED
    seconds = (run.ended - local_run.last_started(folder)) / 1000
    return JobResult(run.name, status, seconds, metrics=last, history=history, collapsed=collapsed)
