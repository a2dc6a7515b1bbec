"""Tests of the parent run of a sweep."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import proxy
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

from cifar_exp.config.composition import plan
from cifar_exp.config.plan import Plan
from cifar_exp.errors import UserError
from cifar_exp.sweep import parent
from cifar_exp.sweep.result import JobResult, from_journal
from cifar_exp.tracking import addresses, sync, takeover
from cifar_exp.tracking.journal import Journal
from cifar_exp.tracking.local_run import LocalRun
from cifar_exp.tracking.run import Run
from cifar_exp.tracking.store import Store

COMMAND = "-m optimizer=sgd,adam seed=1,2"
HISTORY = {
    name: [0.5, 0.6] for name in ("train/loss", "train/accuracy", "val/loss", "val/accuracy", "train/learning_rate")
}


def metrics(accuracy: float) -> dict[str, float]:
    scores = {"test/accuracy": accuracy, "test/loss": 1 - accuracy, "val/best_accuracy": accuracy}
    return scores | {"model/parameters": 122_570.0}


@pytest.fixture
def planned(store: Store, tmp_path: Path) -> Plan:
    """Plan of a sweep of four jobs in the shared store."""
    overrides = [
        "optimizer=sgd,adam",
        "seed=1,2",
        f"tracking.uri={store.uri}",
        f"tracking.experiment={store.experiment}",
    ]
    return replace(plan(overrides, multirun=True), folder=tmp_path)


@pytest.fixture
def jobs(planned: Plan, store: Store) -> list[JobResult]:
    """Results of the planned jobs: two finished, one failed, one has no result."""
    assert planned.folder is not None
    left = {
        0: JobResult("baseline-sgd-seed=1", "FINISHED", 12.34, "id0", metrics(0.5), HISTORY),
        1: JobResult("baseline-sgd-seed=2", "FAILED", 3.0, "id1", error="ValueError: a,b\nc"),
        2: JobResult("baseline-adam-seed=1", "FINISHED", 10.0, "id2", metrics(0.75), HISTORY),
    }
    for number, job in left.items():
        (planned.folder / str(number)).mkdir()
        job.write(planned.folder / str(number))
    return parent.results(planned)


def test_the_parent_run_is_found_by_the_name_of_its_sweep(planned: Plan, store: Store) -> None:
    run = parent.start(planned, COMMAND)
    assert run.wait_until_started()
    found = store.find_sweep(planned.sweep_name)
    assert found is not None and found.info.run_id == run.id
    found = store.client.get_run(run.id)
    assert found.info.status == "RUNNING"
    assert found.info.run_name == "sweep of optimizer, seed"
    assert found.data.params == {"sweep.jobs": "4", "sweep.varies": "optimizer, seed"}
    tags = found.data.tags
    assert (tags["cifar_exp.kind"], tags["cifar_exp.overrides"]) == ("sweep", COMMAND)
    assert tags["mlflow.source.name"] == "python -m cifar_exp"
    assert "mlflow.parentRunId" not in tags
    run.finish("FINISHED")


def test_results_include_every_job_in_order(jobs: list[JobResult]) -> None:
    assert [(job.name, job.status) for job in jobs] == [
        ("baseline-sgd-seed=1", "FINISHED"),
        ("baseline-sgd-seed=2", "FAILED"),
        ("baseline-adam-seed=1", "FINISHED"),
        ("baseline-adam-seed=2", parent.NOT_RUN),
    ]


def start_and_lose(planned: Plan) -> Plan:
    """Plan of a sweep that was started and whose process is gone, in its own folder."""
    assert planned.folder is not None
    run = parent.start(planned, COMMAND)
    run.finish("KILLED")
    left = JobResult("baseline-sgd-seed=1", "FINISHED", 12.34, "id0", metrics(0.5), HISTORY)
    (planned.folder / "0").mkdir()
    left.write(planned.folder / "0")
    return planned


def test_a_resumed_sweep_keeps_its_parent_run_and_results(planned: Plan, store: Store, tmp_path: Path) -> None:
    planned = start_and_lose(replace(planned, folder=tmp_path / "sweep"))
    before = store.find_sweep(planned.sweep_name)
    assert parent.find_earlier(planned, COMMAND) == planned.sweep_name
    assert parent.find_earlier(planned, f"{COMMAND} seed=3") is None
    run = parent.start(planned, COMMAND)
    with pytest.raises(UserError, match="this sweep is running, as sweep"):
        parent.find_earlier(planned, COMMAND)
    assert [job.status for job in parent.results(planned)] == ["FINISHED", *[parent.NOT_RUN] * 3]
    run.finish("FINISHED")
    assert before is not None and run.id == before.info.run_id
    assert store.client.get_run(run.id).info.status == "FINISHED"


def test_a_deleted_parent_run_is_replaced_and_the_jobs_are_nested_under_the_new_one(
    planned: Plan, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    planned = replace(planned, folder=tmp_path / "sweep")
    first = parent.start(planned, COMMAND)
    assert first.wait_until_started()

    def job(number: int) -> Run:
        """Log a finished job of the sweep."""
        tags = {"cifar_exp.sweep": planned.sweep_name, "cifar_exp.job": str(number)}
        with Run.start(store, tmp_path / "sweep" / str(number), "job", tags, {}, planned.sweep_name, False, 1) as run:
            return run

    sent = job(0)
    store.client.delete_run(first.id)
    waiting = job(1)  # its events wait because its parent run is deleted
    assert waiting.id is None
    first._drain_seconds = 2
    first.finish("KILLED")
    assert "runs restore --run-id" in caplog.text

    caplog.clear()
    second = parent.start(planned, COMMAND)
    assert second.wait_until_started() and second.id != first.id
    parent.take_in(second, planned.sweep_name)
    messages = [record.getMessage() for record in caplog.records]
    assert f"The parent run of sweep {planned.sweep_name} was deleted: a new one takes its jobs in" in messages
    state = sync.send(tmp_path / "sweep" / "1")
    assert state.is_whole
    for run_id in (sent.id, state.run_id):
        assert store.client.get_run(run_id).data.tags["mlflow.parentRunId"] == second.id
    assert (tmp_path / "sweep" / "0").exists()
    second.finish("FINISHED")


def test_a_new_sweep_sets_an_earlier_one_with_its_name_aside(planned: Plan, tmp_path: Path) -> None:
    planned = start_and_lose(replace(planned, folder=tmp_path / "sweep"))
    afresh = replace(planned, jobs=tuple(replace(job, resume="never") for job in planned.jobs))
    assert parent.find_earlier(afresh, COMMAND) is None
    run = parent.start(afresh, COMMAND)
    assert [job.status for job in parent.results(afresh)] == [parent.NOT_RUN] * 4
    run.finish("FINISHED")
    assert (tmp_path / "sweep.1" / "0" / "result.json").exists()


def test_the_table_has_a_row_for_each_job(jobs: list[JobResult]) -> None:
    frame = parent.table(jobs)
    assert list(frame.columns) == [
        "job", "name", "status", "test/accuracy", "test/loss", "val/best_accuracy", "parameters", "seconds", "run_id",
        "error",
    ]  # fmt: skip
    assert frame["job"].tolist() == [1, 2, 3, 4]
    assert frame["test/accuracy"].dropna().tolist() == [0.5, 0.75]
    assert frame.loc[0, "seconds"] == 12.3
    assert frame.loc[1, "error"] == "ValueError: a,b\nc"


@pytest.mark.parametrize("status", ["FAILED", "not run"])
def test_a_table_without_any_result_can_be_shown(status: str) -> None:
    frame = parent.table([JobResult("a", status, 0.0), JobResult("b", status, 0.0)])
    assert frame["test/accuracy"].isna().all()
    shown = parent.show(frame).splitlines()
    assert len(shown) == 3
    assert shown[1].split() == ["1", "a", *status.split(), "-", "-", "-", "0"]


def test_the_table_is_shown_in_columns(jobs: list[JobResult]) -> None:
    shown = parent.show(parent.table(jobs)).splitlines()
    assert shown[0].split() == ["job", "name", "status", "test/accuracy", "test/loss", "val/best_accuracy", "seconds"]
    assert shown[3].split() == ["3", "baseline-adam-seed=1", "FINISHED", "0.7500", "0.2500", "0.7500", "10"]


def test_the_finished_parent_run_has_table_curves_best_result_and_description(
    planned: Plan, jobs: list[JobResult], store: Store, tmp_path: Path
) -> None:
    run = parent.start(planned, COMMAND)
    frame = parent.table(jobs)
    parent.finish(run, jobs, frame, COMMAND)
    run.finish("FAILED")

    client: Any = store.client
    logged = sorted(item.path for item in client.list_artifacts(run.id, "sweep"))
    assert logged == ["sweep/curves.png", "sweep/results.csv"]
    table = Path(client.download_artifacts(run.id, "sweep/results.csv", str(tmp_path))).read_text()
    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(table)), frame, check_dtype=False)

    found = client.get_run(run.id)
    assert found.info.status == "FAILED"
    assert found.data.metrics == {"sweep/best_test_accuracy": 0.75}
    note = found.data.tags["mlflow.note.content"]
    assert (
        f"| 3 | [baseline-adam-seed=1]({addresses.run(store, 'id2')}) | FINISHED | 0.7500 | 0.2500 | 0.7500 | 10 |"
        in note
    )
    assert "| 4 | baseline-adam-seed=2 | not run | - | - | - | 0 |" in note
    assert f"]({addresses.sweep(store, run.id)})" in note
    assert addresses.compare(store, ["id0", "id1", "id2"]) in note
    assert f"`python -m cifar_exp {COMMAND}`" in note


def test_the_description_of_a_long_sweep_lists_the_best_jobs_that_it_has_room_for(planned: Plan, store: Store) -> None:
    run = parent.start(planned, COMMAND)
    run.wait(30)
    columns = ["job", "name", "status", "test/accuracy", "test/loss", "val/best_accuracy", "seconds", "run_id"]
    rows = [(job, f"job-{job}", "FINISHED", 0.5, 1.0, job % 100 / 100, 9.0, f"{job:032x}") for job in range(1, 301)]
    rows += [(301, "job-301", "not run", None, None, None, 0.0, None)]
    note = parent._note(run, pd.DataFrame(rows, columns=columns), COMMAND, ["A remark."])
    run.finish("KILLED")
    listed = [int(job) for job in re.findall(r"^\| (\d+) \|", note, re.M)]
    assert 7500 < len(note) <= 8000 and listed == sorted(listed) and {99, 199, 299} <= set(listed)
    assert min(job % 100 for job in listed) > 80
    assert f"The {len(listed)} of 301 jobs with the best validation accuracy" in note
    assert note.startswith("A remark.\n") and note.endswith(f"`python -m cifar_exp {COMMAND}`")
    assert f"]({addresses.sweep(store, str(run.id))})" in note and "side by side" not in note


def test_a_sweep_without_finished_jobs_has_no_curves_and_no_best_result(planned: Plan, store: Store) -> None:
    run = parent.start(planned, COMMAND)
    none = parent.results(planned)
    parent.finish(run, none, parent.table(none), COMMAND)
    run.finish("KILLED")
    found = store.client.get_run(run.id)
    assert found.data.metrics == {}
    assert [item.path for item in store.client.list_artifacts(run.id, "sweep")] == ["sweep/results.csv"]
    assert "side by side" not in found.data.tags["mlflow.note.content"]


def test_everything_else_is_logged_if_the_report_cannot_be_drawn(
    planned: Plan, jobs: list[JobResult], store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    assert planned.folder is not None
    with Journal(planned.folder / "0") as journal:
        journal.append("start", {"tags": {}})  # a run without a name
    run = parent.start(planned, COMMAND)
    parent.finish(run, jobs, parent.table(jobs), COMMAND)
    run.finish("FAILED")
    logged = sorted(item.path for item in store.client.list_artifacts(run.id, "sweep"))
    assert logged == ["sweep/curves.png", "sweep/results.csv"]
    assert "The report of the sweep could not be drawn: KeyError: 'uri'" in caplog.text


def test_a_server_that_goes_away_while_a_sweep_begins_does_not_hold_it_up(
    planned: Plan, mlflow_server: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with proxy.before(mlflow_server) as shaky:
        answers = iter(["well"])  # to the check of the server
        shaky.mode = lambda: next(answers, "500")
        tracking = replace(planned.jobs[0].tracking, uri=shaky.uri, drain_seconds=0.0)
        jobs = tuple(replace(job, tracking=tracking) for job in planned.jobs)
        planned = replace(planned, jobs=jobs, folder=tmp_path / "sweep")
        assert parent.find_earlier(planned, COMMAND) is None
        parent.start(planned, COMMAND).finish("FINISHED")
    assert planned.folder is not None
    begun = LocalRun.read(planned.folder)
    assert begun is not None and begun.status == "FINISHED"
    assert sum("earlier sweeps could not be looked for" in line for line in caplog.messages) == 2


def test_a_sweep_of_a_user_who_may_not_log_there_is_refused(
    planned: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise MlflowException("Permission denied", PERMISSION_DENIED)

    monkeypatch.setattr(parent, "_is_answering_server", lambda store: True)
    monkeypatch.setattr(takeover, "find_sweep_of_command", refuse)
    with pytest.raises(UserError, match="may not do that there"):
        parent.find_earlier(replace(planned, folder=tmp_path / "sweep"), COMMAND)


def test_the_report_is_drawn_while_the_store_is_away(planned: Plan, tmp_path: Path) -> None:
    assert planned.folder is not None
    away = replace(planned.jobs[0].tracking, uri="http://127.0.0.1:9", drain_seconds=0.0)
    planned = replace(planned, jobs=tuple(replace(job, tracking=away) for job in planned.jobs))
    job = Run.start(Store.of(away), planned.folder / "0", "first", {}, {"seed": 0}, drain_seconds=0)
    job.log_metrics({"test/accuracy": 0.5})
    job.finish("FINISHED")
    from_journal(planned.folder / "0").write(planned.folder / "0")
    run = parent.start(planned, COMMAND)
    parent.finish(run, parent.results(planned), parent.table(parent.results(planned)), COMMAND)
    run.finish("FINISHED")
    page = (planned.folder / "artifacts" / "sweep" / "report.html").read_text()
    assert "first" in page and "0.5000" in page
