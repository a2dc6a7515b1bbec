"""Tests of SQLite files that are no store of this MLflow: they are refused before anything trains."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from cifar_exp.errors import UserError
from cifar_exp.tracking import sqlite_file
from cifar_exp.tracking.store import Store


def execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute(statement)
        database.commit()


def test_a_store_of_this_mlflow_and_a_new_or_empty_file_are_taken(store: Store, tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    for path in (store.file, tmp_path / "empty.db", tmp_path / "new.db"):
        assert path is not None and sqlite_file.problem(path) is None
        MlflowClient(f"sqlite:///{path}").search_experiments()


def test_what_is_no_sqlite_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.db").mkdir()
    (tmp_path / "text.db").write_text("These are notes, not a database.")
    for name, says in (("folder.db", "Is a directory"), ("text.db", "it is no SQLite file")):
        with pytest.raises(UserError, match=f"{name} .*: {says}$"):
            Store(f"sqlite:///{tmp_path / name}", "e").check(may_be_away=True)


def test_tables_of_another_program_are_left_alone(tmp_path: Path) -> None:
    execute(tmp_path / "songs.db", "CREATE TABLE songs (title TEXT)")
    with pytest.raises(UserError, match="its tables are of another program"):
        Store(f"sqlite:///{tmp_path / 'songs.db'}", "e").check(may_be_away=True)


@pytest.mark.parametrize(
    ("version", "says"),
    [("f5a4f2784254", "an older MLflow has made it: back it up, then mlflow db upgrade sqlite:///"), ("0", "a newer")],
)
def test_tables_of_another_mlflow_are_refused(tmp_path: Path, version: str, says: str) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    MlflowClient(uri).search_experiments()
    execute(tmp_path / "mlflow.db", f"UPDATE alembic_version SET version_num = '{version}'")
    with pytest.raises(UserError, match=says):
        Store(uri, "e").check(may_be_away=True)
