"""Curves and predictions of runs. Each run needs requests of its own, so they are read for a few runs only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cifar_exp.data import datasets
from cifar_exp.data.schema import DataConfig
from cifar_exp.data.splits import Images
from cifar_exp.errors import UserError
from cifar_exp.review import run_predictions
from cifar_exp.review.run_record import RunRecord
from cifar_exp.tracking import local_run
from cifar_exp.tracking.delivery import ARTIFACTS
from cifar_exp.tracking.store import Store

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Run

CURVES = ("val/loss", "val/accuracy", "train/loss", "train/accuracy")

History = Mapping[str, Mapping[int, float]]  # metric -> epoch -> value


@dataclass(frozen=True)
class RunResults:
    """Curves and predictions of one run.

    Attributes:
        history: metric name -> epoch (from 1) -> value.
        predictions: one row per test image: index, label, predicted, p_<class>; `None` if they cannot be read.
        problem: why there are no predictions.
    """

    history: History
    predictions: pd.DataFrame | None
    problem: str = ""

    @property
    def classes(self) -> list[str]:
        """Class names, in the order of the labels; empty without predictions."""
        return [] if self.predictions is None else run_predictions.classes(self.predictions)


def from_run(store: Store, run: Run) -> RunResults:
    """Read curves and predictions from the tracking store.

    Raises:
        UserError: if the store cannot be reached.
    """
    history = metric_histories(store, run, CURVES)
    try:
        return RunResults(history, run_predictions.read(store, run))
    except UserError as error:
        return RunResults(history, None, str(error))


def from_folder(folder: Path) -> RunResults:
    """Read curves and predictions from the run's folder."""
    logged = local_run.metrics(folder)
    history = {name: logged[name] for name in CURVES if name in logged}
    path = folder / ARTIFACTS / run_predictions.PREDICTIONS
    if not path.exists():
        return RunResults(history, None, f"{folder} has no {run_predictions.PREDICTIONS}")
    try:
        return RunResults(history, run_predictions.parse(path.read_bytes(), str(folder)))
    except UserError as error:
        return RunResults(history, None, str(error))


def metric_histories(store: Store, run: Run, metrics: Iterable[str]) -> History:
    """Read the values of metrics at every step. Metrics that the run does not have are left out.

    Raises:
        UserError: if the store cannot be reached.
    """
    with store.connected() as client:
        return {
            name: {point.step: point.value for point in client.get_metric_history(run.info.run_id, name)}
            for name in metrics
            if name in run.data.metrics
        }


def shared_test_images(runs: Sequence[RunRecord]) -> tuple[Images | None, str]:
    """Load the test images that all of the runs used, if they are on this machine.

    Returns:
        The images (N, H, W, C) uint8 and an empty string, or `None` and the reason.
    """
    names = {(run.params.get("data.name"), run.params.get("data.labels")) for run in runs}
    digests = {run.test_digest for run in runs}
    if len(names) > 1 or len(digests) > 1:
        return None, "The runs were not tested on the same images."
    (name, labels), digest = names.pop(), digests.pop()
    config = DataConfig(str(name), labels=labels if labels in ("fine", "coarse") else None)
    try:
        split = datasets.test_images(config)
    except (UserError, OSError) as error:
        return None, f"The test images cannot be read on this machine: {error}"
    if split is None:
        return (
            None,
            f"The images of {name} are not on the machine that made this page (set CIFAR_EXP_DATA to their folder).",
        )
    if digest is None or split.sha256[: len(digest)] != digest:
        return None, f"The images of {name} on the machine that made this page are not those of the test."
    images: Images = split.images[:]
    return images, ""
