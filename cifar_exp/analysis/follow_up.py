"""What is found out about a logged run later: logged as a run of its own, nested under it.

The run itself stays as it was. A verdict is about the metrics that it had, and the files of an approved run cannot be
changed on a server. Several evaluations of one run, each on other images, do not overwrite each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_exp.review.evaluations import EVALUATES
from cifar_exp.review.query import EVALUATION, SHORT_ID
from cifar_exp.tracking import environment
from cifar_exp.tracking.run import Run as LoggedRun
from cifar_exp.tracking.store import Store
from cifar_exp.training import runtime

if TYPE_CHECKING:
    from mlflow.entities import Run

PARENT = "mlflow.parentRunId"
EXPLAINS = "cifar_exp.explains"


def start(store: Store, run: Run, kind: str, params: Mapping[str, Any], subject: str) -> LoggedRun:
    """Start a run that is about another one, in the same experiment.

    Call it after Keras was prepared: the run says which backend and device it uses.

    Args:
        store: contains the run.
        run: the run that it is about.
        kind: `query.EVALUATION` or `query.EXPLANATION`.
        params: what was asked for.
        subject: what it is about beside the run, for its name.
    """
    with store.connected() as client:
        experiment = client.get_experiment(run.info.experiment_id).name
    run_id = run.info.run_id
    tags = {
        "cifar_exp.kind": kind,
        EVALUATES if kind == EVALUATION else EXPLAINS: run_id,
        PARENT: run_id,
        "cifar_exp.outcome": "running",
        "cifar_exp.backend": runtime.backend(),
        "cifar_exp.device": runtime.device(),
        **environment.source_tags(),
    }
    folder = Path("outputs") / f"{kind}s" / f"{run_id[:SHORT_ID]}-{datetime.now():%Y-%m-%d_%H-%M-%S-%f}"
    name = f"{kind} of {run.info.run_name}: {subject}"
    return LoggedRun.start(Store(store.uri, experiment), folder, name, tags, params)


def finish(logged: LoggedRun, note: str) -> None:
    """Mark the run as completed and describe it.

    Args:
        logged: from `start`.
        note: its description, in Markdown.
    """
    logged.set_tags({"cifar_exp.outcome": "completed", "mlflow.note.content": note})
