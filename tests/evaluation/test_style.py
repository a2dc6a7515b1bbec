"""Tests of figures as files: size, text and reproducibility."""

from __future__ import annotations

import threading
import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
from drawn import CLASSES, ROWS, history, png_size

from cifar_exp.evaluation import diagram, plots, style


def test_png_has_the_size_of_the_figure() -> None:
    width, height = png_size(style.to_png(plots.curves(history(3), "a run")))
    assert 800 <= width <= 1000 and 300 <= height <= 600


def test_svg_keeps_text_as_text() -> None:
    svg = style.to_svg(diagram.diagram(ROWS, "a model"))
    root = ElementTree.fromstring(svg)
    written = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {row.name for row in ROWS} | {"a model", "1,234,567"} <= written


def test_svg_is_the_same_each_time() -> None:
    matrix = np.arange(100).reshape(10, 10)
    first, second = (plots.confusion_matrix(matrix, CLASSES, "") for _ in range(2))
    svg = style.to_svg(first)
    assert svg == style.to_svg(second) == style.to_svg(first)


def test_drawing_leaves_the_parameters_of_others_alone() -> None:
    before = dict(matplotlib.rcParams)
    jobs = (
        lambda: style.to_png(plots.curves(history(3), "")),
        lambda: style.to_svg(diagram.diagram(ROWS, "")),
    )
    threads = [threading.Thread(target=job) for job in jobs * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert dict(matplotlib.rcParams) == before
