"""Results of logged runs: test images are shown only if they are those of the runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from twelve import Twelve

from cifar_exp.review import query, run_record, run_results


@pytest.mark.parametrize(
    ("name", "digest", "message"),
    [
        ("digits", "0" * 32, "are not those of the test"),
        ("cifar10", "0" * 32, "are not on the machine that made this page"),
        ("mnist", None, "are not on the machine that made this page"),
    ],
)
def test_missing_or_different_images_are_not_shown(
    twelve: Twelve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, digest: str | None, message: str
) -> None:
    monkeypatch.setenv("CIFAR_EXP_DATA", str(tmp_path))
    run = run_record.from_run(query.select(twelve.store)[0])
    run = replace(run, params={**run.params, "data.name": name}, test_digest=digest)
    images, problem = run_results.shared_test_images([run])
    assert images is None and message in problem
    assert list(tmp_path.iterdir()) == []  # nothing was downloaded
