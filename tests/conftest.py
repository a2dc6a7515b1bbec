"""Fixtures that all tests share: composed configs, synthetic CIFAR-10 files, tracking stores."""

from __future__ import annotations

import gc
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import prepared
import pytest
import server_process

# As cifar_exp.training.runtime does before a run: these count only before Keras is imported.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

from cifar_exp.config import composition
from cifar_exp.config.schema import Config
from cifar_exp.data import cifar10, datasets
from cifar_exp.tracking.store import Store

# Tests of what JAX alone has; test_backends.py starts them in a process of their own.
collect_ignore = [] if os.environ["KERAS_BACKEND"] == "jax" else ["training/test_epoch.py"]

Compose = Callable[..., Config]

# Folders and files whose tests share what is costly or there once: the Docker engine, a sweep of twelve runs, a server,
# Ray, the processes from which programs on JAX and PyTorch are forked.
# Elsewhere it is those of a file that share.
SHARING = {
    "stack": "stack",
    "review": "review",
    "server": "server",
    "test_elsewhere.py": "outages",
    "test_fresh_environment.py": "outages",
    "test_outages.py": "outages",
    "test_parallel.py": "ray",
    "test_cluster.py": "ray",
    "test_launcher.py": "ray",
    "test_backends.py": "backends",
    "test_mapped_images.py": "backends",
}
# What takes longest begins first, so that no worker is left with it at the end.
LONGEST = (
    "tests/stack/",
    "tests/end_to_end/test_resume.py",
    "tests/end_to_end/test_parallel.py",
    "tests/end_to_end/test_cluster.py",
    "tests/sweep/test_launcher.py",
    "tests/end_to_end/test_backends.py",
    "tests/review/",
    "tests/server/",
    "tests/end_to_end/",
    "tests/docs/",
    "tests/test_cli.py",
)


@cache
def _compose(*overrides: str) -> Config:
    return composition.plan(overrides, multirun=False).jobs[0]


@pytest.fixture(scope="session")
def compose() -> Compose:
    """compose("model=bn", "seed=1") -> the checked Config of this command line."""
    return _compose


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests by `LONGEST`."""
    items.sort(key=lambda item: next((n for n, path in enumerate(LONGEST) if item.nodeid.startswith(path)), 99))


def pytest_collection_finish() -> None:
    """Prepare what many tests repeat, and exclude all imported modules from Python's garbage collection."""
    prepared.share_tables()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def _uncollected() -> Iterator[None]:
    """Exclude what the tests of a file leave from later garbage collections, of which each run makes one."""
    yield
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep tests that share fixtures in one process; the marks of pytest-xdist 3.8 have no effect with pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.split("::")[0]
            return next((SHARING[part] for part in path.split("/") if part in SHARING), path)

    return Scheduling(config, log)


@pytest.fixture(autouse=True)
def _own_environment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clear environment variables of the shell that would affect unit tests; end-to-end tests keep them."""
    if {"end_to_end", "stack"} & set(request.path.parts):
        return
    for name in (
        "CIFAR_EXP_DATA",
        "MLFLOW_TRACKING_URI",
        "MLFLOW_EXPERIMENT_NAME",
        "MLFLOW_RUN_ID",
        "http_proxy",
        "HTTP_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, "")  # so that it is restored after the test even if a run sets it
        monkeypatch.delenv(name)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    datasets.load.cache_clear()


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    """Restore the package's logger after each test."""
    logger = logging.getLogger("cifar_exp")
    before = set(logger.handlers)
    yield
    for handler in set(logger.handlers) - before:
        logger.removeHandler(handler)
    logger.propagate = True
    logger.setLevel(logging.NOTSET)


def write_batches(folder: Path, records: int, seed: int = 0) -> Path:
    """Write the six files in the official layout, with random pixels and labels 0..9 in random order."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    for name in cifar10.FILES:
        content = np.frombuffer(generator.bytes(records * cifar10.RECORD_BYTES), np.uint8)
        content = content.reshape(records, cifar10.RECORD_BYTES).copy()
        content[:, 0] = generator.permutation(np.arange(records) % 10)
        content.tofile(folder / name)
    return folder


@pytest.fixture(scope="session")
def synthetic_cifar10(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folder with cifar-10-batches-bin/ at full size but with random images. It must not be changed."""
    root = tmp_path_factory.mktemp("cifar10")
    write_batches(root / cifar10.FOLDER, 10_000)
    yield root
    shutil.rmtree(root)  # 184 MB, which pytest would keep for three sessions


@pytest.fixture
def small_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder cifar-10-batches-bin with 20 records per file; `cifar10` is patched to expect this number."""
    monkeypatch.setattr(cifar10, "FILE_BYTES", 20 * cifar10.RECORD_BYTES)
    return write_batches(tmp_path / "small" / cifar10.FOLDER, 20)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """SQLite store with an experiment. The tests share it because creating its tables takes seconds."""
    folder = tmp_path_factory.mktemp("store")
    return Store(f"sqlite:///{folder / 'mlflow.db'}", "unit")


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a real MLflow server on this machine."""
    with server_process.serve(tmp_path_factory.mktemp("server")) as uri:
        yield uri
