"""Tests of slices: planted ones are found, others are not, and the figures are those of the definitions."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cifar_exp.analysis import slices
from cifar_exp.data import datasets, image_files
from cifar_exp.data.schema import DataConfig
from cifar_exp.data.splits import Split
from cifar_exp.errors import UserError
from cifar_exp.review.multiple import holm

if TYPE_CHECKING:
    from mlflow.entities import Run

LogTrained = Callable[..., "Run"]


def predictions(right: np.ndarray) -> pd.DataFrame:
    """Predictions of class 0 with a probability of 0.75, of images that are of this class where it is right."""
    columns = {"index": np.arange(len(right)), "label": (~right).astype(np.uint8), "predicted": np.uint8(0)}
    return pd.DataFrame(columns | {"p_a": np.float32(0.75), "p_b": np.float32(0.25)})


def hypergeometric(correct: int, images: int, rest_correct: int, rest: int) -> float:
    """Fisher's exact test, two-sided: the probability of all tables that are no more likely than this one."""
    total = correct + rest_correct
    weights = [math.comb(images, k) * math.comb(rest, total - k) for k in range(max(0, total - rest), images + 1)]
    own = math.comb(images, correct) * math.comb(rest, rest_correct)
    return sum(weight for weight in weights if weight <= own) / math.comb(images + rest, total)


def test_a_planted_slice_is_found_with_the_figures_of_the_definitions() -> None:
    right = np.ones(400, bool)
    right[:60:2] = False  # 30 of the first 60 are wrong, and 10 of the others
    right[60:400:34] = False
    column = np.array(["planted"] * 60 + ["other"] * 340)
    noise = np.array(["even", "odd"] * 200)
    found = {one.value: one for one in slices.measure(predictions(right), {"place": column, "parity": noise})}
    planted = found["planted"]
    assert (planted.images, planted.accuracy, planted.rest) == (60, 0.5, 1 - 10 / 340)
    assert (planted.low, planted.high) == pytest.approx((0.37735, 0.62265), abs=1e-5)  # Wilson's formula, by hand
    assert planted.confidence == 0.75
    assert planted.p_value == pytest.approx(hypergeometric(30, 60, 330, 340), rel=1e-6)
    raw = [one.p_value for one in found.values()]
    assert [one.p_holm for one in found.values()] == pytest.approx(holm(raw))
    assert [name for name, one in found.items() if one.is_worse] == [
        "planted",
        "even",
    ]  # all its planted errors are even
    (sentence,) = slices.sentences(list(found.values()))
    assert (
        "corrected for 4 slices (Holm)" in sentence and "place planted: 0.5000 against 0.9706 on the rest" in sentence
    )


def test_slices_of_equally_hard_images_are_rarely_called_worse() -> None:
    generator, alone, together, times = np.random.default_rng(0), 0, 0, 40
    for _ in range(times):
        right = generator.random(500) < 0.8
        columns = {f"column {at}": generator.integers(0, 5, 500).astype(str) for at in range(4)}
        found = slices.measure(predictions(right), columns)
        assert len(found) == 20 and [one.accuracy for one in found] == sorted(one.accuracy for one in found)
        alone += any(one.p_value < 0.05 for one in found)
        together += any(one.p_holm < 0.05 for one in found)
        if not together:
            assert slices.sentences(found)[0].startswith("No slice is shown to be worse than the rest (")
    assert alone / times > 0.4 and together / times < 0.1


def test_small_slices_and_the_whole_are_left_out() -> None:
    column = np.array(["few"] * 9 + ["many"] * 91)
    found = slices.measure(predictions(np.ones(100, bool)), {"x": column, "all": np.array(["same"] * 100)})
    assert [(one.column, one.value) for one in found] == [("x", "many")]
    assert slices.measure(predictions(np.ones(5, bool)), {"x": np.array(list("abcde"))}) == []
    assert slices.sentences([]) == ["No slice has enough images."]


def test_brightness_and_contrast_by_hand() -> None:
    images = np.zeros((3, 2, 2, 3), np.uint8)
    images[1] = 255
    images[2, 0, :, 0] = 255  # half red: luma 0.299
    brightness, contrast = slices.light(images)
    assert brightness == pytest.approx([0, 1, 0.1495], abs=1e-6)
    assert contrast == pytest.approx([0, 0, 0.1495], abs=1e-6)
    grey = np.full((1, 2, 2, 1), 51, np.uint8)
    assert slices.light(grey)[0] == pytest.approx([0.2])


