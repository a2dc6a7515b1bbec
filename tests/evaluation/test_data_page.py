"""Tests of the page of a data set: whole, safe, and small enough for each run."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cifar_exp.data import analysis
from cifar_exp.data.splits import Split
from cifar_exp.evaluation import data_page


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR_EXP_CACHE", str(tmp_path / "cache"))


def split(count: int, classes: int, shape: tuple[int, ...] = (32, 32, 3), seed: int = 0) -> Split:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)
    return Split(pixels, (np.arange(count) % classes).astype(np.uint8))


def page(parts: dict[str, Split], classes: tuple[str, ...], **options: Any) -> str:
    found = analysis.analyse("zoo", parts, classes, "/photos/zoo")
    return data_page.render(found, parts, **options)


def pictures(html: str) -> list[Image.Image]:
    found = re.findall(r'<img src="data:image/\w+;base64,([^"]+)"', html)
    return [Image.open(io.BytesIO(base64.b64decode(content))) for content in found]


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    html = page({"training": split(20, 2), "test": split(6, 2, seed=1)}, ("cat", "dog"))
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)
    assert policy and policy[1] == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert "<script" not in html and "http" not in html.replace("http-equiv", "")


def test_names_are_text_whatever_they_contain() -> None:
    parts = {"training": split(20, 2), "test": split(6, 2, seed=1)}
    parts["test"] = Split(np.asarray(parts["training"].images)[:6], parts["test"].labels)
    evil = '"><script>alert(1)</script>'
    found = analysis.analyse(evil, parts, (evil, "dog"), evil)
    found["bad"] = {"count": 1, "images": [[evil, evil]]}
    found["remarks"] = [evil]
    for copies in (found["duplicates"], found["near_duplicates"]):
        for group in copies["listed"]:
            for one in group["members"]:
                one["name"] = evil
    html = data_page.render(found, parts, None, [evil])
    assert "<script" not in html
    assert html.count("&lt;script&gt;") > 10


def test_samples_are_pixels_of_their_class() -> None:
    parts = {"training": split(40, 2)}
    html = page(parts, ("cat", "dog"))
    shown = [np.asarray(picture) for picture in pictures(html)]
    assert len(shown) == 20
    images = np.asarray(parts["training"].images)
    for place, picture in enumerate(shown):
        (index,) = np.flatnonzero((images == picture).all(axis=(1, 2, 3)))
        assert index % 2 == place // 10


def test_copies_are_shown_side_by_side() -> None:
    training = split(20, 2)
    test = Split(np.asarray(training.images)[3:4], training.labels[3:4])
    html = page({"training": training, "test": test}, ("cat", "dog"))
    assert "Same pixels" in html and "Near duplicates" not in html
    assert "training image 3" in html and "test image 0" in html
    first, second = (np.asarray(picture) for picture in pictures(html)[:2])
    assert np.array_equal(first, second)


@pytest.mark.parametrize("shape", [(28, 28, 1), (20, 90, 3), (300, 200, 3), (8, 8, 4), (16, 16, 2)])
def test_images_of_any_shape_are_shown_small(shape: tuple[int, int, int]) -> None:
    for picture in pictures(page({"training": split(6, 2, shape)}, ("cat", "dog"))):
        assert max(picture.size) <= 64
        assert abs(picture.width / picture.height - shape[1] / shape[0]) < 0.1


def test_many_classes_make_no_large_page() -> None:
    classes = tuple(f"class {number}" for number in range(250))
    html = page({"training": split(1000, 250)}, classes)
    assert "The first 200 of 250 classes." in html
    assert all(f"<th>{name}</th>" in html for name in classes)
    assert len(html) < 4_000_000
