"""Tests of figures as files: size, text and reproducibility."""

from __future__ import annotations

import threading
import warnings
import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import pytest
from drawn import CLASSES, ROWS, history, png_size
from matplotlib import font_manager

from cifar_exp.evaluation import diagram, fonts, plots, style


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


def missing_letters(classes: tuple[str, ...]) -> list[str]:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        style.to_png(plots.confusion_matrix(np.arange(4).reshape(2, 2), classes, ", ".join(classes)))
    return [str(warning.message) for warning in said if "missing from" in str(warning.message)]


def test_names_of_classes_may_be_in_other_scripts(caplog: pytest.LogCaptureFixture) -> None:
    assert not missing_letters(("кошка", "σκύλος"))
    if fonts.families() == ["DejaVu Sans"]:
        pytest.skip("no font with Chinese letters: apt-get install fonts-wqy-microhei")
    assert not missing_letters(("猫", "狗"))
    assert not caplog.messages


def test_a_font_that_is_newer_than_the_list_of_matplotlib_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = font_manager.fontManager.ttflist
    with_letters = {font.fname for font in listed if font.name in fonts.families()[1:]}
    if not with_letters:
        pytest.skip("no font with Chinese letters: apt-get install fonts-wqy-microhei")
    without = [font for font in listed if font.fname not in with_letters]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", without)
    assert fonts.families.__wrapped__()[1:]
