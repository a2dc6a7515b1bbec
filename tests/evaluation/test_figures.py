"""Tests of the figures, for ordinary data and edge cases."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pytest
from drawn import CLASSES, history, png_size, texts
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from cifar_exp.data import cifar100
from cifar_exp.evaluation import figures, style


def line_data(axes: Axes, label: str) -> tuple[list[float], list[float]]:
    """x and y values of the line with this label."""
    (line,) = (line for line in axes.lines if str(line.get_label()).startswith(label))
    return np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()


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


# Training curves


@pytest.mark.parametrize("epochs", [1, 2, 12, 100])
def test_curves_show_every_epoch_from_1_with_integer_ticks(epochs: int) -> None:
    data = history(epochs)
    figure = figures.curves(data, "a run")
    assert {"a run", "loss", "accuracy", "training", "validation", "epoch"} <= set(texts(figure))
    for axes, metric in zip(figure.axes, ("loss", "accuracy"), strict=True):
        for label, prefix in (("training", "train"), ("validation", "val")):
            assert line_data(axes, label) == (list(range(1, epochs + 1)), data[f"{prefix}/{metric}"])
        ticks = axes.get_xticks()
        assert np.array_equal(ticks, np.round(ticks))
        low, high = axes.get_xlim()
        assert 0 < low < 1 and epochs < high


def test_a_single_epoch_is_drawn_as_points() -> None:
    figure = figures.curves(history(1), "")
    assert all(line.get_marker() == "o" for axes in figure.axes for line in axes.lines[:2])


def test_curves_mark_the_best_epoch() -> None:
    data = history(5) | {"val/accuracy": [0.1, 0.5, 0.71, 0.6, 0.7]}
    figure = figures.curves(data, "")
    assert line_data(figure.axes[1], "best") == ([3], [0.71])
    assert "best validation: 0.710 in epoch 3" in texts(figure)


def test_curves_skip_values_that_are_not_finite() -> None:
    nan, inf = float("nan"), float("inf")
    data = history(4) | {"val/accuracy": [0.3, nan, inf, 0.2], "train/loss": [nan] * 4}
    figure = figures.curves(data, "")
    assert "best validation: 0.300 in epoch 1" in texts(figure)
    assert [line.get_label() for line in figure.axes[0].lines][:1] == ["validation"]
    assert png_size(style.to_png(figure))


def test_curves_without_validation() -> None:
    figure = figures.curves({"train/loss": [1.0, 0.5], "train/accuracy": [0.4, 0.6]}, "")
    shown = texts(figure)
    assert "training" in shown and "validation" not in shown
    assert not any(text.startswith("best") for text in shown)


@pytest.mark.parametrize("data", [{}, {"train/loss": []}, {"val/accuracy": [float("nan")]}])
def test_curves_of_nothing_say_so(data: dict[str, list[float]]) -> None:
    assert texts(figures.curves(data, "")).count("no finite values") == 2


# Several runs


def test_overlaid_runs_are_ordered_by_best_accuracy() -> None:
    runs = {"low": history(3, 0.4), "none": {}, "high": history(9, 0.9), "_$mid$": history(5, 0.6)}
    figure = figures.overlaid_curves(runs)
    (legend,) = figure.legends
    expected = ["0.900  high", "0.600  _$mid$", "0.400  low", "–  none"]
    assert [text.get_text() for text in legend.get_texts()] == expected
    assert [axes.get_title("left") for axes in figure.axes] == ["validation loss", "validation accuracy"]
    assert line_data(figure.axes[1], "0.600") == ([1, 2, 3, 4, 5], runs["_$mid$"]["val/accuracy"])


def test_twenty_runs_look_different_from_each_other() -> None:
    runs = {f"run-{index}": history(10, 0.5 + index / 100) for index in range(20)}
    figure = figures.overlaid_curves(runs)
    for axes in figure.axes:
        assert len(axes.lines) == 20
        assert len({(line.get_color(), line.get_linestyle()) for line in axes.lines}) == 20
        assert len({(line.get_color(), line.get_marker()) for line in axes.lines}) == 20


def test_the_legend_lies_below_the_panels() -> None:
    figure = figures.overlaid_curves({f"run-{index}": history(10) for index in range(20)})
    figure.draw_without_rendering()
    assert figure.legends[0].get_window_extent().y1 <= min(
        axes.xaxis.label.get_window_extent().y0 for axes in figure.axes
    )
    assert figure.legends[0].get_window_extent().y0 >= 0


def test_one_diverged_run_does_not_flatten_the_others() -> None:
    runs = {name: history(3) for name in "abc"} | {"diverged": history(3) | {"val/loss": [2.0, 1e9, np.inf]}}
    assert figures.overlaid_curves(runs).axes[0].get_ylim()[1] < 10


def test_no_runs_at_all() -> None:
    figure = figures.overlaid_curves({})
    assert not figure.legends and png_size(style.to_png(figure))


# Confusion matrix


def test_confusion_matrix_shows_counts_and_recall() -> None:
    matrix = np.array([[8, 2, 0], [0, 0, 0], [3, 3, 6]])
    figure = figures.confusion_matrix(matrix, ("cat", "dog", "automobile"), "Test set")
    axes = figure.axes[0]
    assert (axes.get_ylabel(), axes.get_xlabel(), axes.get_title("left")) == ("true", "predicted", "Test set")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog", "automobile"]
    cells = {text.get_position(): text for text in axes.texts}
    assert [cells[column, row].get_text() for row in range(3) for column in range(3)] == [
        str(count) for count in matrix.ravel()
    ]
    assert cells[0, 0].get_color() == "white" and cells[1, 0].get_color() != "white"
    assert [cells[2.6, row].get_text() for row in range(3)] == ["80.0 %", "–", "50.0 %"]
    shares = np.asarray(axes.images[0].get_array())
    assert np.allclose(shares, np.array([[0.8, 0.2, 0], [0, 0, 0], [0.25, 0.25, 0.5]]))


# Predictions


def test_the_most_confident_mistake_comes_first(dataset: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = dataset
    predicted = labels.astype(int)
    predicted[[4, 7, 13]] = [5, 1, 0]
    confidence = np.linspace(0.9, 0.5, 20)
    confidence[[4, 7, 13]] = 0.7, 0.98, 0.3
    probabilities = certain(predicted, confidence)
    figure = figures.predictions(images, labels, probabilities, CLASSES, count=4)
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
    figure = figures.predictions(images, labels, certain(predicted, np.full(20, 0.9)), CLASSES, count=4)
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
    shown = texts(figures.predictions(images, labels, certain(predicted, np.full(20, 0.6)), CLASSES))
    taken = sum("taken for" in text for text in shown)
    assert (taken, sum("recognized" in text for text in shown)) == expected


def test_predictions_of_few_images_or_of_a_diverged_model(dataset: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = dataset
    figure = figures.predictions(images[:2], labels[:2], np.full((2, 10), np.nan), CLASSES)
    assert len(figure.axes[0].images) == 2
    assert not figures.predictions(images[:0], labels[:0], np.empty((0, 10)), CLASSES).axes[0].images


# Samples


def grid_cells(figure: Figure, columns: int) -> np.ndarray:
    """Images of all rows, (rows, columns, 32, 32, 3)."""
    rows = np.stack([np.asarray(image.get_array()) for image in figure.axes[0].images])
    return rows.reshape(len(rows), 32, columns, 36, 3).swapaxes(1, 2)[:, :, :, :32]


def test_samples_begin_with_the_first_images_in_order_their_classes_below(
    dataset: tuple[np.ndarray, np.ndarray],
) -> None:
    images, labels = dataset
    figure = figures.samples(images, labels, CLASSES, first=7, per_class=4)
    drawn = grid_cells(figure, 4)[:2].reshape(8, 32, 32, 3)
    assert np.array_equal(drawn[:7], images[:7]) and (drawn[7] == 255).all()
    assert {"The first 7 training images", "1 – 4", "5 – 7"} <= set(texts(figure))
    named = [text for text in figure.axes[0].texts if text.get_ha() == "center"]
    assert [text.get_text() for text in named] == [CLASSES[label] for label in labels[:7]]
    assert [round(text.get_position()[1], 2) for text in named] == [0.71] * 4 + [1.55] * 3


def test_samples_then_are_images_of_their_row(dataset: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = dataset
    figure = figures.samples(images, labels, CLASSES, first=3, per_class=3)
    assert [text.get_text() for text in figure.axes[0].texts if text.get_ha() == "right"] == ["1 – 3", *CLASSES]
    for row, cells in enumerate(grid_cells(figure, 3)[1:]):
        drawn = {cell.tobytes() for cell in cells}
        assert drawn == {image.tobytes() for image in images[labels == row]} | {b"\xff" * 3072}


def test_samples_follow_the_seed(dataset: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = dataset
    drawn = [grid_cells(figures.samples(images, labels, CLASSES, 0, 2, seed), 2) for seed in (0, 0, 1)]
    assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])


def test_samples_leave_the_row_of_an_absent_class_empty(dataset: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = dataset
    present = labels != 3
    cells = grid_cells(figures.samples(images[present], labels[present], CLASSES, 0, per_class=2), 2)
    assert (cells[3] == 255).all() and not (cells[2] == 255).all()


@pytest.mark.parametrize("classes", [CLASSES, tuple("0123456789")], ids=["names", "digits"])
def test_texts_of_image_figures_stay_apart_and_inside(
    dataset: tuple[np.ndarray, np.ndarray], classes: tuple[str, ...]
) -> None:
    images, labels = dataset
    labels = np.where(labels == 0, 1, labels).astype(np.uint8)  # automobile, the longest, side by side with itself
    wrong = certain((labels.astype(int) + 1) % 10, np.full(20, 0.999))
    for figure in (figures.samples(images, labels, classes), figures.predictions(images, labels, wrong, classes)):
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


def boxes_of(figure: Figure, texts: Iterable[Text]) -> list[Bbox]:
    """Extents of the texts that show something."""
    figure.draw_without_rendering()
    return [text.get_window_extent() for text in texts if text.get_text()]


@pytest.mark.parametrize("name", ["samples", "predictions"])
@pytest.mark.parametrize("shape", [(32, 32, 3), (28, 28, 1)], ids=["colour", "grey"])
def test_image_figures_of_a_hundred_classes_are_legible(name: str, shape: tuple[int, int, int]) -> None:
    classes = cifar100.CLASS_NAMES["fine"]
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (300, *shape), dtype=np.uint8)
    labels = np.arange(300, dtype=np.uint8) % 100
    probabilities = generator.dirichlet(np.full(100, 0.05), 300)
    if name == "samples":
        figure = figures.samples(images, labels, classes)
        assert "Random training images of 20 of 100 classes" in texts(figure)
    else:
        figure = figures.predictions(images, labels, probabilities, classes)
    boxes = [box.padded(-0.25) for box in boxes_of(figure, figure.axes[0].texts)]  # pixels that touch
    assert all(0 <= box.x0 < box.x1 <= figure.bbox.width for box in boxes)
    assert all(0 <= box.y0 < box.y1 <= figure.bbox.height for box in boxes)
    assert not any(box.overlaps(other) for index, box in enumerate(boxes) for other in boxes[:index])
    assert min(box.height for box in boxes) >= 7
    width, height = png_size(style.to_png(figure))
    assert width <= 1100 and height <= 1900


def test_a_confusion_matrix_of_a_hundred_classes_names_all_of_them() -> None:
    classes = cifar100.CLASS_NAMES["fine"]
    matrix = np.random.default_rng(0).integers(0, 3, (100, 100)) + 80 * np.eye(100, dtype=int)
    figure = figures.confusion_matrix(matrix, classes, "Test set")
    axes = figure.axes[0]
    rows, columns = axes.get_yticklabels(), axes.get_xticklabels()
    assert [label.get_text() for label in rows] == [label.get_text() for label in columns] == list(classes)
    recalls = [text for text in axes.texts if text.get_text().endswith("%")]
    assert len(recalls) == 100 and len(axes.texts) == 101  # no counts, which would be too small
    for labels, side in ((rows, "height"), (columns, "width"), (recalls, "height")):
        boxes = boxes_of(figure, labels)
        assert min(getattr(box, side) for box in boxes) >= 7
        assert not any(box.overlaps(other) for box, other in pairwise(boxes))
    width, height = png_size(style.to_png(figure))
    assert width <= 2400 and height <= 2400


def test_images_of_one_channel_are_grey() -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 28, 28, 1), dtype=np.uint8)
    labels = np.arange(20, dtype=np.uint8) % 10
    shown = figures.predictions(images, labels, certain(labels.astype(int), np.full(20, 0.9)), tuple("0123456789"))
    pictures = [np.asarray(image.get_array()) for image in shown.axes[0].images]
    assert len(pictures) == 12
    for picture in pictures:
        assert (picture == picture[..., :1]).all()
        assert any(np.array_equal(picture[..., :1], image) for image in images)
