"""Tests of the result of a job as a file, and of the overrides that tell jobs apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from cifar_exp.sweep.job import varying
from cifar_exp.sweep.result import JobResult, from_journal
from cifar_exp.tracking.journal import Journal


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


def test_the_result_of_a_resumed_run_has_the_seconds_since_it_was_resumed(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        start = {"uri": "sqlite:///mlflow.db", "experiment": "e", "name": "a run", "tags": {}}
        journal.append("start", start, when=1_000)
        journal.append("resume", {}, when=500_000)
        journal.append("metrics", {"step": 0, "values": {"test/accuracy": 0.5}}, when=501_000)
        journal.append("finish", {"status": "FINISHED"}, when=502_000)
    assert from_journal(tmp_path) == JobResult("a run", "FINISHED", 2.0, metrics={"test/accuracy": 0.5}, history={})
