"""Objectives with weights, smoothing and penalties, wide labels and images of one channel, on every backend."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import weighted

from cifar_exp.importing import is_installed


def check(answer: dict[str, Any]) -> None:
    """Compare what was logged with what NumPy computes."""
    for expected, *logged in (answer["objectives"], answer["losses"], answer["accuracies"]):
        assert logged == pytest.approx([expected] * len(logged), rel=1e-4)
    assert 0 <= answer["balanced"] <= 1 and answer["type"] == "uint16"


def test_the_objective_is_weighted_smoothed_and_penalized_and_the_loss_is_not() -> None:
    answers = {setting: weighted.answer(setting) for setting in weighted.SETTINGS}
    for answer in answers.values():
        check(answer)
    assert answers["weighted"]["objectives"][0] > 2 * answers["none"]["objectives"][0]


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_on_other_backends_it_is_the_same(backend: str, tmp_path: Path) -> None:
    if not is_installed(backend):
        pytest.skip(f"{backend} is not installed: pip install 'cifar-exp[{backend}]'")
    environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, weighted.__file__], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    assert answers.pop("backend") == backend
    assert len(answers) == 2
    for answer in answers.values():
        check(answer)
