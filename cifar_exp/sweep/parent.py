"""The run that a sweep's jobs are nested under: made before the first, given their results after the last."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pandas as pd

from cifar_exp.config.composition import Plan
from cifar_exp.errors import UserError, reason
from cifar_exp.sweep.job import JobResult, varying
from cifar_exp.tracking import environment, heartbeat, journal, local_run, takeover
from cifar_exp.tracking.local_run import LocalRun
from cifar_exp.tracking.run import Run
from cifar_exp.tracking.store import Store

log = logging.getLogger(__name__)

NOT_RUN = "not run"
_COMMAND, _SWEEP = "cifar_exp.overrides", "cifar_exp.sweep"


def begun(plan: Plan, command: str) -> str | None:
    """The name of the sweep that this command last began, finished or not: its finished jobs are not run again.

    Raises:
        UserError: if it is running.
    """
    assert plan.folder is not None
    if plan.jobs[0].resume == "never":
        return None
    store = Store.of(plan.jobs[0].tracking)
    found = [run for run in local_run.runs(plan.folder.parent) if run.is_of(store, **{_COMMAND: command})]
    for run in found:
        if journal.is_live(run.folder):
            raise _running(run.folder.name)
    if found:
        return max(found, key=lambda run: run.began).tags[_SWEEP]
    if not _answers(store):
        return None
    with store.refusing():
        elsewhere = takeover.sweep_of(store, command)
    return elsewhere.data.tags[_SWEEP] if elsewhere else None


def start(plan: Plan, command: str) -> Run:
    """Begin the parent run of a planned sweep, or go on with the one of its name."""
    assert plan.folder is not None
    tags = {
        "cifar_exp.kind": "sweep",
        _SWEEP: plan.sweep_name,
        _COMMAND: command,
        **environment.source_tags(),
    }
    varies = ", ".join(plan.varies) or "nothing"
    params = {"sweep.jobs": len(plan.jobs), "sweep.varies": varies}
    name = f"sweep of {varies}"
    tracking, resume = plan.jobs[0].tracking, plan.jobs[0].resume
    store = Store.of(tracking)
    left = LocalRun.read(plan.folder)
    if left is None and resume == "auto" and _answers(store):
        left = _fetched(store, plan)
    if left:
        if resume == "auto" and left.is_of(store):
            if not _is_deleted(store, plan):
                return Run.resume(store, plan.folder, tags, drain_seconds=tracking.drain_seconds)
            log.warning("The parent run of sweep %s was deleted: a new one takes its jobs in", plan.sweep_name)
            local_run.set_journal_aside(plan.folder)
        else:
            local_run.set_aside(plan.folder)
    return Run.start(store, plan.folder, name, tags, params, drain_seconds=tracking.drain_seconds)


def _fetched(store: Store, plan: Plan) -> LocalRun | None:
    """The sweep of this name, if it was begun on another machine.

    Raises:
        UserError: if it is running there.
    """
    assert plan.folder is not None
    with store.refusing():
        run = store.find_sweep(plan.sweep_name)
        if run is None:
            return None
        if run.info.status == "RUNNING" and not heartbeat.is_gone(run):
            raise _running(f"{plan.sweep_name}, by {run.data.tags.get(heartbeat.PROCESS)}")
        takeover.adopt(store, run, plan.folder)
    return LocalRun.read(plan.folder)


def _answers(store: Store) -> bool:
    """Whether it is one that other machines may have logged to, and is there."""
    return store.is_server and not store.away()


def _is_deleted(store: Store, plan: Plan) -> bool:
    """Whether the parent run that was begun here was deleted, as far as the store can be asked."""
    assert plan.folder is not None
    if not store.exists() or store.away():
        return False
    try:
        with store.refusing():
            return takeover.is_deleted(store, plan.folder)
    except UserError as error:
        log.debug("the parent run could not be looked for: %s", error)
        return False


def take_in(run: Run, sweep: str) -> None:
    """Nest the jobs that have been logged under this parent run, should they have had another one."""
    try:
        with run.store.refusing():
            if run.id and (moved := takeover.nest(run.store, sweep, run.id)):
                log.info("%d jobs of sweep %s are nested under its new parent run", moved, sweep)
    except UserError as error:
        log.warning("the jobs of sweep %s could not be nested under their parent run: %s", sweep, error)


def _running(where: str) -> UserError:
    return UserError(f"this sweep is running, as {where}; resume=never starts another one")


def end_the_gone(run: Run) -> None:
    """Say what else in the experiment is no longer running, whatever the store believes."""
    try:
        with run.store.refusing():
            for told in heartbeat.end_the_gone(run.store):
                log.info("%s", told)
    except UserError as error:
        log.debug("runs that are gone could not be looked for: %s", error)


def results(plan: Plan) -> list[JobResult]:
    """Of every job, in order, also of those that did not get as far as leaving one."""
    assert plan.folder is not None
    found = []
    for number, (config, overrides) in enumerate(zip(plan.jobs, plan.overrides, strict=True)):
        left = JobResult.read(plan.folder / str(number))
        found.append(left or JobResult(config.run_name(varying(overrides, plan.varies)), NOT_RUN, 0.0))
    return found


def table(jobs: Sequence[JobResult]) -> pd.DataFrame:
    """One row per job: number, name, status, test accuracy and loss, best validation accuracy, seconds, error."""
    rows = []
    for number, job in enumerate(jobs, 1):
        metrics = job.metrics or {}
        rows.append(
            {
                "job": number,
                "name": job.name,
                "status": job.status,
                "test/accuracy": metrics.get("test/accuracy"),
                "test/loss": metrics.get("test/loss"),
                "val/best_accuracy": metrics.get("val/best_accuracy"),
                "parameters": metrics.get("model/parameters"),
                "seconds": round(job.seconds, 1),
                "run_id": job.run_id,
                "error": job.error,
            }
        )
    measured = ["test/accuracy", "test/loss", "val/best_accuracy", "parameters"]
    return pd.DataFrame(rows).astype(dict.fromkeys(measured, float))


def finish(run: Run, jobs: Sequence[JobResult], frame: pd.DataFrame, command: str) -> None:
    """Log the results of all jobs: a table, its note, the overlaid curves, the report."""
    from cifar_exp.evaluation import figures, style

    run.write("sweep/results.csv", frame.to_csv(index=False))
    histories = {f"{number} {job.name}": job.history for number, job in enumerate(jobs, 1) if job.history}
    if histories:
        run.write("sweep/curves.png", style.to_png(figures.overlaid_curves(histories)))
    _report(run, len(jobs))
    run.upload("sweep")
    best = frame["test/accuracy"].max()
    if pd.notna(best):
        run.log_metrics({"sweep/best_test_accuracy": float(best)}, step=run.resumed)
    run.set_tags({"mlflow.note.content": _note(run, frame, command)})


def _report(run: Run, jobs: int) -> None:
    """Write the page on its runs, from what they left in their folders: their store need not have taken it yet.

    What is measured is logged without it: whatever goes wrong here costs the page alone.
    """
    try:
        from cifar_exp.review import report

        page = report.from_folders([run.folder / str(number) for number in range(jobs)], f"Sweep {run.folder.name}")
        if page:
            run.write("sweep/report.html", page)
    except Exception as error:
        log.warning("The report of the sweep could not be drawn: %s: %s", type(error).__name__, reason(error))


def show(frame: pd.DataFrame) -> str:
    """The table as text."""
    shown = frame.drop(columns=["run_id", "error", "parameters"])
    return shown.to_string(
        index=False, na_rep="-", formatters={"seconds": "{:.0f}".format}, float_format="{:.4f}".format
    )


def _note(run: Run, frame: pd.DataFrame, command: str) -> str:
    head = ["job", "name", "status", "test accuracy", "test loss", "best val accuracy", "seconds"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in frame.to_dict("records"):
        name = f"[{row['name']}]({run.store.run_address(row['run_id'])})" if pd.notna(row["run_id"]) else row["name"]
        measured = (row["test/accuracy"], row["test/loss"], row["val/best_accuracy"])
        numbers = " | ".join(f"{value:.4f}" if pd.notna(value) else "-" for value in measured)
        lines.append(f"| {row['job']} | {name} | {row['status']} | {numbers} | {row['seconds']:.0f} |")
    run_ids = [str(run_id) for run_id in frame["run_id"].dropna()]
    return "\n".join(
        [
            *lines,
            "",
            *(_links(run, run_ids) if run.id else []),
            f"Run again: `python -m cifar_exp {command}`",
        ]
    )


def _links(run: Run, run_ids: list[str]) -> list[str]:
    assert run.id
    together = f" · [side by side]({run.store.compare_address(run_ids)})" if len(run_ids) > 1 else ""
    return [f"[These runs with their curves, best first]({run.store.sweep_address(run.id)}){together}", ""]
