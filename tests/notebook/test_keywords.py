"""Tests of keywords as overrides, and of what an import of the package costs."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cifar_exp
from cifar_exp.config import overrides
from cifar_exp.config.schema import Config, TrainingConfig
from cifar_exp.notebook.keywords import Keywords

HEAVY = {"numpy", "pandas", "hydra", "mlflow", "keras", "matplotlib", "sklearn", "rich", "jinja2"}


def test_the_keywords_are_the_settings_of_training_and_those_of_a_run() -> None:
    of_a_run = {field.name for field in fields(Config) if field.type in ("int", "str", "str | None")}
    assert Keywords.__annotations__.keys() == {field.name for field in fields(TrainingConfig)} | of_a_run


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (5, 5),
        (np.int64(5), 5),
        (np.float32(0.5), 0.5),
        (1e-7, 1e-7),
        ("it's [a], b=1: {c}", None),
        ("null", None),
        ("5", None),
        ("", None),
        ("ends in \\", None),
        ("two\\'s", None),
        (Path("a b/c"), "a b/c"),
        ([1, "a, b", [None]], None),
        ((1, 2), [1, 2]),
        ({"patience": 3, "monitor": "val loss"}, None),
    ],
)
def test_hydra_reads_the_value_that_was_written(value: Any, expected: Any) -> None:
    from hydra.core.override_parser.types import Override, QuotedString

    def plain(element: Any) -> Any:
        if isinstance(element, QuotedString):
            return element.text
        if isinstance(element, list):
            return [plain(item) for item in element]
        if isinstance(element, dict):
            return {plain(key): plain(item) for key, item in element.items()}
        return element

    (parsed,) = overrides.parse([overrides.write("note", value)])
    assert isinstance(parsed, Override) and parsed.key_or_group == "note" and not parsed.is_sweep_override()
    unchanged = value is None or expected is None
    assert plain(parsed.value()) == (value if unchanged else expected)
    assert type(plain(parsed.value())) is type(value if unchanged else expected)


def test_importing_the_package_imports_nothing_heavy_and_its_functions_are_found() -> None:
    program = f"""
import sys, cifar_exp
assert {{"train", "sweep", "find"}} <= set(dir(cifar_exp))
assert not {HEAVY} & set(sys.modules), {HEAVY} & set(sys.modules)
import cifar_exp.sweep.job
assert callable(cifar_exp.sweep) and callable(cifar_exp.train) and callable(cifar_exp.find)
assert not {{"mlflow", "keras", "tensorflow", "ray"}} & set(sys.modules)
"""
    root = Path(cifar_exp.__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr
