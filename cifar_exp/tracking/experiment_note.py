"""Description of an experiment in MLflow's UI: its best run, and how to read what is logged."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from cifar_exp.errors import UserError
from cifar_exp.tracking import addresses
from cifar_exp.tracking.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

_TAG = "mlflow.note.content"
_BEGIN = "<!-- cifar_exp writes what stands between these two marks anew after each run and sweep -->"
_END = "<!-- end -->"
_SECTION = re.compile(rf"{re.escape(_BEGIN)}.*?{re.escape(_END)}", re.S)
_MOST = 5000  # characters of a tag of an experiment
# Not those whose best epoch was chosen on the test images, and not pruned ones, which were not tested.
_CANDIDATES = (
    "attributes.status = 'FINISHED' and metrics.`val/best_accuracy` >= 0 and metrics.`test/accuracy` >= 0 "
    "and params.`data.validation` != 'test' and tags.`review.state` != 'rejected'"
)
_HOW_TO_READ = """\
- A sweep is one row with its jobs below it. Choose several runs and *Compare* to see their settings and curves.
- `test/accuracy` is the share of test images that a model classifies correctly. `val/best_accuracy` is on images that
  are neither trained on nor tested on: choices are made by it.
- `cifar_exp.outcome` is `completed`, or says what went wrong: `collapsed` runs answer no better than chance.
- `review.state` says what a reviewer found. A run's description holds its result, its reviews and the command that
  repeats it. Its files have figures, predictions and the model."""


def update(store: Store) -> None:
    """Write the description of the store's experiment, and keep the text that users have written around it.

    It never fails: nothing but the description depends on it.
    """
    try:
        if not store.exists() or store.away():
            return
        with store.connected() as client:
            experiment = client.get_experiment(store.experiment_id)
            own = experiment.tags.get(_TAG, "")
            section = "\n".join([_BEGIN, _best(store, client), "", _HOW_TO_READ, _END])
            text = _SECTION.sub(lambda _: section, own) if _SECTION.search(own) else f"{own}\n\n{section}".lstrip()
            if text != own and len(text) <= _MOST:
                client.set_experiment_tag(store.experiment_id, _TAG, text)
    except UserError as error:
        log.debug("the description of the experiment was not written: %s", error)


def _best(store: Store, client: MlflowClient) -> str:
    """A sentence about the best run, chosen by its validation images."""
    order = ["metrics.`val/best_accuracy` DESC"]
    for run in client.search_runs([store.experiment_id], _CANDIDATES, order_by=order, max_results=1):
        link = f"[{run.info.run_name}]({addresses.run(store, run.info.run_id)})"
        validation, test = (run.data.metrics[name] for name in ("val/best_accuracy", "test/accuracy"))
        measured = f"validation accuracy {validation:.4f}, test accuracy {test:.4f}"
        return f"**Best run by its validation images: {link}**, {measured}."
    return "No finished run was chosen by validation images yet."
