"""Tests of the analysis of a data set: its numbers are those of the images, and they are found out once."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cifar_exp.data import analysis, datasets, kept, summary
from cifar_exp.data.listing import Listing
from cifar_exp.data.mapped import MappedImages
from cifar_exp.data.schema import DataConfig
from cifar_exp.data.splits import Split

CLASSES = ("cat", "dog", "emu")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR_EXP_CACHE", str(tmp_path / "cache"))


def split(pixels: np.ndarray, *labels: int) -> Split:
    return Split(pixels, np.array(labels, np.uint8))


@pytest.fixture
def parts() -> dict[str, Split]:
    """Test images 1 and 2 are training images, the latter brighter; training images 0 and 3 are the same."""
    pixels = np.random.default_rng(0).integers(0, 200, (8, 12, 10, 3), np.uint8)
    pixels[3] = pixels[0]
    test = np.stack([pixels[7], pixels[1], pixels[2] + 20])
    return {
        "training": split(pixels[:6], 0, 1, 2, 0, 1, 2),
        "validation": split(pixels[6:7], 0),
        "test": split(test, 1, 1, 2),
    }


def analyse(parts: dict[str, Split], files: Listing | None = None) -> dict[str, Any]:
    return analysis.analyse("zoo", parts, CLASSES, "/zoo", files)


def names(group: dict[str, Any]) -> list[str]:
    return [one["name"] for one in group["members"]]


def test_the_numbers_are_those_of_the_images(parts: dict[str, Split]) -> None:
    found = analyse(parts)
    assert (found["name"], found["source"], found["images"], found["shape"]) == ("zoo", "/zoo", 10, [12, 10, 3])
    assert found["counts"] == {"training": [2, 2, 2], "validation": [1, 0, 0], "test": [0, 2, 1]}
    values = np.asarray(parts["training"].images, float).reshape(-1, 3)
    assert np.allclose(found["mean"], values.mean(axis=0), atol=0.01)
    assert np.allclose(found["std"], values.std(axis=0), atol=0.01)


def test_images_in_several_splits_come_first_and_are_counted(parts: dict[str, Split]) -> None:
    found = analyse(parts)
    equal, similar = found["duplicates"], found["near_duplicates"]
    assert [names(group) for group in equal["listed"]] == [
        ["training image 1", "test image 1"],
        ["training image 0", "training image 3"],
    ]
    assert (equal["images"], equal["groups"], equal["across_splits"]) == (4, 2, 1)
    assert equal["held_out"] == {"validation": 0, "test": 1}
    assert [names(group) for group in similar["listed"]] == [["training image 2", "test image 2"]]
    assert similar["listed"][0]["members"][1] == {"split": "test", "index": 2, "class": "emu", "name": "test image 2"}
    assert summary.near_duplicates(found) == (
        "Images that look the same as training images: 1 test: test image 2 ~ training image 2"
    )


def test_files_are_named(parts: dict[str, Split]) -> None:
    splits = ("training",) * 6 + ("validation",) + ("test",) * 3
    paths = tuple(f"{number}.png" for number in range(10))
    files = Listing(Path("/zoo"), paths, tuple("abcabcabca"), splits, bad=(("x.png", "empty file"),), remarks=("odd",))
    found = analyse(parts, files)
    assert names(found["duplicates"]["listed"][0]) == ["1.png", "8.png"]
    assert found["bad"] == {"count": 1, "images": [["x.png", "empty file"]]}
    lines = summary.remarks(found, ["no size"])
    assert lines[:3] == [
        "A run would be refused: no size",
        "odd",
        "Images that cannot be read, which data.bad_images=skip leaves out: 1: x.png (empty file)",
    ]
    assert "8.png (test) ~ 1.png (training)" in lines[3]


def test_a_large_group_is_listed_in_part(parts: dict[str, Split]) -> None:
    same = np.repeat(np.asarray(parts["training"].images)[:1], 500, axis=0)
    found = analyse({"training": split(same[:499], *[0] * 499), "test": split(same[499:], 0)})
    (group,) = found["duplicates"]["listed"]
    assert group["images"] == 500 and len(group["members"]) == 10
    assert names(group)[:2] == ["training image 0", "test image 0"]
    assert found["near_duplicates"]["groups"] == 0
    assert "1 test: test image 0 ~ training image 0" in " ".join(summary.remarks(found))


def test_mapped_images_give_the_same(parts: dict[str, Split], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = analyse(parts)
    monkeypatch.setattr(analysis, "_CHUNK", 1000)  # several chunks
    mapped = {
        name: Split(
            MappedImages(np.asarray(part.images), np.zeros((len(part), 32), np.uint8), name, np.arange(len(part))),
            part.labels,
        )
        for name, part in parts.items()
    }
    found = analyse(mapped)
    assert found.pop("sha256") != expected.pop("sha256")  # that of the files
    assert found == expected


def test_what_was_found_is_not_found_out_again(parts: dict[str, Split], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = analyse(parts)

    def fail(*_: object) -> None:
        raise AssertionError("looked at again")

    monkeypatch.setattr(analysis, "_look", fail)
    assert analyse(parts) == expected
    changed = dict(parts)
    changed["test"] = parts["test"].take(np.arange(2))
    with pytest.raises(AssertionError, match="looked at again"):
        analyse(changed)


def test_a_cache_that_cannot_be_written_is_no_error(
    parts: dict[str, Split], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = analyse(parts)
    (tmp_path / "file").touch()
    monkeypatch.setenv("CIFAR_EXP_CACHE", str(tmp_path / "file"))
    assert analyse(parts) == expected


def test_what_several_ask_for_at_once_is_found_out_once() -> None:
    counted: list[int] = []
    begun = threading.Event()

    def find() -> int:
        counted.append(1)
        begun.set()
        return os.getpid()

    threads = [threading.Thread(target=kept.kept, args=("key", find)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counted) == 1
    kept.clear()
    assert kept.kept("key", lambda: "anew") == "anew"


def test_test_images_that_validate_are_counted_once() -> None:
    splits = datasets.load(DataConfig("digits", validation="test"))
    parts = analysis.parts_of(splits)
    found = analysis.analyse("digits", parts, splits.classes, splits.source)
    assert list(parts) == ["training", "test"] and found["images"] == 1797
    text = summary.text(found, None)
    assert text.startswith("digits: 1,797 images of 32 x 32 x 3 in 10 classes\n")
    assert "std               95." in text and "duplicates        none" in text


def test_many_classes_are_printed_in_part(parts: dict[str, Split]) -> None:
    classes = tuple(f"class {number}" for number in range(100))
    text = summary.text(analysis.analyse("zoo", parts, classes, "/zoo"), None)
    assert "... 80 more classes" in text and len(text.splitlines()) < 40
