"""What is found out about a logged run later: logged as a run of its own, nested under it.

The run itself stays as it was. A verdict is about the metrics that it had, and the files of an approved run cannot be
changed on a server. Several evaluations of one run, each on other images, do not overwrite each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_exp.review.query import SHORT_ID
from cifar_exp.tracking import environment, run_tags
from cifar_exp.tracking.run import Run as LoggedRun
from cifar_exp.tracking.store import Store
from cifar_exp.training import runtime

if TYPE_CHECKING:
    from mlflow.entities import Run

PARENT = "mlflow.parentRunId"


def start(store: Store, run: Run, kind: str, params: Mapping[str, Any], subject: str) -> LoggedRun:
    """Start a run that is about another one, in the same experiment.

    Call it after Keras was prepared: the run says which backend and device it uses.

    Args:
        store: contains the run.
        run: the run that it is about.
        kind: `run_tags.EVALUATION_KIND` or `run_tags.EXPLANATION_KIND`.
        params: what was asked for.
        subject: what it is about beside the run, for its name.
    """
    with store.connected() as client:
        experiment = client.get_experiment(run.info.experiment_id).name
    run_id = run.info.run_id
    tags = {
        run_tags.KIND: kind,
        run_tags.EVALUATES if kind == run_tags.EVALUATION_KIND else run_tags.EXPLAINS: run_id,
        PARENT: run_id,
        run_tags.OUTCOME: run_tags.RUNNING,
        run_tags.BACKEND: runtime.backend(),
        run_tags.DEVICE: runtime.device(),
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
    logged.set_tags({run_tags.OUTCOME: run_tags.COMPLETED, "mlflow.note.content": note})
