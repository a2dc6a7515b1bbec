"""An ensemble of logged runs: chosen on the validation images, reported on the test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cifar_exp.analysis import ensemble_members
from cifar_exp.analysis.ensemble_members import Member
from cifar_exp.errors import UserError
from cifar_exp.evaluation.intervals import wilson
from cifar_exp.review import ensemble, paired, run_predictions
from cifar_exp.review.comparison import Comparison
from cifar_exp.review.ensemble import Diversity
from cifar_exp.review.paired import Paired

if TYPE_CHECKING:
    import pandas as pd

    from cifar_exp.evaluation.scores import Evaluation


@dataclass(frozen=True)
class Ensemble:
    """An ensemble and its results.

    Attributes:
        candidates: runs that it was made from.
        weights: of the candidates; 0 for one that was not chosen.
        mean: as in `ensemble.log_mean`.
        selected: whether the weights were chosen on the validation images.
        remark: why they were not; empty if they were.
        test: its predictions for the test images.
        validation: its predictions for the validation images; `None` if the candidates do not share them.
        best: the candidate with the best validation accuracy; `None` if no candidate has one.
        gain: the ensemble, as B, against `best`, as A, on the test images.
        diversity: of the members, in the order of the candidates.
    """

    candidates: tuple[Member, ...]
    weights: tuple[int, ...]
    mean: str
    selected: bool
    remark: str
    test: Evaluation
    validation: Evaluation | None
    best: Member | None
    gain: Paired | None
    diversity: Diversity

    @property
    def members(self) -> tuple[Member, ...]:
        """The candidates that are in it."""
        return tuple(member for member, weight in zip(self.candidates, self.weights, strict=True) if weight)

    @property
    def table(self) -> Comparison:
        """The candidates, those with the largest weights first: run_id, name, weight, accuracies."""
        import pandas as pd

        frame = pd.DataFrame(
            {
                "run_id": [member.run.info.run_id for member in self.candidates],
                "name": [member.name for member in self.candidates],
                "weight": list(self.weights),
                "validation/accuracy": np.array([member.val_accuracy for member in self.candidates], dtype=float),
                "test/accuracy": [member.test_accuracy for member in self.candidates],
            }
        )
        order = frame["weight"].sort_values(ascending=False, kind="stable").index
        return Comparison(frame.loc[order].reset_index(drop=True), (), tuple(self.sentences))

    @property
    def sentences(self) -> list[str]:
        """What it is, what it gains, and how its members differ."""
        images = len(self.test.labels)
        correct = int((self.test.predicted == self.test.labels).sum())
        low, high = wilson(correct, images)
        accuracy = f"{correct / images:.4f} (95 % interval {low:.4f} to {high:.4f}, {images:,} images)"
        told = [f"Ensemble: test accuracy {accuracy}, loss {self.test.loss:.4f}; {self.how}."]
        if self.remark:
            told.append(f"Its members are taken as given, with equal weights: {self.remark}.")
        if self.gain and self.best:
            told.append(f"{self.best.name} has the best validation accuracy. {self.gain.words}")
        elif self.best is None:
            told.append("No member has a validation accuracy, so there is no best one to compare with.")
        differ, together = self.diversity.mean_disagreement, self.diversity.mean_error_correlation
        if differ is not None:
            errors = "" if together is None else f"; the correlation of their errors is {together:.2f}"
            told.append(f"Two members predict different classes for {100 * differ:.1f} % of the test images{errors}.")
        return told

    @property
    def how(self) -> str:
        """How it was made, in words."""
        count = f"{len(self.members)} of {len(self.candidates)} runs" if self.selected else f"{len(self.members)} runs"
        chosen = ", chosen greedily with replacement on the validation images" if self.selected else ""
        return f"mean of the {self.mean} of {count}{chosen}"


def build(candidates: Sequence[Member], mean: str, select: bool | None) -> Ensemble:
    """Make an ensemble from stored predictions.

    Args:
        candidates: from `ensemble_members.read`.
        mean: as in `ensemble.log_mean`.
        select: whether to choose members on the validation images; `None`: if that is possible.

    Raises:
        UserError: if members cannot be chosen on the validation images, though `select` is true.
    """
    obstacle = ensemble_members.why_not_selected(candidates)
    if select and obstacle:
        raise UserError(f"--select: {obstacle}; without --select, all members have equal weights")
    validated = [] if obstacle else [member.validation for member in candidates if member.validation is not None]
    weights = (1,) * len(candidates)
    if validated and select is not False:
        of_validation = [run_predictions.probabilities(frame) for frame in validated]
        weights = ensemble.select(of_validation, validated[0]["label"].to_numpy(), mean)
    members = [member for member, weight in zip(candidates, weights, strict=True) if weight]
    test = _evaluation([member.test for member in candidates], weights, mean, candidates[0].classes)
    best = _best(candidates)
    gain = None
    if best is not None:
        gain = paired.compare(
            run_predictions.correct(best.test), test.predicted == test.labels, best.name, "The ensemble"
        )
    return Ensemble(
        tuple(candidates),
        weights,
        mean,
        bool(validated) and select is not False,
        obstacle if select is None else "",
        test,
        _evaluation(validated, weights, mean, candidates[0].classes) if validated else None,
        best,
        gain,
        ensemble.diversity([member.test["predicted"].to_numpy() for member in members], test.labels),
    )


def _best(candidates: Sequence[Member]) -> Member | None:
    """The candidate with the best validation accuracy, the first one of equals."""
    known = [member for member in candidates if member.val_accuracy is not None]
    return max(known, key=lambda member: member.val_accuracy or 0.0, default=None)


def _evaluation(
    frames: Sequence[pd.DataFrame], weights: Sequence[int], mean: str, classes: tuple[str, ...]
) -> Evaluation:
    from cifar_exp.evaluation.scores import Evaluation

    logarithms = ensemble.log_mean([run_predictions.probabilities(frame) for frame in frames], weights, mean)
    labels: Any = frames[0]["label"].to_numpy()
    return Evaluation(classes, labels, np.exp(logarithms).astype(np.float32), logarithms.astype(np.float32))
