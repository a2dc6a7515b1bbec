"""Tests of faster imports of large packages, and of what is installed."""

from __future__ import annotations

import gc
import importlib
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cifar_exp.importing import importing, is_installed


@pytest.fixture(autouse=True)
def _restore_collector() -> Iterator[None]:
    """Reset the garbage collector after each test."""
    yield
    gc.unfreeze()
    gc.enable()


def test_collection_is_off_during_an_import_and_skips_its_objects_afterwards() -> None:
    before = gc.get_freeze_count()
    with importing("a_package_that_is_not_there"):
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > before


def test_import_in_another_thread_does_not_keep_objects_of_the_main_thread() -> None:
    before = gc.get_freeze_count()

    def import_it() -> bool:
        with importing("a_package_that_is_not_there"):
            return gc.isenabled()

    with ThreadPoolExecutor(1) as thread:
        assert not thread.submit(import_it).result()
    assert gc.isenabled()
    assert gc.get_freeze_count() <= before


def test_a_package_that_is_not_needed_cannot_be_imported_meanwhile() -> None:
    with importing("a_package_that_is_not_there", without=["this"]), pytest.raises(ModuleNotFoundError):
        importlib.import_module("this")
    assert "this" not in sys.modules
    with importing("a_package_that_is_not_there", without=["pytest"]):
        assert sys.modules["pytest"] is pytest


def test_collection_is_on_after_a_failed_import() -> None:
    with pytest.raises(ModuleNotFoundError), importing("a_package_that_is_not_there"):
        __import__("a_package_that_is_not_there")
    assert gc.isenabled()


def test_import_of_an_imported_package_keeps_no_garbage() -> None:
    before = gc.get_freeze_count()
    with importing("pytest"):
        assert gc.isenabled()
    assert gc.get_freeze_count() == before


def test_collection_stays_off_if_it_was_off() -> None:
    gc.disable()
    with importing("a_package_that_is_not_there"):
        pass
    assert not gc.isenabled()


PREPARE = """
from cifar_exp.training import runtime
from cifar_exp.config.schema import TrainingConfig
runtime.prepare(TrainingConfig(), 0)
"""
IMPORT_MLFLOW = """
from cifar_exp.tracking.store import import_mlflow
import_mlflow()
"""


@pytest.mark.parametrize(("package", "script"), [("keras", PREPARE), ("mlflow", IMPORT_MLFLOW)])
def test_large_packages_are_imported_with_the_collector_off(package: str, script: str) -> None:
    report = f"import gc, sys; print({package!r} in sys.modules, gc.isenabled(), gc.get_freeze_count())"
    done = subprocess.run([sys.executable, "-c", f"{script}\n{report}"], capture_output=True, text=True, check=True)
    imported, enabled, frozen = done.stdout.split()
    assert (imported, enabled) == ("True", "True")
    assert int(frozen) > 100_000


def test_a_folder_without_a_package_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "some_package").mkdir()
    assert not is_installed("some_package") and not is_installed("no_such_package")
    (tmp_path / "some_package" / "__init__.py").touch()
    assert is_installed("some_package") and is_installed("tensorflow")
