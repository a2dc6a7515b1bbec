"""Tests of the result of a job as a file, and of the overrides that tell jobs apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from cifar_exp.sweep.job import varying
from cifar_exp.sweep.result import JobResult


def test_a_result_is_read_as_it_was_written_and_leaves_no_partial_file(tmp_path: Path) -> None:
    job = JobResult("n", "FINISHED", 1.5, "id", {"test/accuracy": 0.5}, {"train/loss": [0.5, 0.6]})
    job.write(tmp_path)
    assert JobResult.read(tmp_path) == job
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
    assert JobResult.read(tmp_path / "none") is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"surprise": 1}', b"\xff"])
def test_a_damaged_result_is_ignored(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "result.json").write_bytes(content)
    assert JobResult.read(tmp_path) is None


def test_varying_selects_the_overrides_that_differ_between_jobs() -> None:
    overrides = ["optimizer=sgd", "+model.knob=a=b", "training.epochs=3", "~note"]
    assert varying(overrides, ["optimizer", "model.knob"]) == {"optimizer": "sgd", "model.knob": "a=b"}
    assert varying(overrides, ["seed"]) == {}