def test_terciles_have_a_third_each_and_equal_values_together() -> None:
    names = slices.terciles(np.linspace(0, 0.9, 10))
    assert [name.split(",")[0] for name in names] == ["low"] * 3 + ["medium"] * 3 + ["high"] * 4
    assert names[0] == "low, 0.00 to 0.30" and names[-1] == "high, 0.60 to 0.90"
    assert len(set(slices.terciles(np.zeros(7)))) == 1


def test_dark_images_that_a_run_gets_wrong_are_found() -> None:
    generator = np.random.default_rng(1)
    images = generator.integers(0, 256, (300, 8, 8, 3)).astype(np.uint8)
    dark = np.arange(300) % 3 == 0
    images[dark] //= 4
    right = ~dark | (generator.random(300) < 0.5)
    frame = predictions(right)
    test = Split(images, frame["label"].to_numpy())
    folder = pd.Series(["site1" if at < 150 else "site2" for at in range(300)])
    columns = slices.columns_of(frame, test, {"folder": folder, "class": folder, "same": folder[:0]})
    assert list(columns) == ["class", "brightness", "contrast", "folder", "class (table)"]
    assert set(columns["folder"]) == {"site1", "site2"}
    worse = {(one.column, one.value.split(",")[0]) for one in slices.measure(frame, columns) if one.is_worse}
    assert ("brightness", "low") in worse and not {("folder", "site1"), ("folder", "site2")} & worse
    with pytest.raises(UserError, match="are not those of the run"):
        slices.columns_of(frame[:-1], test, {})
    assert list(slices.columns_of(frame, None, {})) == ["class"]


def test_numbers_are_divided_into_thirds_and_other_values_are_parts() -> None:
    ages = pd.Series([str(age) for age in range(30)] + ["", "", ""])
    assert Counter(value.split(",")[0] for value in slices.parts(ages)) == {
        **dict.fromkeys(("low", "medium", "high"), 10),
        "not given": 3,
    }
    assert list(slices.parts(pd.Series(["1", "2", "10"] * 4))) == ["1", "2", "10"] * 4
    assert list(slices.parts(pd.Series(["3", "x", None]))) == ["3", "x", "not given"]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_columns_of_a_table_and_sizes_of_files_are_properties_of_its_images(tmp_path: Path, kind: str) -> None:
    """The table is in another order than the images, and names half of them without extension."""
    table, contents = [], []
    for at in (3, 0, 2, 1):
        path = tmp_path / f"{at}.png"
        Image.new("RGB", (at + 1, at + 1), (at, 0, 0)).save(path)
        split = "test" if at else "train"
        table.append({"image": path.stem if at % 2 else path.name, "label": str(at % 2), "age": at, "part": split})
        contents.append(path.read_bytes())
    file = tmp_path / f"table.{kind}"
    frame = pd.DataFrame(table)
    if kind == "csv":
        frame.to_csv(file, index=False)
        file.write_text(file.read_text().rstrip() + ",a field too many\n\n")
    else:
        frame.assign(image=contents, boxes=[[0]] * len(frame)).to_parquet(file)
    config = DataConfig(name=kind, file=str(file), size=(2, 2), split_column="part", validation="test")
    splits = datasets.load(config)
    assert splits.files
    tested = image_files.properties(config, splits.files.of_split("test"))
    assert {name: [float(value) for value in tested[name]] for name in ("size", "age")} == {
        "size": [4, 3, 2],
        "age": [3, 2, 1],
    }
    assert set(tested) == {"size", "age"} | ({"folder"} if kind == "csv" else set())


def test_logged_slices_are_read_back_and_others_refused() -> None:
    found = slices.measure(predictions(np.arange(40) % 2 == 0), {"x": np.array(["a", "b"] * 20)})
    assert slices.parse(slices.to_json(found).encode()) == found
    changed = json.loads(slices.to_json(found))
    for wrong in (b"{", b"{}7", b"[1]", b'[{"column": "x"}]', json.dumps([changed[0] | {"low": "<script>"}]).encode()):
        with pytest.raises(ValueError, match=r"."):
            slices.parse(wrong)
