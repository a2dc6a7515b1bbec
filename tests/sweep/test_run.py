"""Tests of running a sweep from its first job to its results."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from cifar_exp.config.composition import plan
from cifar_exp.config.plan import Plan
from cifar_exp.sweep import parent
from cifar_exp.sweep import run as sweep
from cifar_exp.sweep.result import JobResult
from cifar_exp.tracking.run import Run
from cifar_exp.tracking.store import Store


@pytest.fixture
def planned(store: Store, tmp_path: Path) -> Plan:
    """Plan of a sweep of two jobs in the shared store."""
    overrides = ["data=digits", "seed=1,2", f"tracking.uri={store.uri}", f"tracking.experiment={store.experiment}"]
    return replace(plan(overrides, multirun=True), folder=tmp_path / "sweep")


def left(planned: Plan, job: int, name: str, overrides: Sequence[str] = ()) -> None:
    """Leave a finished run and its result in the folder of a job."""
    assert planned.folder is not None
    folder, tags = planned.folder / str(job), {"cifar_exp.overrides": shlex.join(overrides)}
    with Run.start(Store.of(planned.jobs[0].tracking), folder, name, tags, {"seed": job}) as run:
        run.log_metrics({"test/accuracy": 0.5})
    JobResult(name, "FINISHED", 1.0, run.id, {"test/accuracy": 0.5}, {}).write(folder)


def test_results_of_an_earlier_sweep_of_the_same_name_are_not_those_of_the_new_one(planned: Plan) -> None:
    assert planned.folder is not None
    left(planned, 1, "run of before")

    def stopped() -> None:
        left(planned, 0, "run of now")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep.run(planned, stopped, "-m seed=1,2")
    assert [job.status for job in parent.results(planned)] == ["FINISHED", parent.NOT_RUN]
    report = (planned.folder / "artifacts" / "sweep" / "report.html").read_text()
    assert "run of now" in report and "run of before" not in report


def test_a_sweep_that_goes_on_and_is_stopped_at_once_keeps_what_has_finished(planned: Plan) -> None:
    left(planned, 1, "finished before", planned.overrides[1])

    def stopped() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep.run(planned, stopped, "-m seed=1,2")
    assert [job.status for job in parent.results(planned)] == [parent.NOT_RUN, "FINISHED"]


def test_a_sweep_is_not_continued_by_a_name_that_none_can_have(planned: Plan, store: Store) -> None:
    assert planned.folder is not None
    tags = {"cifar_exp.overrides": "-m seed=1,2", "cifar_exp.sweep": "${oc.env:HOME}"}  # as a run of the store may have
    Run.start(store, planned.folder, "sweep", tags, {}).finish("KILLED")
    assert parent.find_earlier(planned, "-m seed=1,2") is None
