"""The members of an ensemble: logged runs with their stored predictions, read side by side and checked."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cifar_exp.errors import UserError
from cifar_exp.review import run_predictions
from cifar_exp.review.run_predictions import RunPredictions
from cifar_exp.tracking import fetch
from cifar_exp.tracking.store import Store

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Run

_READERS = 8  # requests that are under way at once


@dataclass(frozen=True)
class Member:
    """A run that is a candidate for an ensemble.

    Attributes:
        run: as the store has it.
        test: one row per test image: index, label, predicted, p_<class>.
        validation: the same for the validation images; `None` if the run did not store them.
    """

    run: Run
    test: pd.DataFrame
    validation: pd.DataFrame | None

    @property
    def name(self) -> str:
        """Name of the run."""
        return str(self.run.info.run_name)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the labels."""
        return run_predictions.classes(self.test)

    @property
    def val_accuracy(self) -> float | None:
        """Accuracy of the stored validation predictions; without them, what the run logged as its best."""
        if self.validation is not None:
            return float(run_predictions.correct(self.validation).mean())
        logged: float | None = self.run.data.metrics.get("val/best_accuracy")
        return logged

    @property
    def test_accuracy(self) -> float:
        """Accuracy of the stored test predictions."""
        return float(run_predictions.correct(self.test).mean())


def read(store: Store, runs: Sequence[Run]) -> list[Member]:
    """Read the stored predictions of runs, several at once.

    Raises:
        UserError: for a run without predictions, or if the runs were not tested on the same images and classes.
    """
    with store.connected():
        pass  # the client is made once, before the threads use it

    def read_one(run: Run) -> Member:
        test = run_predictions.read(store, run)
        try:
            return Member(run, test, run_predictions.read(store, run, run_predictions.VALIDATION_PREDICTIONS))
        except fetch.Missing:  # a run of an earlier version
            return Member(run, test, None)

    with ThreadPoolExecutor(_READERS) as pool:
        members = list(pool.map(read_one, runs))
    run_predictions.check_same_images(
        [
            RunPredictions(member.run.info.run_id, run_predictions.test_digest(member.run), member.test)
            for member in members
        ]
    )
    first = members[0]
    for member in members[1:]:
        if member.classes != first.classes:
            raise UserError(f"runs {first.run.info.run_id} and {member.run.info.run_id} have different classes")
    return members


def why_not_selected(members: Sequence[Member]) -> str:
    """Why these members cannot be chosen on their validation predictions; empty if they can."""
    for member in members:
        if member.run.data.params.get("data.validation") == "test":
            return f"{_named(member)} was validated on the test images"
        if member.validation is None:
            return f"{_named(member)} has no {run_predictions.VALIDATION_PREDICTIONS}"
    stored = [
        RunPredictions(member.run.info.run_id, run_predictions.digest(member.run, "validation"), member.validation)
        for member in members
        if member.validation is not None
    ]
    try:
        run_predictions.check_same_images(stored)
    except UserError:
        return "the members were validated on different images"
    return ""


def _named(member: Member) -> str:
    return f"run {member.run.info.run_id} ({member.name})"
