"""The sheet of the images that a model gets wrong."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from cifar_exp.evaluation import mistakes


def test_the_first_mistakes_are_chosen() -> None:
    labels = np.arange(1000) % 10
    predicted = np.where(np.arange(1000) % 3 == 0, (labels + 1) % 10, labels)
    assert mistakes.chosen(labels, predicted).tolist() == list(range(0, 3 * mistakes.COUNT, 3))
    assert mistakes.chosen(labels, labels).size == 0


@pytest.mark.parametrize(
    ("shape", "cell"), [((32, 32, 3), (32, 32)), ((28, 28, 1), (28, 28)), ((100, 200, 3), (32, 64))]
)
def test_each_image_is_at_its_place(shape: tuple[int, int, int], cell: tuple[int, int]) -> None:
    values = np.arange(40, dtype=np.uint8)
    images = np.broadcast_to(values[:, None, None, None], (40, *shape)).copy()
    rows = np.arange(1, 40, 2)
    sheet = np.asarray(Image.open(io.BytesIO(mistakes.sheet(images, rows))))
    height, width = cell
    assert sheet.shape == (2 * height, mistakes.COLUMNS * width, 3)
    for place, row in enumerate(rows):
        down, across = divmod(place, mistakes.COLUMNS)
        cut = sheet[down * height : (down + 1) * height, across * width : (across + 1) * width]
        assert (cut == values[row]).all()
