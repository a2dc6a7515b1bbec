"""Tests of data.exclude and data.relabel: what a list changes, what it leaves as it was, and what is refused."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifar_exp.config.schema import Config
from cifar_exp.data import corrections, datasets
from cifar_exp.data.schema import DataConfig
from cifar_exp.data.splits import Split
from cifar_exp.errors import UserError
from cifar_exp.tracking import fingerprint

WHOLE = datasets.load(DataConfig("digits"))
TRAINED, VALIDATED, TESTED = (
    int(split.numbers[3])  # type: ignore[index]
    for split in (WHOLE.training, WHOLE.validation, WHOLE.test)
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CIFAR_EXP_CACHE", str(tmp_path / "cache"))
    yield
    datasets.load.cache_clear()


def label_of(split: Split, number: int) -> int:
    assert split.numbers is not None
    return int(split.labels[np.flatnonzero(split.numbers == number)[0]])


def listed(file: Path, *rows: tuple[object, ...], key: str = "index") -> str:
    with file.open("w", newline="") as lines:
        csv.writer(lines).writerows([(key, "label", "suggested", "decision"), *rows])
    return str(file)


def test_numbers_are_those_of_the_data_set_whatever_the_split(synthetic_cifar10: Path) -> None:
    from cifar_exp.data import cifar10

    labels = cifar10.read(synthetic_cifar10 / cifar10.FOLDER, cifar10.FILES)[1]
    for settings in ({"validation": "last"}, {"folds": 5, "fold": 3}):
        splits = datasets.load(DataConfig("cifar10", dir=str(synthetic_cifar10), verify="size", **settings))
        parts = (splits.training, splits.validation, splits.test)
        numbers = np.concatenate([part.numbers for part in parts if part.numbers is not None])
        assert np.array_equal(np.sort(numbers), np.arange(60_000))
        assert np.array_equal(np.concatenate([part.labels for part in parts]), labels[numbers])
        assert splits.test.numbers is not None and splits.test.numbers[0] == 50_000


def test_confirmed_images_are_left_out_or_relabelled_and_nothing_else_changes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    excluded = listed(tmp_path / "exclude.csv", (VALIDATED, "", "", "confirm"), (TRAINED, "", "", "dismiss"))
    old = label_of(WHOLE.training, TRAINED)
    new = (old + 1) % 10
    rows = [(TRAINED, old, new, "confirm"), (TESTED, "", new, "Confirm"), (VALIDATED + 1, "", new, "")]
    splits = datasets.load(DataConfig("digits", exclude=excluded, relabel=listed(tmp_path / "r.csv", *rows)))
    assert splits.validation.numbers is not None and WHOLE.validation.numbers is not None
    assert set(WHOLE.validation.numbers) - set(splits.validation.numbers) == {VALIDATED}
    assert np.array_equal(splits.training.images, WHOLE.training.images)
    changed = np.flatnonzero(splits.training.labels != WHOLE.training.labels)
    assert [int(WHOLE.training.numbers[at]) for at in changed] == [TRAINED]  # type: ignore[index]
    assert label_of(splits.training, TRAINED) == new
    assert splits.test.sha256 == WHOLE.test.sha256
    assert "confirmed test images, which stay as they are: 1" in caplog.text


def test_a_list_that_leaves_no_image_of_a_split_is_refused(tmp_path: Path) -> None:
    assert WHOLE.validation.numbers is not None
    everything = [(number, "", "", "confirm") for number in WHOLE.validation.numbers]
    with pytest.raises(UserError, match=r"^data\.exclude: got all validation images, expected some to be left"):
        datasets.load(DataConfig("digits", exclude=listed(tmp_path / "all.csv", *everything)))


def test_a_list_that_a_spreadsheet_saved_with_semicolons_is_the_same_list(tmp_path: Path) -> None:
    saved = Path(listed(tmp_path / "exclude.csv", (VALIDATED, "", "", "confirm"), (TRAINED, "", "", "confirm")))
    saved.write_text(saved.read_text().replace(",", ";"))
    splits = datasets.load(DataConfig("digits", exclude=str(saved)))
    assert (len(splits.training), len(splits.validation)) == (len(WHOLE.training) - 1, len(WHOLE.validation) - 1)


@pytest.mark.parametrize(
    ("setting", "row", "said"),
    [
        ("exclude", (1797, "", "", "confirm"), "line 2: got the image '1797', expected an index from 0 to 1,796"),
        ("exclude", ("one", "", "", "confirm"), "got the image 'one'"),
        ("exclude", (TRAINED, "", "", "yes"), "got the decision 'yes', expected confirm, dismiss or nothing"),
        ("relabel", (TRAINED, "", "", "confirm"), "no class ''"),
        ("relabel", (TRAINED, "", "ten", "confirm"), "no class 'ten'"),
        ("relabel", (TRAINED, "cat", "1", "confirm"), "no class 'cat'"),
        ("exclude", (TRAINED, (label_of(WHOLE.training, TRAINED) + 1) % 10, "", "confirm"), "which is of other data"),
    ],
)
def test_a_row_that_does_not_fit_the_data_is_refused_by_line(
    tmp_path: Path, setting: str, row: tuple[object, ...], said: str
) -> None:
    with pytest.raises(UserError, match=setting) as refused:
        datasets.load(DataConfig("digits", **{setting: listed(tmp_path / "list.csv", row)}))
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_a_list_in_the_folder_of_an_unknown_user_is_refused() -> None:
    with pytest.raises(UserError, match=r"^data\.exclude=~nobody-of-this-name/x\.csv: there is no home folder"):
        datasets.load(DataConfig("digits", exclude="~nobody-of-this-name/x.csv"))


def test_lists_that_contradict_each_other_or_themselves_are_refused(tmp_path: Path) -> None:
    row = (TRAINED, "", "1", "confirm")
    file = listed(tmp_path / "list.csv", row)
    with pytest.raises(UserError, match=r"is confirmed in data\.exclude, too"):
        datasets.load(DataConfig("digits", exclude=file, relabel=file))
    with pytest.raises(UserError, match=r"line 3: '.*' is confirmed in an earlier line, too"):
        datasets.load(DataConfig("digits", exclude=listed(tmp_path / "twice.csv", row, row)))
    with pytest.raises(UserError, match="no column index, expected the columns index, label, suggested, decision"):
        datasets.load(DataConfig("digits", exclude=listed(tmp_path / "paths.csv", row, key="path")))
    with pytest.raises(UserError, match="No such file"):
        datasets.load(DataConfig("digits", relabel=str(tmp_path / "gone.csv")))


@pytest.mark.parametrize("setting", ["exclude", "relabel"])
def test_a_pipe_and_a_device_are_no_list(tmp_path: Path, setting: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path(os.devnull), tmp_path):
        with pytest.raises(UserError, match=f"^data.{setting}={path}: is not a file"):
            datasets.load(DataConfig("digits", **{setting: str(path)}))


def test_a_list_that_may_hold_decisions_is_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    corrections.write(file, [{"index": 1, "label": "a,b", "decision": ""}])
    assert file.read_text().splitlines() == ["index,label,decision", '1,"a,b",']
    with pytest.raises(UserError, match="there is such a file, which may hold decisions"):
        corrections.write(file, [{"index": 2}])


def test_the_fingerprint_covers_what_a_list_changes_and_not_its_path(
    tmp_path: Path, compose: Callable[..., Config]
) -> None:
    def of(*overrides: str) -> str:
        config = compose("data=digits", *overrides)
        return fingerprint.fingerprint(config, datasets.load(config.data))

    row = (TRAINED, "", (label_of(WHOLE.training, TRAINED) + 1) % 10, "confirm")
    one = listed(tmp_path / "one.csv", row)
    same = listed(tmp_path / "same.csv", row, (VALIDATED, "", "1", "dismiss"))
    nothing = listed(tmp_path / "nothing.csv", (TRAINED, "", "", "dismiss"))
    prints = [of(), of(f"data.exclude={nothing}"), of(f"data.relabel={one}"), of(f"data.relabel={same}")]
    assert prints[0] == prints[1] != prints[2] == prints[3]
    assert of(f"data.exclude={one}") not in prints


def test_files_are_named_by_path_and_the_record_of_the_split_says_what_changed(tmp_path: Path) -> None:
    for number in range(24):
        path = tmp_path / "photos" / "train" / ("cat", "dog")[number % 2] / f"{number}.png"
        path = path if number < 20 else tmp_path / "photos" / "test" / path.parent.name / path.name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), number, np.uint8)).save(path)
    data = {"name": "folder", "dir": str(tmp_path / "photos"), "validation": "given", "validation_share": 0.2}
    rows = [("train/cat/0.png", "cat", "dog", "confirm")]
    exclude = listed(tmp_path / "exclude.csv", ("train/dog/1.png", "dog", "", "confirm"), key="path")
    before = datasets.load(DataConfig(**data))  # type: ignore[arg-type]
    after = datasets.load(DataConfig(**data, exclude=exclude, relabel=listed(tmp_path / "r.csv", *rows, key="path")))  # type: ignore[arg-type]
    assert before.files is not None and after.files is not None
    record = dict(zip(after.files.paths, zip(after.files.labels, after.files.splits, strict=True), strict=True))
    assert record["train/dog/1.png"] == ("dog", corrections.EXCLUDED)
    assert record["train/cat/0.png"][0] == "dog"
    kept = [path for path in before.files.paths if path not in ("train/dog/1.png", "train/cat/0.png")]
    assert all(record[path][1] == before.files.splits[before.files.paths.index(path)] for path in kept)
    assert len(after.training) + len(after.validation) == 19 and after.test.sha256 == before.test.sha256
    wrong = listed(tmp_path / "wrong.csv", ("train/cat/1.png", "", "", "confirm"), key="path")
    with pytest.raises(UserError, match=r"got the image 'train/cat/1.png', expected a file of .*; did you mean"):
        datasets.load(DataConfig(**data, exclude=wrong))  # type: ignore[arg-type]
