"""Tests of the import contracts in pyproject.toml: they hold, and they catch forbidden imports."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cifar_exp

pytest.importorskip("importlinter", reason="lint-imports comes with cifar-exp[dev]")

PACKAGE = Path(cifar_exp.__file__).parent
# Module -> an import statement that the module must not contain, and the name of the imported package or module.
FORBIDDEN = {
    "config/memory.py": ("from cifar_exp.training import optimizers", "cifar_exp.training.optimizers"),
    "console.py": ("from cifar_exp.tracking import store", "cifar_exp.tracking.store"),
    "training/fit.py": ("import omegaconf", "omegaconf"),
    "experiment/resume.py": ("from hydra import compose", "hydra"),
    "experiment/experiment.py": ("import mlflow", "mlflow"),
    "tracking/note.py": ("from keras import ops", "keras"),
    "sweep/job.py": ("import tensorflow", "tensorflow"),
    "review/query.py": ("import ray", "ray"),
}
CIRCLE = ("data/cifar10.py", "from cifar_exp.data import datasets")  # datasets imports cifar10


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run lint-imports on the copy of the package in this folder."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint; lint()", "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(PACKAGE, tmp_path / "cifar_exp", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PACKAGE.parent / "pyproject.toml", tmp_path)
    return tmp_path


def test_contracts_hold_and_each_forbidden_import_is_named(copy: Path) -> None:
    kept = lint(copy)
    assert kept.returncode == 0, kept.stdout
    assert " 0 broken" in kept.stdout

    for module, line in [*((module, line) for module, (line, _) in FORBIDDEN.items()), CIRCLE]:
        with (copy / "cifar_exp" / module).open("a") as file:
            file.write(f"\n\ndef later() -> None:\n    {line}\n")
    broken = lint(copy)
    assert broken.returncode == 1
    for module, (_, imported) in FORBIDDEN.items():
        importer = f"cifar_exp.{module.removesuffix('.py').replace('/', '.')}"
        assert f"- {importer} -> {imported} (l." in broken.stdout
    assert "No cycles are allowed in cifar_exp.data." in broken.stdout


def test_a_new_package_must_be_listed(copy: Path) -> None:
    (copy / "cifar_exp" / "unlisted").mkdir()
    (copy / "cifar_exp" / "unlisted" / "__init__.py").write_text("")
    done = lint(copy)
    assert done.returncode == 1
    assert "unlisted" in done.stdout
