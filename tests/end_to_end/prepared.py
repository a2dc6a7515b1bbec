"""Preparations that most programs repeat, made once for all that the tests start as forks.

A run imports 700 modules, composes Hydra's files, lists the installed packages, MLflow lists their modules before it
saves the first model, and a new SQLite store gets its tables by all migrations since MLflow's first. Together this is
most of the processor time of a small run. Programs that are started afresh, such as those of test_offline, do all of it
themselves.
"""

from __future__ import annotations

import gc
import importlib
import logging
import pkgutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import cifar_exp
from cifar_exp.config import composition
from cifar_exp.tracking import environment

# These parse a command line, or need an extra.
_NOT_ALONE = tuple(f"cifar_exp.{name}" for name in ("__main__", "cli", "server", "search", "sweep.pool", "sweep.slot"))
_LIBRARIES = ("mlflow.keras", "mlflow.store.tracking.sqlalchemy_store", "sklearn.model_selection")


def share_tables() -> None:
    """Give each new SQLite store of this process, and of its forks, a copy of the tables of the first one."""
    from mlflow.store.db import utils
    from mlflow.store.model_registry import sqlalchemy_store as registry

    initialize, first = utils._initialize_tables, list[bytes]()

    def copy(engine: object) -> None:
        url = engine.url  # type: ignore[attr-defined]
        if url.get_backend_name() != "sqlite" or not url.database or not utils._is_empty_database(engine):
            initialize(engine)
        elif not first:
            initialize(engine)
            with closing(sqlite3.connect(url.database)) as made:
                first.append(made.serialize())
        else:
            with closing(sqlite3.connect(":memory:")) as made, closing(sqlite3.connect(url.database)) as new:
                made.deserialize(first[0])
                made.backup(new)

    utils._initialize_tables = registry._initialize_tables = copy


def _import_all() -> None:
    for name in _LIBRARIES:
        importlib.import_module(name)
    for module in pkgutil.walk_packages(cifar_exp.__path__, "cifar_exp."):
        if not module.name.startswith(_NOT_ALONE):
            importlib.import_module(module.name)


def _make_first_store() -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        store = SqlAlchemyStore(f"sqlite:///{Path(folder, 'mlflow.db')}", folder)
        store.engine.dispose()


def _compose() -> None:
    """Compose the groups that most tests choose, with nothing else."""
    for groups in ([], ["data=digits"], ["model=dense", "data=digits"], ["data=digits", "model=dense"]):
        composition.plan(groups, multirun=False)


def prepare() -> None:
    """Make all preparations."""
    from mlflow.utils import requirements_utils

    _import_all()
    _compose()
    environment.describe(backend="", device="")
    requirements_utils._init_packages_to_modules_map()
    share_tables()
    _make_first_store()
    gc.freeze()  # a collection, as at the start of every run, takes 0.8 s with all these modules
