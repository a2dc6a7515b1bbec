"""A running search: which job is next, the results of its trials, and when it ends."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from omegaconf.errors import OmegaConfBaseException

from cifar_exp.config.dimension import Point
from cifar_exp.config.plan import Plan
from cifar_exp.config.schema import Config
from cifar_exp.errors import UserError
from cifar_exp.search import confirming, records, sampling
from cifar_exp.search.progress import Progress
from cifar_exp.search.pruning import Pruner
from cifar_exp.search.settings import OF_EPOCHS, Settings
from cifar_exp.search.trials import COMPLETE, FAILED, INTERRUPTED, PRUNED, RUNNING, Search, Trial, Trials
from cifar_exp.sweep.result import RESULT, JobResult
from cifar_exp.sweep.source import Judge
from cifar_exp.sweep.task import Kind, Task

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A trial, or a run that confirms one, as a job of the sweep."""

    number: int
    """From 1."""
    overrides: tuple[str, ...]


class Driver:
    """Gives the pool, or Hydra's own launcher, one job after another: a `sweep.source.Source`.

    It holds nothing that the runs do not: `rebuild` reads them.

    Args:
        plan: of the search.
        settings: of the search.
    """

    def __init__(self, plan: Plan, settings: Settings) -> None:
        assert plan.space is not None
        self._plan, self._settings, self._space = plan, settings, plan.space
        self.epochs = max(job.training.epochs for job in plan.jobs)
        self._distributions = sampling.distributions(plan.space)
        self._pruner = Pruner.of(settings, self.epochs)
        self.judge: Judge | None = self._pruner
        self.compose: Callable[[Job], Task] | None = None
        """Makes a task of a job; set by what launches the jobs."""
        self._rows: dict[int, Trial] = {}  # by the number of the job
        self._earlier: tuple[Trial, ...] = ()  # of another sweep
        self._given: set[int] = set()  # numbers of the jobs that this command has started
        self._waiting: list[Task] = []
        self._given_up = self._no_more = False
        self._began = time.monotonic()
        self._changed: Callable[[Trials], None] = lambda trials: None
        self.progress = Progress(settings, self.epochs, self._began)

    @property
    def configs(self) -> Sequence[Config]:
        """Of the jobs that were checked: all trials use their data and stores."""
        return self._plan.jobs

    # What a search knows

    def rebuild(self, rows: Sequence[Trial], earlier: Sequence[Trial] = ()) -> None:
        """Take the trials of earlier commands.

        Args:
            rows: trials of this search, and the runs that confirm some.
            earlier: finished jobs of another sweep, which the sampler takes into account.
        """
        self._rows = {row.job: row for row in rows}
        self._earlier = tuple(earlier)
        for row in rows:
            if not row.confirmed and row.state != FAILED:
                self._pruner.set(row.trial, row.history)

    def on_change(self, call: Callable[[Trials], None]) -> None:
        """Have all trials passed on whenever one has started or ended."""
        self._changed = call

    @property
    def trials(self) -> Trials:
        """All trials so far, in the order of their numbers, then the runs that confirm some."""
        rows = sorted(self._rows.values(), key=lambda row: (row.confirmed, row.trial, row.seed))
        settings = self._settings
        search = Search(
            settings.metrics,
            settings.directions,
            settings.sampler,
            settings.pruner,
            settings.seed,
            settings.n_trials,
            self.epochs,
            self._pruner.rungs(),
            self._distributions,
        )
        return Trials(search, (*self._earlier, *rows))

    # What the pool asks

    def most(self) -> int:
        """Number of jobs that could run at once: trials that are left, or the runs that confirm some."""
        left = self._settings.n_trials - self._count(COMPLETE, PRUNED, FAILED, RUNNING)
        confirm = self._settings.confirm
        return max(left, confirm.best * confirm.seeds if confirm else 1, 1)

    def next(self, kind: Kind | None) -> Task | None:
        """Choose what runs next, as `sweep.source.Source` says.

        First what was interrupted, then the paused trials that now belong to the best at their rung, then new points;
        when all trials have ended, the runs that confirm the best.
        """
        if self._waiting:
            return self._waiting.pop(0)
        while not self._given_up and (job := self._job()):
            if task := self._task(job):
                return task
        self._no_more = not self._running
        return None

    def _task(self, job: Job) -> Task | None:
        """Start a job; None if its settings cannot run, although both ends of their ranges can."""
        assert self.compose is not None
        self._given.add(job.number)
        try:
            task = self.compose(job)
        except (UserError, OmegaConfBaseException) as error:
            row = self._rows[job.number] = replace(self._rows[job.number], state=FAILED)
            log.error("trial %d cannot run: %s", row.trial, error)
            return None
        (task.folder / RESULT).unlink(missing_ok=True)  # of the trial before it paused
        row = records.started(self._rows[job.number], time.time_ns() // 1_000_000)
        self._rows[job.number] = replace(row, name=row.name or task.name)
        self._changed(self.trials)
        return task

    def put_back(self, task: Task) -> None:
        """It is given before any other."""
        self._waiting.insert(0, task)

    def report(self, number: int, history: Sequence[float]) -> None:
        """Take the objective of a running trial after each epoch so far."""
        row = self._rows[number] = records.reported(self._rows[number], history, self._settings)
        self._pruner.set(row.trial, row.history)

    def ask(self, number: int, trial: int, history: list[float]) -> bool:
        """As a job in this process asks: take its objective, and decide whether it pauses."""
        self.report(number, history)
        return self._pruner.report(trial, history)

    def ended(self, task: Task, result: JobResult | None) -> None:
        """Take the result of a job."""
        before = self._rows[task.number]
        row = records.ended(before, result, self._settings, time.time_ns() // 1_000_000)
        if row.state == INTERRUPTED and not self._given_up:  # it ended without a result: it would do so again
            row = replace(row, state=FAILED)
        self._rows[task.number] = row
        if row.state == FAILED and task.config.sweep.fail_fast:
            self.clear()
        if not row.confirmed and row.state != FAILED:
            self._pruner.set(row.trial, row.history)
        self._changed(self.trials)
        log.info("%s", self.progress.line(self.trials, self._space))

    def clear(self, reason: str | None = None) -> None:
        """Give no further job."""
        self._given_up = True
        self._waiting.clear()

    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        return not self._waiting and (self._given_up or self._no_more)

    def is_finished(self) -> bool:
        """Whether nothing is left to do, asked before anything is started."""
        return self._job(only_look=True) is None

    # What is next

    def _job(self, only_look: bool = False) -> Job | None:
        """The next job; `only_look`: whether there is one, which need not be asked of the sampler."""
        for number, row in sorted(self._rows.items()):
            if row.state == INTERRUPTED and number not in self._given:
                return self._trial_job(row) if not row.confirmed else self._confirming_job(row)
        if not self._stops():
            paused = {row.trial: row for row in self._trials if row.state == PRUNED}
            if (promoted := self._pruner.promotable(paused)) is not None:
                return self._trial_job(paused[promoted])
            if len(self._trials) < self._settings.n_trials:
                return Job(0, ()) if only_look else self._new_trial()
        confirm = self._settings.confirm
        if confirm is None or any(not row.confirmed for row in self._running):
            return None
        missing = confirming.missing(self.trials, confirm, self._base_seed)
        if not missing:
            return None
        trial, seed = missing[0]
        row = replace(trial, job=self._free_number(), confirmed=True, seed=seed, **confirming.BLANK)
        if not only_look:
            self._rows[row.job] = row
        return self._confirming_job(row)

    def _new_trial(self) -> Job | None:
        numbers = {row.trial for row in self._trials}
        number = next(n for n in range(1, len(numbers) + 2) if n not in numbers)
        asked = sampling.ask(self._space, self._settings, self.trials, number)
        if asked is None:
            return None
        point, attributes = asked
        values = (None,) * len(self._settings.metrics)
        row = Trial(number, RUNNING, point, values, job=self._free_number(), attributes=attributes)
        self._rows[row.job] = replace(row, seed=int(point.get("seed", self._base_seed)))
        return self._trial_job(row)

    def _trial_job(self, row: Trial) -> Job:
        metric, of_trial = self._settings.metrics[0], [f"sweep.trial.number={row.trial}"]
        if metric in OF_EPOCHS:
            released = row.epochs if row.state == PRUNED else 0
            of_trial += [f"sweep.trial.metric={metric}", f"sweep.trial.released={released}"]
        return Job(row.job, (*self._common(row.params), *of_trial))

    def _confirming_job(self, row: Trial) -> Job:
        confirm = self._settings.confirm
        jobs = self._plan.count + (confirm.best * confirm.seeds if confirm else 0)
        varies = ",".join(f"'{key}'" for key in (*self._space.keys, "seed"))
        own = (
            f"seed={row.seed}",
            f"sweep.trial.confirms={row.trial}",
            f"sweep.jobs={jobs}",
            f"sweep.varies=[{varies}]",
        )
        return Job(row.job, (*self._common(row.params), *own))

    def _common(self, point: Point) -> tuple[str, ...]:
        return (*self._plan.fixed, *self._space.overrides(point), *self._plan.of_the_sweep, *self._plan.arguments)

    def _free_number(self) -> int:
        return next(number for number in range(1, len(self._rows) + 2) if number not in self._rows)

    @property
    def _base_seed(self) -> int:
        return self._plan.jobs[0].seed

    @property
    def _trials(self) -> list[Trial]:
        return [row for row in self._rows.values() if not row.confirmed]

    @property
    def _running(self) -> list[Trial]:
        return [row for row in self._rows.values() if row.state == RUNNING]

    def _count(self, *states: str) -> int:
        return sum(row.state in states for row in self._trials)

    # When it ends

    def _stops(self) -> bool:
        """Whether time or patience is over, so that no trial is started."""
        settings = self._settings
        if settings.timeout is not None and time.monotonic() - self._began >= settings.timeout:
            return self._say_once(f"hydra.sweeper.timeout={settings.timeout:g}: no further trial is started")
        if settings.patience is not None:
            best = next(iter(confirming.ranked(self.trials)), None)
            since = [row for row in self._trials if row.state in (COMPLETE, PRUNED, FAILED)]
            if best and sum(row.trial > best.trial for row in since) >= settings.patience:
                return self._say_once(
                    f"hydra.sweeper.patience={settings.patience}: no improvement for this many trials since trial "
                    f"{best.trial}; no further trial is started"
                )
        return False

    def _say_once(self, text: str) -> bool:
        self.progress.say_once(text)
        return True
