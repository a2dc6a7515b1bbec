"""What is asked of few runs, because each has to be read by itself: their curves and their predictions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cifar_exp.data import datasets
from cifar_exp.data.datasets import Images
from cifar_exp.errors import UserError
from cifar_exp.review import paired
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
    """Of one run."""

    history: History
    predictions: pd.DataFrame | None  # index, label, predicted, p_<class>; a row per test image
    problem: str = ""  # why there are none

    @property
    def classes(self) -> list[str]:
        """Their names."""
        columns = [] if self.predictions is None else list(self.predictions.columns)
        return [str(name).removeprefix("p_") for name in columns if str(name).startswith("p_")]


def of_run(store: Store, run: Run) -> RunResults:
    """From its store.

    Raises:
        UserError: if the store is away.
    """
    history = histories(store, run, CURVES)
    try:
        return RunResults(history, paired.of_run(store, run))
    except UserError as error:
        return RunResults(history, None, str(error))


def of_folder(folder: Path) -> RunResults:
    """From the folder it was trained in."""
    logged = local_run.metrics(folder)
    history = {name: logged[name] for name in CURVES if name in logged}
    path = folder / ARTIFACTS / paired.PREDICTIONS
    if not path.exists():
        return RunResults(history, None, f"{folder} has no {paired.PREDICTIONS}")
    try:
        return RunResults(history, paired.parse(path.read_bytes(), str(folder)))
    except UserError as error:
        return RunResults(history, None, str(error))


def histories(store: Store, run: Run, metrics: Iterable[str]) -> History:
    """Of those metrics that the run has: their value at each step.

    Raises:
        UserError: if the store is away.
    """
    with store.asked() as client:
        return {
            name: {point.step: point.value for point in client.get_metric_history(run.info.run_id, name)}
            for name in metrics
            if name in run.data.metrics
        }


def images(runs: Sequence[RunRecord]) -> tuple[Images | None, str]:
    """The images that these runs were all tested on, where this machine has them; else why there are none."""
    names, digests = ({run.params.get("data.name") for run in runs}, {run.test_digest for run in runs})
    if len(names) > 1 or len(digests) > 1:
        return None, "The runs were not tested on the same images."
    name, digest = str(names.pop()), digests.pop()
    try:
        found = datasets.test_images(name)
    except (UserError, OSError) as error:
        return None, f"The test images cannot be read here: {error}"
    if found is None:
        return None, f"The images of {name} are not on the machine that made this page (CIFAR_EXP_DATA names them)."
    if digest is None or found.sha256[: len(digest)] != digest:
        return None, f"The images of {name} on the machine that made this page are not those of the test."
    return found.images, ""
