"""Tests of CIFAR-100: fine and coarse labels from the official layout, from a verified archive."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

import numpy as np
import pytest
from idx_files import write_cifar100

from cifar_exp.data import cifar100, datasets
from cifar_exp.data.schema import DataConfig
from cifar_exp.data.splits import Description
from cifar_exp.errors import UserError


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that holds cifar-100-binary/ with few records, which cifar100 is made to expect here."""
    monkeypatch.setattr(cifar100, "TRAINING_BYTES", 200 * cifar100.RECORD_BYTES)
    monkeypatch.setattr(cifar100, "TEST_BYTES", 100 * cifar100.RECORD_BYTES)
    write_cifar100(tmp_path / cifar100.FOLDER)
    return tmp_path


@pytest.mark.parametrize(("labels", "classes"), [("fine", 100), ("coarse", 20)])
def test_each_kind_of_labels_has_its_classes(small: Path, labels: str, classes: int) -> None:
    config = DataConfig("cifar100", dir=str(small), verify="size", labels=labels, validation="test")
    splits = datasets.load(config)
    assert (len(splits.training), len(splits.test), len(splits.classes)) == (200, 100, classes)
    expected = np.arange(100) if labels == "fine" else np.arange(100) // 5
    assert splits.test.labels.tolist() == expected.tolist()
    record = (small / cifar100.FOLDER / "test.bin").read_bytes()[7 * 3074 : 8 * 3074]
    assert splits.test.images[7, 0, 1].tolist() == [record[3], record[3 + 1024], record[3 + 2048]]
    assert datasets.describe(config) == Description((32, 32, 3), splits.classes, 50_000)


def test_a_label_that_is_no_class_is_refused(small: Path) -> None:
    path = small / cifar100.FOLDER / "train.bin"
    content = bytearray(path.read_bytes())
    content[1] = 100
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"train\.bin: record 0 has label 100, expected 0 to 99"):
        cifar100.read(path.parent, "train.bin", "fine")


def test_the_archive_is_verified_and_unpacked(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "release" / cifar100.ARCHIVE
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(small / cifar100.FOLDER, cifar100.FOLDER)
    with pytest.raises(UserError, match=cifar100.ARCHIVE_MD5):
        cifar100.release().find(str(archive.parent), "md5")
    monkeypatch.setattr(cifar100, "ARCHIVE_MD5", hashlib.md5(archive.read_bytes()).hexdigest())
    assert cifar100.release().find(str(archive.parent), "md5") == (
        archive.parent / cifar100.FOLDER,
        cifar100.ARCHIVE_URL,
    )


def test_the_names_are_those_of_the_release() -> None:
    assert (len(set(cifar100.FINE)), len(set(cifar100.COARSE))) == (100, 20)
    assert cifar100.FINE[0] == "apple" and cifar100.FINE[-1] == "worm"
    assert cifar100.COARSE[0] == "aquatic_mammals" and cifar100.COARSE[-1] == "vehicles_2"


def test_labels_of_another_data_set_are_refused() -> None:
    with pytest.raises(UserError, match=r"^data.labels: data=\w+ does not use it; of use for cifar100"):
        datasets.describe(DataConfig("digits", labels="fine"))
