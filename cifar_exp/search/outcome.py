"""The outcome of a search: its jobs, whether it found something, and the summary for the user."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cifar_exp.config.plan import Plan
from cifar_exp.review.section import Section
from cifar_exp.search.driver import Driver
from cifar_exp.search.trials import COMPLETE, FAILED, INTERRUPTED, PRUNED, Trial
from cifar_exp.sweep import parent
from cifar_exp.sweep.result import PRUNED as PRUNED_JOB
from cifar_exp.sweep.result import JobResult

_STATUS = {COMPLETE: "FINISHED", PRUNED: PRUNED_JOB, FAILED: "FAILED", INTERRUPTED: "KILLED"}


class Outcome:
    """The jobs of a search, as `sweep.run` asks for them at the end.

    Args:
        plan: of the search.
        driver: of the search.
    """

    def __init__(self, plan: Plan, driver: Driver) -> None:
        assert plan.folder is not None and plan.space is not None
        self._folder, self._space, self._fixed, self._driver = plan.folder, plan.space, plan.fixed, driver

    def results(self) -> list[JobResult]:
        """Result of each job so far, in order."""
        rows = {row.job: row for row in self._driver.trials.rows if row.job}
        numbers = range(1, max(rows, default=0) + 1)
        return [_result(self._folder / str(number - 1), rows.get(number)) for number in numbers]

    def succeeded(self) -> bool:
        """Whether there is a best trial."""
        return self._driver.progress.best(self._driver.trials) is not None

    def remarks(self) -> Sequence[str]:
        """What was found, and the command that runs it."""
        return self._driver.progress.conclusion(self._driver.trials, self._space, self._fixed)

    def sections(self) -> Sequence[Section]:
        """Charts of the search for the report page."""
        from cifar_exp.search import page  # draws with Plotly

        return page.sections(self._driver.trials)


def _result(folder: Path, row: Trial | None) -> JobResult:
    """Result of a job; from its trial if it ran on another machine."""
    if result := JobResult.read(folder):
        return result
    if row is None:
        return JobResult("", parent.NOT_RUN, 0.0)
    return JobResult(row.name, _STATUS.get(row.state, parent.NOT_RUN), row.seconds, row.run_id)
