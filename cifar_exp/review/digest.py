"""A digest of what a verdict on a run is about, so that a later change of the run is noticed."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from cifar_exp.tracking import run_tags

if TYPE_CHECKING:
    from mlflow.entities import Run

# Tags that decide what a review needs. The server does not let them change once the run has finished.
FACTS = (
    *(run_tags.OUTCOME, run_tags.WARNING, run_tags.GIT_COMMIT, run_tags.GIT_DIRTY, run_tags.KIND, run_tags.FINGERPRINT),
    *(run_tags.OVERRIDES, run_tags.SWEEP, run_tags.JOB, run_tags.BACKEND, run_tags.DEVICE, run_tags.START_FROM),
    *(run_tags.MEMBERS, run_tags.COMMAND),
)

_SYSTEM = "system/"  # use of the machine: it says nothing about the result, and its last values may arrive late


def of_run(run: Run) -> str:
    """Digest of a run's status, parameters, metrics, data sets, models and facts: 32 hexadecimal digits."""
    inputs = run.inputs.dataset_inputs if run.inputs else []
    outputs = run.outputs.model_outputs if run.outputs else []
    content = {
        "status": run.info.status,
        "params": dict(run.data.params),
        "metrics": {key: repr(value) for key, value in run.data.metrics.items() if not key.startswith(_SYSTEM)},
        "facts": {key: value for key, value in run.data.tags.items() if key in FACTS},
        "datasets": sorted([one.dataset.name, one.dataset.digest] for one in inputs),
        "models": sorted(one.model_id for one in outputs),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]
