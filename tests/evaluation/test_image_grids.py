"""Tests of the grids of samples and predictions, for ordinary data and edge cases."""

from __future__ import annotations

import numpy as np
import pytest
from drawn import CLASSES, boxes_of, png_size, texts
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from cifar_exp.data import cifar100
from cifar_exp.evaluation import image_grids, style


@pytest.fixture
def dataset() -> tuple[np.ndarray, np.ndarray]:
    """20 noise images, two of each class."""
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    return images, np.arange(20, dtype=np.uint8) % 10


def certain(predicted: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """Probabilities (N, 10) with `confidence` on `predicted`, the rest spread evenly."""
    probabilities = np.repeat((1 - confidence)[:, None] / 9, 10, axis=1)
    probabilities[np.arange(len(predicted)), predicted] = confidence
    return probabilities


# Predictions


def test_the_most_confident_mistake_comes_first(dataset: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = dataset
    predicted = labels.astype(int)
    predicted[[4, 7, 13]] = [5, 1, 0]
    confidence = np.linspace(0.9, 0.5, 20)
    confidence[[4, 7, 13]] = 0.7, 0.98, 0.3
    probabilities = certain(predicted, confidence)
    figure = image_grids.predictions(images, labels, probabilities, CLASSES, count=4)
    (axes,) = figure.axes
    captions = [text for text in axes.texts if text.get_text().endswith("%)")]
    assert [caption.get_text() for caption in captions] == [
        "horse, taken for automobile (98 %)",
        "deer, taken for dog (70 %)",
        "cat, taken for airplane (30 %)",
        "truck, recognized (50 %)",
    ]
    for image, index in zip(axes.images, (7, 4, 13, 19), strict=True):
        assert np.array_equal(np.asarray(image.get_array()), images[index])
    title = texts(figure)[0]
    assert "most confident mistakes (3)" in title and "least confident correct predictions (1)" in title


def test_colours_tell_right_from_wrong(dataset: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = dataset
    predicted = labels.astype(int)
    predicted[3] = 5  # a cat taken for a dog
    figure = image_grids.predictions(images, labels, certain(predicted, np.full(20, 0.9)), CLASSES, count=4)
    wrong, right, *_ = figure.axes[0].containers
    colours = [[to_hex(bar.get_facecolor()).upper() for bar in bars] for bars in (wrong, right)]
    assert colours[0][5] == style.RED and colours[0][3] == style.BLUE
    assert {colours[0][index] for index in range(10) if index not in (3, 5)} == {style.PALE}
    assert sorted(set(colours[1])) == sorted({style.BLUE, style.PALE})
    widths = [bar.get_width() for bar in wrong]
    assert widths[5] == max(widths) and np.isclose(widths[5] / widths[0], 0.9 / (0.1 / 9))


@pytest.mark.parametrize(("mistakes", "expected"), [(0, (0, 12)), (2, (2, 10)), (18, (10, 2)), (20, (12, 0))])
def test_right_and_wrong_fill_in_for_each_other(
    dataset: tuple[np.ndarray, np.ndarray], mistakes: int, expected: tuple[int, int]
) -> None:
    images, labels = dataset
    predicted = labels.astype(int)
    predicted[:mistakes] = (predicted[:mistakes] + 1) % 10
    shown = texts(image_grids.predictions(images, labels, certain(predicted, np.full(20, 0.6)), CLASSES))
    taken = sum("taken for" in text for text in shown)
    assert (taken, sum("recognized" in text for text in shown)) == expected


def test_predictions_of_few_images_or_of_a_diverged_model(dataset: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = dataset
    figure = image_grids.predictions(images[:2], labels[:2], np.full((2, 10), np.nan), CLASSES)
    assert len(figure.axes[0].images) == 2
    assert not image_grids.predictions(images[:0], labels[:0], np.empty((0, 10)), CLASSES).axes[0].images


# Samples


def grid_cells(figure: Figure, columns: int) -> np.ndarray:
    """Images of all rows, (rows, columns, 32, 32, 3)."""
    rows = np.stack([np.asarray(image.get_array()) for image in figure.axes[0].images])
    return rows.reshape(len(rows), 32, columns, 36, 3).swapaxes(1, 2)[:, :, :, :32]


def test_samples_begin_with_the_first_images_in_order_their_classes_below(
    dataset: tuple[np.ndarray, np.ndarray],
) -> None:
    images, labels = dataset
    figure = image_grids.samples(images, labels, CLASSES, first=7, per_class=4)
    drawn = grid_cells(figure, 4)[:2].reshape(8, 32, 32, 3)
    assert np.array_equal(drawn[:7], images[:7]) and (drawn[7] == 255).all()
    assert {"The first 7 training images", "1 – 4", "5 – 7"} <= set(texts(figure))
    named = [text for text in figure.axes[0].texts if text.get_ha() == "center"]
    assert [text.get_text() for text in named] == [CLASSES[label] for label in labels[:7]]
    assert [round(text.get_position()[1], 2) for text in named] == [0.71] * 4 + [1.55] * 3


def test_samples_then_are_images_of_their_row(dataset: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = dataset
    figure = image_grids.samples(images, labels, CLASSES, first=3, per_class=3)
    assert [text.get_text() for text in figure.axes[0].texts if text.get_ha() == "right"] == ["1 – 3", *CLASSES]
    for row, cells in enumerate(grid_cells(figure, 3)[1:]):
        drawn = {cell.tobytes() for cell in cells}
        assert drawn == {image.tobytes() for image in images[labels == row]} | {b"\xff" * 3072}


def test_samples_have_the_first_images_as_training_changes_them(dataset: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = dataset
    plain, figure = (
        image_grids.samples(images, labels, CLASSES, first=7, per_class=4, changed=changed)
        for changed in (None, 255 - images[:7])
    )
    before, cells = grid_cells(plain, 4), grid_cells(figure, 4)
    assert np.array_equal(cells[2:4].reshape(8, 32, 32, 3)[:7], 255 - images[:7])
    assert np.array_equal(np.delete(cells, [2, 3], axis=0), before)
    assert set(texts(figure)) - set(texts(plain)) == {"The same images, changed at random as in training"}


def test_samples_follow_the_seed(dataset: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = dataset
    drawn = [grid_cells(image_grids.samples(images, labels, CLASSES, 0, 2, seed), 2) for seed in (0, 0, 1)]
    assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])


def test_samples_leave_the_row_of_an_absent_class_empty(dataset: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = dataset
    present = labels != 3
    cells = grid_cells(image_grids.samples(images[present], labels[present], CLASSES, 0, per_class=2), 2)
    assert (cells[3] == 255).all() and not (cells[2] == 255).all()


@pytest.mark.parametrize("classes", [CLASSES, tuple("0123456789")], ids=["names", "digits"])
def test_texts_of_image_figures_stay_apart_and_inside(
    dataset: tuple[np.ndarray, np.ndarray], classes: tuple[str, ...]
) -> None:
    images, labels = dataset
    labels = np.where(labels == 0, 1, labels).astype(np.uint8)  # automobile, the longest, side by side with itself
    wrong = certain((labels.astype(int) + 1) % 10, np.full(20, 0.999))
    for figure in (
        image_grids.samples(images, labels, classes),
        image_grids.samples(images, labels, classes, first=10, changed=images[:10]),
        image_grids.predictions(images, labels, wrong, classes),
    ):
        figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in figure.axes[0].texts]
        assert all(0 <= box.x0 < box.x1 <= figure.bbox.width for box in boxes)
        assert all(0 <= box.y0 < box.y1 <= figure.bbox.height for box in boxes)
        assert not any(box.overlaps(other) for index, box in enumerate(boxes) for other in boxes[:index])
        bars = [bar.get_window_extent() for bars in figure.axes[0].containers for bar in bars]
        assert all(bar.x1 <= figure.bbox.width for bar in bars)
        assert not any(bar.overlaps(box) for bar in bars for box in boxes if bar.width > 1)
        width, height = png_size(style.to_png(figure))
        assert 800 <= width <= 1000 and height <= 1050


# A hundred classes, and images of one channel


@pytest.mark.parametrize("name", ["samples", "predictions"])
@pytest.mark.parametrize("shape", [(32, 32, 3), (28, 28, 1)], ids=["colour", "grey"])
def test_image_figures_of_a_hundred_classes_are_legible(name: str, shape: tuple[int, int, int]) -> None:
    classes = cifar100.CLASS_NAMES["fine"]
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (300, *shape), dtype=np.uint8)
    labels = np.arange(300, dtype=np.uint8) % 100
    probabilities = generator.dirichlet(np.full(100, 0.05), 300)
    if name == "samples":
        figure = image_grids.samples(images, labels, classes)
        assert "Random training images of 20 of 100 classes" in texts(figure)
    else:
        figure = image_grids.predictions(images, labels, probabilities, classes)
    boxes = [box.padded(-0.25) for box in boxes_of(figure, figure.axes[0].texts)]  # pixels that touch
    assert all(0 <= box.x0 < box.x1 <= figure.bbox.width for box in boxes)
    assert all(0 <= box.y0 < box.y1 <= figure.bbox.height for box in boxes)
    assert not any(box.overlaps(other) for index, box in enumerate(boxes) for other in boxes[:index])
    assert min(box.height for box in boxes) >= 7
    width, height = png_size(style.to_png(figure))
    assert width <= 1100 and height <= 1900


def test_images_of_one_channel_are_grey() -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 28, 28, 1), dtype=np.uint8)
    labels = np.arange(20, dtype=np.uint8) % 10
    shown = image_grids.predictions(images, labels, certain(labels.astype(int), np.full(20, 0.9)), tuple("0123456789"))
    pictures = [np.asarray(image.get_array()) for image in shown.axes[0].images]
    assert len(pictures) == 12
    for picture in pictures:
        assert (picture == picture[..., :1]).all()
        assert any(np.array_equal(picture[..., :1], image) for image in images)
