"""Labels that look wrong to logged runs: their predictions for images that they did not train on, brought together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cifar_exp.data import corrections, datasets
from cifar_exp.data.schema import DataConfig
from cifar_exp.data.splits import Images, Split, Splits
from cifar_exp.errors import UserError, counted
from cifar_exp.evaluation import label_errors
from cifar_exp.experiment import reproduce
from cifar_exp.review import run_predictions
from cifar_exp.tracking.store import Store

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Run

VALIDATION, TEST = "validation", "test"
FILES = {VALIDATION: run_predictions.VALIDATION_PREDICTIONS, TEST: run_predictions.PREDICTIONS}


@dataclass(frozen=True)
class Suspects:
    """Images of a data set, those whose label looks most wrong first.

    Attributes:
        images: one row per image: number, label, suggested (class names), score (probability of the label),
            runs (number of predictions), wrong (whether confident learning flags it).
        runs: number of runs with predictions.
        split: of the images, `VALIDATION` or `TEST`.
        of: number of images of the data set that there could be predictions for.
        splits: the images of the first run.
        remarks: a line on each run that was left out.
    """

    images: pd.DataFrame
    runs: int
    split: str
    of: int
    splits: Splits
    remarks: tuple[str, ...] = ()

    @property
    def wrong(self) -> int:
        """Number of labels that look wrong."""
        return int(self.images["wrong"].sum())

    @property
    def words(self) -> str:
        """What was found, in sentences."""
        images = len(self.images)
        runs = counted(self.runs, "run")
        said = f"{self.wrong:,} of {images:,} labels look wrong ({100 * self.wrong / images:.1f} %) to {runs}"
        said += f", which predicted these {self.split} images without training on them."
        if self.split == VALIDATION and images < self.of:
            rest = f" {self.of - images:,} images never validated; folds cover all: data.folds=5 data.fold=0,1,2,3,4."
            return said + rest
        return said

    def rows(self, count: int) -> list[dict[str, Any]]:
        """The first images as rows of a list for `data.exclude` and `data.relabel`."""
        first = self.images.head(count)
        names = corrections.names(self.splits, first["number"].tolist())
        shown = first[["label", "suggested", "score"]].round({"score": 6}).assign(decision="")
        shown.insert(0, corrections.column(self.splits), names)
        return [{str(column): value for column, value in row.items()} for row in shown.to_dict("records")]

    def pictures(self, count: int) -> list[Images | None]:
        """The first images (H, W, C) uint8; `None` for one that the first run does not have."""
        parts = [self.splits.training, self.splits.validation, self.splits.test]
        place = {number: (part, at) for part in parts for at, number in enumerate(_numbers(part).tolist())}
        found = [place.get(number) for number in self.images["number"].head(count).tolist()]
        return [None if where is None else where[0].images[where[1]] for where in found]


def find(store: Store, runs: Sequence[Run], split: str = VALIDATION, overrides: Sequence[str] = ()) -> Suspects:
    """Rank the labels by how wrong they look to runs, from the mean of the runs' probabilities for each image.

    Args:
        store: contains the runs.
        runs: of the same data. Over the folds of a cross-validation, every image validates once.
        split: `VALIDATION`, or `TEST` for the test images.
        overrides: settings of this machine, such as `data.dir=photos`.

    Raises:
        UserError: if the runs are of different data or of other data than is on this machine, if none has predictions,
            or if cleanlab is not installed.
    """
    import pandas as pd

    frames, remarks = [], []
    first: tuple[DataConfig, str, tuple[str, ...]] | None = None
    for run in runs:
        name = f"{run.info.run_name} ({run.info.run_id[:8]})"
        try:
            frame = run_predictions.read(store, run, FILES[split])
        except UserError as error:
            remarks.append(f"left out: {error}")
            continue
        data = reproduce.read(store, run.info.run_id, overrides).config.data
        if split == VALIDATION and data.validation == TEST and data.folds is None:
            raise UserError(f"run {name} validated on the test images; add --split test")
        splits = datasets.load(data)
        held_out: Split = getattr(splits, split)
        _check(frame, held_out, splits.classes, name, run_predictions.digest(run, split))
        frame["index"] = _numbers(held_out)
        if first is None:
            first = (data, splits.source, splits.classes)
        elif (first[0].name, *first[1:]) != (data.name, splits.source, splits.classes):
            raise UserError(f"run {name} is of other data than {runs[0].info.run_name}: {splits.source}")
        frames.append(frame.drop(columns="predicted"))
    if first is None:
        raise UserError(remarks[0].removeprefix("left out: ") if remarks else "no runs")
    data, _, classes = first
    together = pd.concat(frames, ignore_index=True)
    by_image = together.groupby("index", sort=True)
    different = by_image["label"].nunique() > 1
    if different.any():
        number = different[different].index[0]
        raise UserError(f"image {number} has different labels in these runs; select runs of one data.relabel")
    means = by_image.mean()
    probabilities = run_predictions.probabilities(means)
    labels = means["label"].to_numpy(np.int64)
    scores, wrong = label_errors.find(labels, probabilities)
    suggested = probabilities.argmax(axis=1)
    names = np.array(classes)
    images = pd.DataFrame(
        {
            "number": means.index.to_numpy(),
            "label": names[labels],
            "suggested": names[suggested],
            "score": scores,
            "runs": by_image.size().to_numpy(),
            "wrong": wrong,
        }
    ).sort_values(["wrong", "score"], ascending=[False, True], kind="stable", ignore_index=True)
    whole = datasets.load(replace(data, train_images=None))
    could = len(whole.test) if split == TEST else len(whole.training) + len(whole.validation)
    return Suspects(images, len(frames), split, max(could, len(images)), whole, tuple(remarks))


def _check(frame: pd.DataFrame, split: Split, classes: tuple[str, ...], name: str, digest: str | None) -> None:
    """Refuse predictions that are not for these images."""
    same = run_predictions.classes(frame) == classes and np.array_equal(frame["label"], split.labels)
    if not same or (digest and split.sha256[: len(digest)] != digest):
        raise UserError(f"run {name}: its images are not those on this machine; name their folder with --data-dir")


def _numbers(split: Split) -> Any:
    if split.numbers is None:
        raise UserError("the images of this data set have no numbers, so they cannot be named")
    return split.numbers
