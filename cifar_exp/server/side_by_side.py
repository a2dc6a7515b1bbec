"""The page on which two to four runs stand side by side: what differs, in settings, words, images and matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cifar_exp.errors import UserError
from cifar_exp.evaluation import mistakes
from cifar_exp.review import comparison, paired, run_predictions, run_record
from cifar_exp.review.paired import Paired
from cifar_exp.review.run_predictions import Matrix
from cifar_exp.server import database, details, shown
from cifar_exp.server.shown import ShownRun

if TYPE_CHECKING:
    from mlflow.entities import Run

_EXAMPLES = 12  # images that one run alone gets right


@dataclass(frozen=True)
class Cut:
    """An image on the sheet of a run's mistakes, see `evaluation.mistakes`.

    Attributes:
        run_id: of the run that has the sheet.
        column: from 0.
        row: from 0.
        columns: of the sheet.
        rows: of the sheet.
    """

    run_id: str
    column: int
    row: int
    columns: int
    rows: int


@dataclass(frozen=True)
class Example:
    """A test image that one of several runs alone gets right.

    Attributes:
        index: of the image.
        label: true class.
        others: the class that each other run takes it for.
        picture: of the image; None if no run has logged it.
    """

    index: int
    label: str
    others: list[str]
    picture: Cut | None


@dataclass(frozen=True)
class OnlyRight:
    """Test images that one of several runs alone gets right.

    Attributes:
        count: how many there are.
        shown: the first ones.
    """

    count: int
    shown: list[Example]


@dataclass(frozen=True)
class SideBySide:
    """Runs beside each other.

    Attributes:
        runs: the runs.
        params: parameters that differ: name, and a value per run.
        words: comparisons of the first run with each other one, one sentence each.
        alone: images that each run alone gets right; None if the runs cannot be compared.
        no_pictures: why some of these images are not shown; empty if all are.
        matrices: confusion matrix of each run; None where there is none.
        differences: of each matrix from that of the first run; None where they cannot be compared.
    """

    runs: list[ShownRun]
    params: list[tuple[str, list[str]]]
    words: list[str]
    alone: list[OnlyRight] | None
    no_pictures: str
    matrices: list[Matrix | None]
    differences: list[Matrix | None]


def compare(logged: Sequence[Run]) -> SideBySide:
    """Compare the first run with each of the others."""
    records = [run_record.from_run(run) for run in logged]
    keys = comparison.differing(records)
    frames = [_predictions(run) for run in logged]
    words = _words(logged, frames)
    matrices = [details.matrix(database.store_of(run), run) for run in logged]
    with_sheet = ["mistakes" in details.pictures(database.store_of(run), run) for run in logged]
    alone = _alone(logged, frames, with_sheet)
    return SideBySide(
        [shown.run(run) for run in logged],
        [(key, [run.data.params.get(key, "-") for run in logged]) for key in keys],
        words,
        alone,
        _no_pictures(logged, with_sheet, alone or []),
        matrices,
        [_difference(matrices[0], other) for other in matrices],
    )


def _predictions(run: Run) -> Any:
    """Predictions of a run; the reason if it has none."""
    try:
        return run_predictions.read(database.store_of(run), run)
    except UserError as error:
        return error


def _words(logged: Sequence[Run], frames: Sequence[Any]) -> list[str]:
    """Comparisons of the first run with each other one by their predictions, corrected for their number, in words."""
    others = zip(logged[1:], frames[1:], strict=True)
    compared = [_compared(logged[0], frames[0], *other) for other in others]
    tests = iter(paired.corrected([one for one in compared if isinstance(one, Paired)]))
    return [next(tests).words if isinstance(one, Paired) else one for one in compared]


def _compared(first: Run, a: Any, other: Run, b: Any) -> Paired | str:
    """The comparison of two runs by their predictions; a sentence if they cannot be compared."""
    try:
        for missing in (a, b):
            if isinstance(missing, UserError):
                raise missing
        return paired.compare_predictions((first, a), (other, b))
    except UserError as error:
        return f"{other.info.run_name} and {first.info.run_name} cannot be compared: {error}"


def _no_pictures(logged: Sequence[Run], with_sheet: Sequence[bool], alone: Sequence[OnlyRight]) -> str:
    """Why some images have no picture."""
    if all(example.picture for one in alone for example in one.shown):
        return ""
    if without := [str(run.info.run_name) for run, has in zip(logged, with_sheet, strict=True) if not has]:
        return f"Not logged: pictures of the mistakes (figures/mistakes.png) of {', '.join(without)}."
    return f"A run logs pictures of its first {mistakes.COUNT} mistakes only."


def _alone(logged: Sequence[Run], frames: Sequence[Any], with_sheet: Sequence[bool]) -> list[OnlyRight] | None:
    """The images that each run alone gets right; None if the runs have not predicted the same images.

    What one run alone gets right is among the mistakes of all others, so that their sheets have its picture.
    """
    if any(isinstance(frame, UserError) for frame in frames):
        return None
    first = frames[0]
    if any(len(one) != len(first) or (one["label"].to_numpy() != first["label"].to_numpy()).any() for one in frames):
        return None
    classes = run_predictions.classes(first)
    right = sum((one["predicted"] == one["label"]).to_numpy().astype(int) for one in frames)
    sheets = [
        _sheet(run.info.run_id, frame) if has else {}
        for run, frame, has in zip(logged, frames, with_sheet, strict=True)
    ]
    pictures = {row: cut for sheet in sheets for row, cut in sheet.items()}
    found = []
    for at, frame in enumerate(frames):
        chosen = frame[(frame["predicted"] == frame["label"]).to_numpy() & (right == 1)]
        others = [one for number, one in enumerate(frames) if number != at]
        examples = [
            Example(
                int(frame["index"].loc[row]),
                _class(classes, frame["label"].loc[row]),
                [_class(classes, other["predicted"].loc[row]) for other in others],
                pictures.get(row),
            )
            for row in sorted(chosen.index, key=lambda row: row not in pictures)[:_EXAMPLES]
        ]
        found.append(OnlyRight(len(chosen), examples))
    return found


def _sheet(run_id: str, frame: Any) -> dict[int, Cut]:
    """Row of the predictions -> its place on the sheet of the run's mistakes."""
    rows = mistakes.chosen(frame["label"].to_numpy(), frame["predicted"].to_numpy())
    columns, lines = mistakes.COLUMNS, -(-len(rows) // mistakes.COLUMNS)
    return {int(row): Cut(run_id, at % columns, at // columns, columns, lines) for at, row in enumerate(rows)}


def _class(classes: Sequence[str], number: Any) -> str:
    return classes[int(number)] if 0 <= int(number) < len(classes) else str(number)


def _difference(first: Matrix | None, other: Matrix | None) -> Matrix | None:
    if first is None or other is None or first is other or first[0] != other[0]:
        return None
    rows = zip(first[1], other[1], strict=True)
    return first[0], [[b - a for a, b in zip(row, others, strict=True)] for row, others in rows]
