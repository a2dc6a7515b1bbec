"""Runs as Python objects, shown in a notebook as tables and pictures."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, overload

from cifar_exp.config.schema import Config
from cifar_exp.errors import UserError, did_you_mean
from cifar_exp.notebook import process, shown
from cifar_exp.notebook.origin import Origin
from cifar_exp.review import comparison, repeated, run_predictions
from cifar_exp.review.comparison import Comparison
from cifar_exp.tracking import addresses

if TYPE_CHECKING:
    import keras
    import pandas as pd
    from PIL.Image import Image

_FIGURE_BYTES = 1 << 25
_LOWER_IS_BETTER = ("loss", "objective", "nll", "brier", "ece")


@dataclass(frozen=True, repr=False)
class Run:
    """A run that was trained or found. What it has logged beyond its metrics is read when it is first asked for.

    Attributes:
        name: of the run.
        run_id: MLflow's id; None if the run is not in the store yet.
        status: FINISHED, FAILED, KILLED or RUNNING.
        outcome: completed, collapsed, pruned, diverged, failed, interrupted or running.
        metrics: metric -> its last value, by the names in docs/tracking.md.
    """

    name: str
    run_id: str | None
    status: str
    outcome: str
    metrics: dict[str, float]
    _origin: Origin = field(compare=False)

    @classmethod
    def of(cls, origin: Origin) -> Run:
        """Read a run from where it is."""
        record = origin.record()
        metrics = {name: value for name, value in record.metrics.items() if not name.startswith("system/")}
        return cls(record.name, record.id, record.status, record.outcome, metrics, origin)

    @cached_property
    def history(self) -> pd.DataFrame:
        """One row per epoch, from 1: loss, accuracy and learning rate, and what the epoch cost."""
        import pandas as pd

        return pd.DataFrame(self._origin.history()).rename_axis(index="epoch").sort_index()

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """One row per test image: index, label, predicted, p_<class>.

        Raises:
            UserError: if the run has none, as one that did not finish.
        """
        content = self._origin.file(run_predictions.PREDICTIONS, run_predictions.MAX_BYTES)
        return run_predictions.parse(content, f"run {self.name}")

    @cached_property
    def config(self) -> Config:
        """The settings of the run, without those of the machine on which it ran."""
        return self._origin.config()

    @property
    def page(self) -> str | None:
        """Web address of the run: on the team's page if the server has one, else in MLflow's UI.

        None if the run is not in the store yet.
        """
        if self.run_id is None:
            return None
        with process.environment():
            return addresses.run_page(self._origin.store(), self.run_id)

    def model(self) -> keras.Model:
        """Rebuild the trained network from its config and load its weights; nothing in the saved file is run.

        Returns:
            Model from images (N, H, W, C) uint8 to class probabilities (N, C) float32.

        Raises:
            UserError: if the run logged no model, or the weights do not fit the config.
        """
        from cifar_exp.evaluation import predict
        from cifar_exp.training import runtime

        training = replace(self.config.training, device="auto")  # the device of another machine may not be here
        with process.command(), self._origin.weights() as file:
            runtime.check_backend()
            return predict.classifier(replace(self.config, training=training), file, f"run {self.name}")

    def figure(self, name: str) -> Image:
        """Return a figure that the run logged.

        Args:
            name: curves, confusion_matrix, predictions, samples or another name in the run's folder `figures`.

        Raises:
            UserError: if the run has no such figure.
        """
        from PIL import Image

        figures = self._origin.figures()
        if name not in figures:
            raise UserError(
                f"run {self.name} has no figure {name!r}{did_you_mean(name, figures)} (it has: {', '.join(figures)})"
            )
        try:
            image = Image.open(io.BytesIO(self._png(name)), formats=["PNG"])
            image.load()
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise UserError(f"run {self.name}: figure {name!r} cannot be read: {error}") from error
        return image

    def _png(self, name: str) -> bytes:
        return self._origin.file(f"figures/{name}.png", _FIGURE_BYTES)

    def __repr__(self) -> str:
        measured = "".join(f", {key} {self.metrics[key]:.4f}" for key in shown.SUMMARY if key in self.metrics)
        return f"Run({self.name!r}, {self.status}{measured})"

    def _repr_html_(self) -> str:
        curves = base64.b64encode(self._png("curves")).decode() if "curves" in self._origin.figures() else ""
        return shown.run(self.name, self.status, self.outcome, self.metrics, self.page, curves)


class Runs(Sequence[Run]):
    """Several runs, in a fixed order.

    Args:
        runs: the runs.
    """

    def __init__(self, runs: Iterable[Run]) -> None:
        self._runs = tuple(runs)

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> Runs: ...
    def __getitem__(self, index: int | slice) -> Run | Runs:
        """A run by its position, or several runs."""
        return Runs(self._runs[index]) if isinstance(index, slice) else self._runs[index]

    def __len__(self) -> int:
        return len(self._runs)

    def compare(self) -> pd.DataFrame:
        """Compare the runs, as `cifar-exp compare` does.

        Returns:
            One row per run: run_id, name, the parameters that differ, results, outcome, review.
        """
        return self._compared().frame

    def best(self, metric: str = "val/best_accuracy") -> Run:
        """Return the run that is best on the validation images; of equal ones, the first.

        Args:
            metric: name of a metric of the validation. The lowest loss is best, and the highest of other metrics.

        Raises:
            UserError: if the metric is not one of the validation, no run has it, or a run validated on its test images:
                a model that is chosen on test images has no fair test left.
        """
        if not metric.startswith("val/"):
            raise UserError(
                f"{metric}: the best run is chosen on the validation images, with a metric such as val/loss"
            )
        measured = [run for run in self if not math.isnan(run.metrics.get(metric, math.nan))]
        if not measured:
            raise UserError(f"{metric}: none of {len(self)} runs has this metric")
        for run in measured:
            if run.config.data.validation == "test":
                raise UserError(f"run {run.name} validated on its test images; choose among runs that did not")
        lowest = metric.rpartition("/")[2].split("_")[0] in _LOWER_IS_BETTER
        return (min if lowest else max)(measured, key=lambda run: run.metrics[metric])

    def _compared(self) -> Comparison:
        records = [run._origin.record() for run in self]
        compared = comparison.compare(records)
        return replace(compared, notes=(*compared.notes, *repeated.sentences(records)))

    def __repr__(self) -> str:
        return "\n".join([f"{len(self)} runs:", *map(repr, self)])

    def _repr_html_(self) -> str:
        return shown.runs(self._compared(), [run.page for run in self])
