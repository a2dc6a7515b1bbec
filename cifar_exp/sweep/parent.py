"""Parent run of a sweep: started before the first job, and given the results of all jobs at the end."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from cifar_exp.config.checks import is_sweep_name
from cifar_exp.config.plan import Plan
from cifar_exp.errors import UserError, reason
from cifar_exp.review.section import Section
from cifar_exp.sweep.job import varying
from cifar_exp.sweep.result import RESULT, JobResult
from cifar_exp.tracking import addresses, environment, heartbeat, journal, local_run, run_tags, takeover
from cifar_exp.tracking.local_run import LocalRun
from cifar_exp.tracking.run import Run
from cifar_exp.tracking.store import Store

log = logging.getLogger(__name__)

NOT_RUN = "not run"
_NOTE_CHARACTERS = 8000  # of a tag's value: MLflow cuts off what is beyond
_LEFT_OUT = "\nThe {:,} of {:,} jobs with the best validation accuracy; `sweep/results.csv` has all.\n"
_COMPARED = 20  # runs that MLflow's UI is asked to compare: more make a very long address


def find_earlier(plan: Plan, command: str) -> str | None:
    """Find the latest sweep of the same command, finished or not; its finished jobs are not run again.

    Args:
        plan: the planned sweep.
        command: the arguments of the command line.

    Returns:
        The name of the earlier sweep; None if there is none.

    Raises:
        UserError: if that sweep is running.
    """
    assert plan.folder is not None
    if plan.jobs[0].resume == "never":
        return None
    store = Store.of(plan.jobs[0].tracking)
    same = (run for run in local_run.runs(plan.folder.parent) if run.belongs_to(store, **{run_tags.OVERRIDES: command}))
    found = [run for run in same if is_sweep_name(run.tags.get(run_tags.SWEEP, ""))]
    for run in found:
        if journal.is_live(run.folder):
            raise _running(run.folder.name)
    if found:
        return max(found, key=lambda run: run.began).tags[run_tags.SWEEP]
    if not _is_answering_server(store):
        return None
    elsewhere = takeover.look_up(store, lambda: takeover.find_sweep_of_command(store, command))
    return elsewhere.data.tags[run_tags.SWEEP] if elsewhere else None


def start(plan: Plan, command: str) -> Run:
    """Start the parent run of a planned sweep, or resume the one with its name.

    Args:
        plan: the planned sweep.
        command: the arguments of the command line, those of a search without what may change.

    Raises:
        UserError: if the sweep is running on another machine.
    """
    assert plan.folder is not None
    tags = {
        run_tags.KIND: run_tags.SWEEP_KIND,
        run_tags.SWEEP: plan.sweep_name,
        run_tags.OVERRIDES: command,
        **environment.source_tags(),
    }
    varies = ", ".join(plan.varies) or "nothing"
    params = {"sweep.jobs": plan.count, "sweep.varies": varies}
    name = f"{'search' if plan.space else 'sweep'} of {varies}"
    tracking, resume = plan.jobs[0].tracking, plan.jobs[0].resume
    store = Store.of(tracking)
    earlier = LocalRun.read(plan.folder)
    if earlier is None and resume == "auto" and _is_answering_server(store):
        earlier = _take_over(store, plan)
    if earlier:
        if resume == "auto" and earlier.belongs_to(store):
            if not _is_deleted(store, plan):
                return Run.resume(store, plan.folder, tags, drain_seconds=tracking.drain_seconds)
            log.warning("The parent run of sweep %s was deleted: a new one takes its jobs in", plan.sweep_name)
            local_run.set_journal_aside(plan.folder)
        else:
            local_run.set_aside(plan.folder)
    return Run.start(store, plan.folder, name, tags, params, drain_seconds=tracking.drain_seconds)


def _take_over(store: Store, plan: Plan) -> LocalRun | None:
    """Take over the parent run of the sweep if it was started on another machine.

    Raises:
        UserError: if it is running there.
    """
    assert plan.folder is not None
    run = takeover.look_up(store, lambda: store.find_sweep(plan.sweep_name))
    if run is None:
        return None
    with store.translate_errors():
        if run.info.status == "RUNNING" and not heartbeat.is_dead(run):
            raise _running(f"{plan.sweep_name}, by {run.data.tags.get(run_tags.PROCESS)}")
        takeover.take_over(store, run, plan.folder)
    return LocalRun.read(plan.folder)


def _is_answering_server(store: Store) -> bool:
    """Whether the store is a server, to which other machines may have logged, and answers."""
    return store.is_server and not store.away()


def _is_deleted(store: Store, plan: Plan) -> bool:
    """Whether the local parent run was deleted from the store; False if the store does not answer."""
    assert plan.folder is not None
    if not store.exists() or store.away():
        return False
    try:
        with store.translate_errors():
            return takeover.is_deleted(store, plan.folder)
    except UserError as error:
        log.debug("the parent run could not be looked for: %s", error)
        return False


def take_in(run: Run, sweep: str) -> None:
    """Nest all logged jobs of a sweep under its parent run, in case they had another parent.

    Args:
        run: the parent run.
        sweep: name of the sweep.
    """
    try:
        with run.store.translate_errors():
            if run.id and (moved := takeover.nest(run.store, sweep, run.id)):
                log.info("%d jobs of sweep %s are nested under its new parent run", moved, sweep)
    except UserError as error:
        log.warning("the jobs of sweep %s could not be nested under their parent run: %s", sweep, error)


def _running(where: str) -> UserError:
    return UserError(f"this sweep is running, as {where}; resume=never starts another one")


def end_dead_runs(run: Run) -> None:
    """Set dead runs of the experiment to KILLED and log which."""
    try:
        with run.store.translate_errors():
            for message in heartbeat.end_dead_runs(run.store):
                log.info("%s", message)
    except UserError as error:
        log.debug("dead runs could not be looked for: %s", error)


def forget_results(plan: Plan) -> None:
    """Remove the results of earlier commands, but those of the same jobs: this command may be stopped before them."""
    assert plan.folder is not None
    for index, overrides in enumerate(plan.overrides):
        folder = plan.folder / str(index)
        if (folder / RESULT).exists():
            run = LocalRun.read(folder)
            if run is None or run.tags.get(run_tags.OVERRIDES) != shlex.join(overrides):
                (folder / RESULT).unlink()


def results(plan: Plan) -> list[JobResult]:
    """Read the results of all jobs, in order; jobs without a result have the status `NOT_RUN`."""
    assert plan.folder is not None
    found = []
    for index, (config, overrides) in enumerate(zip(plan.jobs, plan.overrides, strict=True)):
        result = JobResult.read(plan.folder / str(index))
        found.append(result or JobResult(config.run_name(varying(overrides, plan.varies)), NOT_RUN, 0.0))
    return found


def table(jobs: Sequence[JobResult]) -> pd.DataFrame:
    """Create a table with one row per job: number, name, status, scores, parameters, seconds, run id and error."""
    rows = []
    for number, job in enumerate(jobs, 1):
        metrics = job.metrics or {}
        accuracies = (job.history or {}).get("val/accuracy")  # a pruned trial has no final metrics
        rows.append(
            {
                "job": number,
                "name": job.name,
                "status": job.status,
                "test/accuracy": metrics.get("test/accuracy"),
                "test/loss": metrics.get("test/loss"),
                "val/best_accuracy": metrics.get("val/best_accuracy", max(accuracies) if accuracies else None),
                "parameters": metrics.get("model/parameters"),
                "seconds": round(job.seconds, 1),
                "run_id": job.run_id,
                "error": job.error,
            }
        )
    measured = ["test/accuracy", "test/loss", "val/best_accuracy", "parameters"]
    columns = ["job", "name", "status", *measured, "seconds", "run_id", "error"]  # also of a search without a trial
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(measured, float))


def finish(
    run: Run,
    jobs: Sequence[JobResult],
    frame: pd.DataFrame,
    command: str,
    remarks: Sequence[str] = (),
    sections: Callable[[], Sequence[Section]] = tuple,
) -> None:
    """Log the results of all jobs to the parent run: a table, overlaid curves, a report and a description.

    Args:
        run: the parent run.
        jobs: results of the jobs.
        frame: their `table`.
        command: the arguments of the command line.
        remarks: of a search, a sentence each.
        sections: makes what the report shows of a search.
    """
    from cifar_exp.evaluation import plots, style

    run.write("sweep/results.csv", frame.to_csv(index=False))
    histories = {f"{number} {job.name}": job.history for number, job in enumerate(jobs, 1) if job.history}
    if histories:
        run.write("sweep/curves.png", style.to_png(plots.overlaid_curves(histories)))
    _report(run, jobs, sections)
    run.upload("sweep", "search")
    best = frame["test/accuracy"].max()
    if pd.notna(best):
        run.log_metrics({"sweep/best_test_accuracy": float(best)}, step=run.resumed)
    run.set_tags({"mlflow.note.content": _note(run, frame, command, remarks)})


def _report(run: Run, jobs: Sequence[JobResult], sections: Callable[[], Sequence[Section]]) -> None:
    """Write the HTML report from the folders of the jobs, since the store may not have all of their events yet.

    An error is only logged, because all results are logged without the report.
    """
    try:
        from cifar_exp.review import report

        folders = [run.folder / str(index) for index, job in enumerate(jobs) if job.status != NOT_RUN]
        page = report.from_folders(folders, f"Sweep {run.folder.name}", sections())
        if page:
            run.write("sweep/report.html", page)
    except Exception as error:
        log.warning("The report of the sweep could not be drawn: %s: %s", type(error).__name__, reason(error))


def show(frame: pd.DataFrame) -> str:
    """Format a `table` as text for the terminal."""
    shown = frame.drop(columns=["run_id", "error", "parameters"])
    return shown.to_string(
        index=False, na_rep="-", formatters={"seconds": "{:.0f}".format}, float_format="{:.4f}".format
    )


def _note(run: Run, frame: pd.DataFrame, command: str, remarks: Sequence[str]) -> str:
    """Description of the parent run: remarks, the jobs, links to them, and the command.

    If not all jobs have room, it lists those with the best validation accuracy.
    """
    head = ["job", "name", "status", "test accuracy", "test loss", "best val accuracy", "seconds"]
    opening = [*(f"{remark}\n" for remark in remarks), f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    closing = ["", *_links(run, [str(run_id) for run_id in frame["run_id"].dropna()])]
    closing.append(f"Run again: `python -m cifar_exp {command}`")
    jobs = {index: _job_row(run, row) for index, row in frame.to_dict("index").items()}
    room = _NOTE_CHARACTERS - len("\n".join([*opening, *closing, _LEFT_OUT]))
    shown = set(jobs)
    if sum(len(line) + 1 for line in jobs.values()) > room:
        shown.clear()
        for index in frame["val/best_accuracy"].astype(float).sort_values(ascending=False, kind="stable").index:
            room -= len(jobs[index]) + 1
            if room < 0:
                break
            shown.add(index)
        closing.insert(0, _LEFT_OUT.format(len(shown), len(jobs)))
    return "\n".join([*opening, *(line for index, line in jobs.items() if index in shown), *closing])


def _job_row(run: Run, row: Mapping[Any, Any]) -> str:
    name = f"[{row['name']}]({addresses.run(run.store, row['run_id'])})" if pd.notna(row["run_id"]) else row["name"]
    measured = (row["test/accuracy"], row["test/loss"], row["val/best_accuracy"])
    numbers = " | ".join(f"{value:.4f}" if pd.notna(value) else "-" for value in measured)
    return f"| {row['job']} | {name} | {row['status']} | {numbers} | {row['seconds']:.0f} |"


def _links(run: Run, run_ids: list[str]) -> list[str]:
    if not run.id:
        return []
    page = addresses.sweep_page(run.store, run.folder.name, run.id)
    few = 1 < len(run_ids) <= _COMPARED
    together = f" · [side by side]({addresses.compare(run.store, run_ids)})" if few else ""
    return [f"[These runs with their curves, best first]({page}){together}", ""]
