"""Checkpoint files: whole or not used, whatever happens to them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cifar_exp.config.schema import Config
from cifar_exp.data import datasets
from cifar_exp.tracking import fingerprint
from cifar_exp.training.checkpoint import METRICS, Checkpoint, Checkpoints, DamagedCheckpoint

ARRAYS = {
    "weights": np.arange(6, dtype=np.float32).reshape(2, 3) / 7,
    "state": np.array([1, 2**32 - 1], np.uint32),
    "iterations": np.array(2**40, np.int64),
    "empty": np.zeros((0, 3), np.float32),
    "wide": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
}


def history(*accuracies: float) -> dict[str, list[float]]:
    return {name: [1 / 3] * len(accuracies) for name in sorted(METRICS)} | {"val/accuracy": [*accuracies]}


def checkpoint(*accuracies: float) -> Checkpoint:
    return Checkpoint(history(*accuracies), ARRAYS)


def whole(body: bytes) -> bytes:
    """The file with this content and its right checksum."""
    return b"cifar_exp checkpoint 1 " + hashlib.sha256(body).hexdigest().encode() + b"\n" + body


@pytest.fixture
def folder(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "made" / "when needed")


def test_what_is_read_is_what_was_written_to_the_last_bit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    checkpoint(0.1, 2 / 3).write(path)
    found = Checkpoint.read(path)
    assert found.epoch == 2
    assert found.history == history(0.1, 2 / 3)
    assert list(found.arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found.arrays[name].dtype == array.dtype
        assert found.arrays[name].shape == array.shape
        assert np.array_equal(found.arrays[name], array)
    assert os.listdir(tmp_path) == ["file"]


def test_reading_needs_neither_keras_nor_pickle(folder: Checkpoints) -> None:
    folder.save(checkpoint(0.1, 0.2))
    code = (
        "import sys, pathlib; from cifar_exp.training.checkpoint import Checkpoints;"
        "print(Checkpoints(pathlib.Path(sys.argv[1])).newest().epoch);"
        "print({'keras', 'tensorflow', 'mlflow'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder.folder)], capture_output=True, text=True, check=True, env=environment()
    )
    assert done.stdout.split() == ["2", "set()"]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}


def test_an_empty_folder_and_a_missing_one_hold_none(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path).newest() is None
    assert Checkpoints(tmp_path / "missing").newest() is None
    Checkpoints(tmp_path / "missing").remove()


def test_the_newest_the_one_before_it_and_the_best_are_kept(folder: Checkpoints) -> None:
    accuracies = [0.3, 0.5, 0.5, 0.4, 0.4, 0.4, 0.6, 0.1]
    kept = []
    for epoch in range(1, 9):
        folder.save(checkpoint(*accuracies[:epoch]))
        kept.append(folder.epochs())
    assert kept == [[1], [1, 2], [2, 3], [2, 3, 4], [2, 4, 5], [2, 5, 6], [6, 7], [7, 8]]
    newest = folder.newest()
    assert newest is not None and newest.epoch == 8
    folder.remove()
    assert not folder.folder.exists()


def test_the_best_is_the_best_of_those_that_were_saved(folder: Checkpoints) -> None:
    accuracies = [0.9, 0.5, 0.9, 0.3, 0.9, 0.2, 0.9, 0.1]
    for epoch in (2, 4, 6, 8):
        folder.save(checkpoint(*accuracies[:epoch]))
    assert folder.epochs() == [2, 6, 8]


@pytest.mark.parametrize("share", [0, 0.001, 0.3, 0.6, 0.99])
def test_of_a_truncated_newest_the_one_before_it_is_used(
    folder: Checkpoints, share: float, caplog: pytest.LogCaptureFixture
) -> None:
    for accuracies in ([0.1], [0.1, 0.2], [0.1, 0.2, 0.3]):
        folder.save(checkpoint(*accuracies))
    path = folder.folder / "epoch-00003.checkpoint"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    newest = folder.newest()
    assert newest is not None and newest.epoch == 2
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"{path} is not used: it" in caplog.text
    folder.save(checkpoint(0.1, 0.2, 0.4))  # the training has got there again
    newest = folder.newest()
    assert newest is not None and newest.history["val/accuracy"] == [0.1, 0.2, 0.4]


def test_every_single_changed_byte_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "file"
    checkpoint(0.1).write(path)
    content = path.read_bytes()
    for position in range(0, len(content), 7):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(DamagedCheckpoint):
            Checkpoint.read(path)
    for wrong in (content + b"\0", b"", b"PK\x03\x04", b"\x80\x04N."):
        path.write_bytes(wrong)
        with pytest.raises(DamagedCheckpoint):
            Checkpoint.read(path)


HISTORY = history(0.5)


@pytest.mark.parametrize(
    "header",
    [
        [],
        {},
        {"history": HISTORY},
        {"history": {}, "arrays": []},
        {"history": [1], "arrays": []},
        {"history": history(), "arrays": []},
        {"history": {"val/accuracy": [0.5], "val/loss": [1]}, "arrays": []},
        {"history": HISTORY | {"val/other": [1]}, "arrays": []},
        {"history": HISTORY | {"val/loss": []}, "arrays": []},
        {"history": HISTORY | {"val/loss": ["__import__('os')"]}, "arrays": []},
        {"history": HISTORY | {"val/loss": [float("nan")]}, "arrays": []},
        {"history": HISTORY | {"val/loss": [10**400]}, "arrays": []},
        {"history": HISTORY | {"val/loss": 3}, "arrays": []},
        {"history": HISTORY, "arrays": [["a", "|O", [1]]]},
        {"history": HISTORY, "arrays": [["a", "O", [1]]]},
        {"history": HISTORY, "arrays": [["a", ["<f4"], [1]]]},
        {"history": HISTORY, "arrays": [["a", "<f4", [-1]]]},
        {"history": HISTORY, "arrays": [["a", "<f4", [2]]]},
        {"history": HISTORY, "arrays": [["a", "<f4", [10**30]]]},
        {"history": HISTORY, "arrays": [["a", "<f4", [2**33, 2**33]]]},
        {"history": HISTORY, "arrays": [["a", "<f4", 1]]},
        {"history": HISTORY, "arrays": [["a", "<f4"]]},
        {"history": HISTORY, "arrays": [[["a"], "|u1", [4]]]},
        {"history": HISTORY, "arrays": [["a", "|u1", [3]]]},
        {"history": HISTORY, "arrays": 1},
    ],
)
def test_a_header_that_makes_no_sense_is_refused_though_its_checksum_is_right(tmp_path: Path, header: Any) -> None:
    path = tmp_path / "file"
    body = json.dumps(header).encode() + b"\n\0\0\0\0"
    path.write_bytes(whole(body))
    with pytest.raises(DamagedCheckpoint, match="its header is not valid"):
        Checkpoint.read(path)


def test_no_header_and_an_endless_one_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for body in (b"", b"no line", b"[" * 100_000 + b"\n", b"\xff\n"):
        path.write_bytes(whole(body))
        with pytest.raises(DamagedCheckpoint):
            Checkpoint.read(path)


def test_a_checkpoint_of_another_run_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    own, other = Checkpoints(tmp_path, "own"), Checkpoints(tmp_path, "other")
    Checkpoints(tmp_path).save(checkpoint(0.1))  # as earlier versions: it does not say whose it is
    assert (found := own.newest()) is not None and found.epoch == 1
    own.save(checkpoint(0.1, 0.2))
    other.save(checkpoint(0.1, 0.2, 0.3))
    assert (found := own.newest()) is not None and found.epoch == 2
    assert "epoch-00003.checkpoint is not used: it is of another run" in caplog.text
    assert (newest := own.latest()) is not None and newest.name == "epoch-00002.checkpoint"
    assert (found := other.newest()) is not None and found.epoch == 3


def test_other_files_in_the_folder_are_not_touched(folder: Checkpoints) -> None:
    folder.folder.mkdir(parents=True)
    others = ["notes.txt", "epoch-1.checkpoint", "epoch-00001.checkpoint.bak"]
    for name in others:
        (folder.folder / name).write_text("mine")
    for accuracies in ([0.3], [0.3, 0.2], [0.3, 0.2, 0.1]):
        folder.save(checkpoint(*accuracies))
    assert {path.name for path in folder.folder.iterdir()} >= set(others)
    assert folder.epochs() == [1, 2, 3]


def test_what_a_disk_that_is_full_cuts_off_leaves_the_one_before(
    folder: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.save(checkpoint(0.1))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    path = folder.folder / "epoch-00002.checkpoint"
    with pytest.raises(OSError, match="checkpoint not written: No space left on device") as raised:
        folder.save(checkpoint(0.1, 0.2))
    assert raised.value.filename == str(path) and raised.value.errno == errno.ENOSPC
    assert [path.name for path in folder.folder.iterdir()] == ["epoch-00001.checkpoint"]
    newest = folder.newest()
    assert newest is not None and newest.epoch == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_is_really_full_leaves_the_one_before_and_its_room_again(small_disk: Path) -> None:
    folder = Checkpoints(small_disk / "checkpoints")
    folder.save(Checkpoint(history(0.1), {"a": np.ones(20_000, np.float32)}))
    with pytest.raises(OSError, match="No space left on device"):
        folder.save(Checkpoint(history(0.1, 0.2), {"a": np.ones(60_000, np.float32)}))
    newest = folder.newest()
    assert newest is not None and newest.epoch == 1 and newest.arrays["a"].sum() == 20_000
    folder.save(Checkpoint(history(0.1, 0.2), {"a": np.ones(20_000, np.float32)}))


def test_a_process_killed_while_it_writes_leaves_the_one_before(folder: Checkpoints) -> None:
    folder.save(checkpoint(0.1))
    code = """
import os, pathlib, signal, sys
import numpy as np
from cifar_exp.training.checkpoint import Checkpoint, Checkpoints

os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
Checkpoints(pathlib.Path(sys.argv[1])).save(Checkpoint({"val/accuracy": [0.1, 0.2]}, {"a": np.ones(10**6)}))
"""
    done = subprocess.run([sys.executable, "-c", code, str(folder.folder)], env=environment())
    assert done.returncode == -signal.SIGKILL
    (left,) = (path.name for path in folder.folder.iterdir() if path.name.startswith("."))
    assert left == ".epoch-00002.checkpoint.partial"
    newest = folder.newest()
    assert newest is not None and newest.epoch == 1
    folder.save(checkpoint(0.1, 0.3))
    assert sorted(path.name for path in folder.folder.iterdir()) == [
        "epoch-00001.checkpoint",
        "epoch-00002.checkpoint",
    ]


def test_how_often_it_is_saved_is_not_part_of_what_a_run_is(compose: Callable[..., Config]) -> None:
    often, never = (compose("data=digits", f"training.checkpoint.every={n}") for n in (3, "null"))
    splits = datasets.load(often.data)
    assert fingerprint.fingerprint(often, splits) == fingerprint.fingerprint(never, splits)
