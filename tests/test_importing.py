"""Tests of faster imports of large packages."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from cifar_exp.importing import importing


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """What other tests leave behind is collected."""
    yield
    gc.unfreeze()
    gc.enable()


def test_nothing_is_collected_meanwhile_and_what_was_made_is_not_looked_at_afterwards() -> None:
    before = gc.get_freeze_count()
    with importing("a_package_that_is_not_there"):
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > before


def test_in_another_thread_what_the_main_one_makes_meanwhile_can_still_be_collected() -> None:
    before = gc.get_freeze_count()

    def import_it() -> bool:
        with importing("a_package_that_is_not_there"):
            return gc.isenabled()

    with ThreadPoolExecutor(1) as thread:
        assert not thread.submit(import_it).result()
    assert gc.isenabled()
    assert gc.get_freeze_count() <= before


def test_an_import_that_fails_leaves_collection_on() -> None:
    with pytest.raises(ModuleNotFoundError), importing("a_package_that_is_not_there"):
        __import__("a_package_that_is_not_there")
    assert gc.isenabled()


def test_the_second_time_the_garbage_of_what_ran_before_is_not_kept() -> None:
    before = gc.get_freeze_count()
    with importing("pytest"):
        assert gc.isenabled()
    assert gc.get_freeze_count() == before


def test_whoever_has_switched_collection_off_finds_it_off() -> None:
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
def test_packages_that_take_seconds_are_imported_so(package: str, script: str) -> None:
    tell = f"import gc, sys; print({package!r} in sys.modules, gc.isenabled(), gc.get_freeze_count())"
    done = subprocess.run([sys.executable, "-c", f"{script}\n{tell}"], capture_output=True, text=True, check=True)
    imported, enabled, frozen = done.stdout.split()
    assert (imported, enabled) == ("True", "True")
    assert int(frozen) > 100_000
