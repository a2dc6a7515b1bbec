"""Evaluations of logged runs: what `cifar-exp evaluate` has logged below them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cifar_exp.evaluation import intervals
from cifar_exp.review import query, run_record
from cifar_exp.tracking import run_tags
from cifar_exp.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

CONDITION = f"tags.`{run_tags.KIND}` = '{run_tags.EVALUATION_KIND}'"
NEWEST_FIRST = "attributes.start_time DESC"

_ACCURACY, _MCE = "evaluation/accuracy", "robustness/mce"
_ATTACK = re.compile(r"attack/accuracy/(fgsm|pgd)_(\d{1,3})")


@dataclass(frozen=True)
class LoggedEvaluation:
    """An evaluation of a run.

    Attributes:
        run_id: of the run that holds the evaluation.
        experiment_id: of its experiment.
        of: id of the run that was evaluated.
        images: what it was evaluated on.
        accuracy: on these images.
        interval: Wilson's 95 % interval of the accuracy; None if the number of images was not logged.
        corruption_error: mean corruption error; None if it was not measured.
        attacks: attack, epsilon of 255, and accuracy under it.
    """

    run_id: str
    experiment_id: str
    of: str
    images: str
    accuracy: float
    interval: tuple[float, float] | None
    corruption_error: float | None
    attacks: tuple[tuple[str, int, float], ...]

    @property
    def interval_in_words(self) -> str:
        """The interval as text; empty if it is not known."""
        return f"{self.interval[0]:.4f} to {self.interval[1]:.4f}" if self.interval else ""

    @property
    def corruption_error_in_words(self) -> str:
        """The mean corruption error as text; empty if it was not measured."""
        return "" if self.corruption_error is None else f"{self.corruption_error:.4f}"

    @property
    def attacks_in_words(self) -> str:
        """Accuracy under each attack with each epsilon, in one line; empty if there were no attacks."""
        of_attack: dict[str, list[str]] = {}
        for attack, epsilon, accuracy in self.attacks:
            of_attack.setdefault(attack, []).append(f"{epsilon}/255: {accuracy:.4f}")
        return "; ".join(f"{attack} {', '.join(words)}" for attack, words in of_attack.items())


def of_runs(store: Store, runs: Sequence[Run]) -> list[LoggedEvaluation]:
    """Find the evaluations of some runs, in the order of the runs, the newest of each first.

    Raises:
        UserError: if the store cannot be read.
    """
    order = {run.info.run_id: at for at, run in enumerate(runs)}
    with store.connected() as client:  # an evaluation is in the experiment of its run, which need not be the store's
        names = [client.get_experiment(one).name for one in dict.fromkeys(run.info.experiment_id for run in runs)]
    logged = [one for name in names for one in query.search(Store(store.uri, name), CONDITION, [NEWEST_FIRST])]
    found = [one for one in read(logged) if one.of in order]
    return sorted(found, key=lambda one: order[one.of])


def read(logged: Iterable[Run]) -> list[LoggedEvaluation]:
    """Read the runs that hold evaluations. Those that are not finished are left out."""
    return [one for run in logged if (one := _read(run))]


def _read(run: Run) -> LoggedEvaluation | None:
    metrics, params = run.data.metrics, run.data.params
    accuracy = metrics.get(_ACCURACY)
    if accuracy is None or not 0 <= accuracy <= 1 or run.data.tags.get(run_tags.OUTCOME) != run_tags.COMPLETED:
        return None
    count = run_record.images(run, "test")
    part, data = params.get("part", ""), params.get("data", "unknown")
    number = f"{count:,} " if count else ""
    views = ", mean with the mirror image" if params.get("tta") == "True" else ""
    attacks = [
        (match[1].upper(), int(match[2]), value)
        for name, value in metrics.items()
        if 0 <= value <= 1 and (match := _ATTACK.fullmatch(name))
    ]
    error = metrics.get(_MCE)
    return LoggedEvaluation(
        *(run.info.run_id, run.info.experiment_id, run.data.tags.get(run_tags.EVALUATES, "")),
        f"{number}{'' if part == 'all' else f'{part} '}images of {data}{views}",
        accuracy,
        intervals.of_accuracy(accuracy, count),
        error if error is not None and math.isfinite(error) else None,
        tuple(sorted(attacks)),
    )
