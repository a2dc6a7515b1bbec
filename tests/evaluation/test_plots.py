"""Tests of the plots of histories and confusion matrices, for ordinary data and edge cases."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from drawn import boxes_of, history, png_size, texts
from matplotlib.axes import Axes

from cifar_exp.data import cifar100
from cifar_exp.evaluation import plots, style


def line_data(axes: Axes, label: str) -> tuple[list[float], list[float]]:
    """x and y values of the line with this label."""
    (line,) = (line for line in axes.lines if str(line.get_label()).startswith(label))
    return np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()


# Training curves


@pytest.mark.parametrize("epochs", [1, 2, 12, 100])
def test_curves_show_every_epoch_from_1_with_integer_ticks(epochs: int) -> None:
    data = history(epochs)
    figure = plots.curves(data, "a run")
    assert {"a run", "loss", "accuracy", "training", "validation", "epoch"} <= set(texts(figure))
    for axes, metric in zip(figure.axes, ("loss", "accuracy"), strict=True):
        for label, prefix in (("training", "train"), ("validation", "val")):
            assert line_data(axes, label) == (list(range(1, epochs + 1)), data[f"{prefix}/{metric}"])
        ticks = axes.get_xticks()
        assert np.array_equal(ticks, np.round(ticks))
        low, high = axes.get_xlim()
        assert 0 < low < 1 and epochs < high


def test_a_single_epoch_is_drawn_as_points() -> None:
    figure = plots.curves(history(1), "")
    assert all(line.get_marker() == "o" for axes in figure.axes for line in axes.lines[:2])


def test_curves_mark_the_best_epoch() -> None:
    data = history(5) | {"val/accuracy": [0.1, 0.5, 0.71, 0.6, 0.7]}
    figure = plots.curves(data, "")
    assert line_data(figure.axes[1], "best") == ([3], [0.71])
    assert "best validation: 0.710 in epoch 3" in texts(figure)


def test_curves_skip_values_that_are_not_finite() -> None:
    nan, inf = float("nan"), float("inf")
    data = history(4) | {"val/accuracy": [0.3, nan, inf, 0.2], "train/loss": [nan] * 4}
    figure = plots.curves(data, "")
    assert "best validation: 0.300 in epoch 1" in texts(figure)
    assert [line.get_label() for line in figure.axes[0].lines][:1] == ["validation"]
    assert png_size(style.to_png(figure))


def test_curves_without_validation() -> None:
    figure = plots.curves({"train/loss": [1.0, 0.5], "train/accuracy": [0.4, 0.6]}, "")
    shown = texts(figure)
    assert "training" in shown and "validation" not in shown
    assert not any(text.startswith("best") for text in shown)


@pytest.mark.parametrize("data", [{}, {"train/loss": []}, {"val/accuracy": [float("nan")]}])
def test_curves_of_nothing_say_so(data: dict[str, list[float]]) -> None:
    assert texts(plots.curves(data, "")).count("no finite values") == 2


# Several runs


def test_overlaid_runs_are_ordered_by_best_accuracy() -> None:
    runs = {"low": history(3, 0.4), "none": {}, "high": history(9, 0.9), "_$mid$": history(5, 0.6)}
    figure = plots.overlaid_curves(runs)
    (legend,) = figure.legends
    expected = ["0.900  high", "0.600  _$mid$", "0.400  low", "–  none"]
    assert [text.get_text() for text in legend.get_texts()] == expected
    assert [axes.get_title("left") for axes in figure.axes] == ["validation loss", "validation accuracy"]
    assert line_data(figure.axes[1], "0.600") == ([1, 2, 3, 4, 5], runs["_$mid$"]["val/accuracy"])


def test_twenty_runs_look_different_from_each_other() -> None:
    runs = {f"run-{index}": history(10, 0.5 + index / 100) for index in range(20)}
    figure = plots.overlaid_curves(runs)
    for axes in figure.axes:
        assert len(axes.lines) == 20
        assert len({(line.get_color(), line.get_linestyle()) for line in axes.lines}) == 20
        assert len({(line.get_color(), line.get_marker()) for line in axes.lines}) == 20


def test_the_legend_lies_below_the_panels() -> None:
    figure = plots.overlaid_curves({f"run-{index}": history(10) for index in range(20)})
    figure.draw_without_rendering()
    assert figure.legends[0].get_window_extent().y1 <= min(
        axes.xaxis.label.get_window_extent().y0 for axes in figure.axes
    )
    assert figure.legends[0].get_window_extent().y0 >= 0


def test_one_diverged_run_does_not_flatten_the_others() -> None:
    runs = {name: history(3) for name in "abc"} | {"diverged": history(3) | {"val/loss": [2.0, 1e9, np.inf]}}
    assert plots.overlaid_curves(runs).axes[0].get_ylim()[1] < 10


def test_no_runs_at_all() -> None:
    figure = plots.overlaid_curves({})
    assert not figure.legends and png_size(style.to_png(figure))


# Confusion matrix


def test_confusion_matrix_shows_counts_and_recall() -> None:
    matrix = np.array([[8, 2, 0], [0, 0, 0], [3, 3, 6]])
    figure = plots.confusion_matrix(matrix, ("cat", "dog", "automobile"), "Test set")
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


def test_a_confusion_matrix_of_a_hundred_classes_names_all_of_them() -> None:
    classes = cifar100.CLASS_NAMES["fine"]
    matrix = np.random.default_rng(0).integers(0, 3, (100, 100)) + 80 * np.eye(100, dtype=int)
    figure = plots.confusion_matrix(matrix, classes, "Test set")
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
