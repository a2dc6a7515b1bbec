"""Explanation of a logged model's predictions, logged beside its run."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cifar_exp.analysis import chosen_images, follow_up
from cifar_exp.analysis.chosen_images import ChosenImages
from cifar_exp.config.schema import ONE_VIEW
from cifar_exp.errors import UserError
from cifar_exp.review import logged_model
from cifar_exp.tracking import addresses, run_tags
from cifar_exp.tracking.store import Store
from cifar_exp.training import out_of_memory

if TYPE_CHECKING:
    from mlflow.entities import Run

    from cifar_exp.evaluation.saliency import Maps
    from cifar_exp.evaluation.scores import Evaluation
    from cifar_exp.tracking.run import Run as LoggedRun

WRONG = "wrong"
_MISTAKES = 12  # images that `wrong` stands for
_MOST = 200  # images that are explained at once


@dataclass(frozen=True)
class Explained:
    """An explanation that was logged.

    Attributes:
        address: of that run in MLflow's UI; empty if it is not in the store yet.
        lines: what was explained, for the user.
    """

    address: str
    lines: tuple[str, ...]


def explain(
    store: Store, run: Run, wanted: Sequence[str], data: str | None, overrides: Sequence[str], part: str
) -> Explained:
    """Explain predictions of a run's model and log pictures of them as a run below it.

    Args:
        store: contains the run.
        run: the run.
        wanted: numbers of images, from 0, and `wrong`, which stands for the most confident mistakes.
        data: name of another data set; None: the one of the run.
        overrides: settings of the data.
        part: `test`, `validation`, `training` or `all`.

    Raises:
        UserError: if the run has no model, the images do not fit it, or there is no such image.
    """
    classifier = logged_model.from_run(store, run)
    images = chosen_images.choose(store, run, classifier, data, overrides, part)
    numbers = parse(wanted, len(images.split))
    with out_of_memory.translate_errors():
        # One view of an image, whatever the run averages: each view would need a map of its own.
        model, predictor = logged_model.load(store, classifier, ONE_VIEW)
        from cifar_exp.evaluation import saliency
        from cifar_exp.evaluation.evaluation import evaluate_splits

        (evaluation,) = evaluate_splits(model, predictor, [images.split], classifier.classes)
        indices = select(numbers, evaluation, classifier.name)
        shown = np.asarray(images.split.images[indices])
        maps = saliency.maps(model, shown, evaluation.predicted[indices].astype(np.intp))
        params = {"data": images.data, "part": images.part, "source": images.source, "images": ",".join(wanted)}
        explained = f"{len(indices)} of {images.words}"
        with follow_up.start(store, run, run_tags.EXPLANATION_KIND, params, explained) as logged:
            logged.log_datasets(images.data, images.source, {"test": images.split})
            _log(logged, images, evaluation, indices, maps)
            note = f"{', '.join(maps)} of {explained}, by run {run.info.run_name}."
            follow_up.finish(logged, note)
    lines = (f"{classifier.name} on {images.words}: {', '.join(maps)}", *_lines(evaluation, indices))
    return Explained(addresses.run(logged.store, logged.id) if logged.id else "", lines)


def parse(wanted: Sequence[str], count: int) -> list[int | str]:
    """Read which images are wanted.

    Args:
        wanted: numbers from 0, and `wrong`.
        count: number of images.

    Raises:
        UserError: if a word is neither, if there is no image of that number, or if there are too many.
    """
    numbers: list[int | str] = []
    for word in wanted:
        if word == WRONG:
            numbers.append(WRONG)
        elif not word.isdecimal() or int(word) >= count:
            raise UserError(f"--images: got {word!r}, expected numbers from 0 to {count - 1}, or {WRONG}")
        else:
            numbers.append(int(word))
    if len(numbers) > _MOST:
        raise UserError(f"--images: got {len(numbers)} images, expected at most {_MOST}")
    return numbers


def select(numbers: Sequence[int | str], evaluation: Evaluation, name: str) -> npt.NDArray[np.intp]:
    """Return the numbers of the images, each once; `wrong` becomes the most confident mistakes.

    Raises:
        UserError: if nothing but mistakes is wanted, and there are none.
    """
    wrong = np.flatnonzero(evaluation.predicted != evaluation.labels)
    confidence = evaluation.probabilities[wrong].max(axis=1)
    mistakes = wrong[np.argsort(-confidence, kind="stable")][:_MISTAKES].tolist()
    found = [index for number in numbers for index in (mistakes if number == WRONG else [number])]
    if not found:
        count = len(evaluation.labels)
        raise UserError(f"{name} makes no mistake on these {count:,} images: choose some with --images 0,1,2")
    return np.array(list(dict.fromkeys(found)), np.intp)


def _log(
    logged: LoggedRun,
    images: ChosenImages,
    evaluation: Evaluation,
    indices: npt.NDArray[np.intp],
    maps: Mapping[str, Maps],
) -> None:
    from cifar_exp.evaluation import explanation_grids, style

    classes, probabilities = evaluation.classes, evaluation.probabilities
    rows = [
        {
            "index": int(index),
            "true": classes[int(evaluation.labels[index])],
            "predicted": classes[int(evaluation.predicted[index])],
            "probability": float(probabilities[index].max()),
        }
        for index in indices
    ]
    logged.write("explanations/explanations.json", json.dumps({"images": rows, "methods": list(maps)}, indent=2))
    content = io.BytesIO()
    arrays: dict[str, Any] = {name.lower().replace("-", "_"): each for name, each in maps.items()}
    np.savez_compressed(content, index=indices, **arrays)
    logged.write("explanations/maps.npz", content.getvalue())
    shown = np.asarray(images.split.images[indices])
    drawn = explanation_grids.explained(
        shown, indices.tolist(), evaluation.labels[indices], probabilities[indices], maps, classes
    )
    logged.write("explanations/images.png", style.to_png(drawn))
    confusions = explanation_grids.confusions(images.split.images, evaluation.labels, probabilities, classes)
    logged.write("explanations/confusions.png", style.to_png(confusions))
    logged.upload("explanations")


def _lines(evaluation: Evaluation, indices: npt.NDArray[np.intp]) -> list[str]:
    names = evaluation.classes
    return [
        f"  {index}: {names[evaluation.labels[index]]}, predicted {names[evaluation.predicted[index]]} "
        f"({evaluation.probabilities[index].max():.3f})"
        for index in indices
    ]
