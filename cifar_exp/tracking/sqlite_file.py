"""What an SQLite store holds, read without MLflow, whose import takes seconds."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path
from urllib.parse import quote

_HEADER = b"SQLite format 3\0"
_MIGRATIONS = Path("store", "db_migrations", "versions")  # of MLflow: a file for each version of its tables


def problem(path: Path) -> str | None:
    """Why MLflow would not take a file as its store; None if it would, or there is no file yet."""
    try:
        with path.open("rb") as file:
            header = file.read(len(_HEADER))
    except FileNotFoundError:
        return None
    except OSError as error:
        return error.strerror
    if header not in (b"", _HEADER):
        return "it is no SQLite file"
    tables = {name for (name,) in _query(path, "SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return None
    if "experiments" not in tables:
        return "its tables are of another program"
    found = {version for (version,) in _query(path, "SELECT version_num FROM alembic_version")}
    newest, known = _versions()
    if found <= newest or not known:  # mlflow-skinny has no tables
        return None
    if found <= known:
        return f"an older MLflow has made it: back it up, then mlflow db upgrade {shlex.quote(f'sqlite:///{path}')}"
    return "a newer MLflow has made it"


def experiment(path: Path, name: str) -> tuple[str, str] | None:
    """Id and lifecycle stage of an experiment; None if it does not exist or the file has another format."""
    query = "SELECT experiment_id, lifecycle_stage FROM experiments WHERE name = ? ORDER BY lifecycle_stage"
    found = _query(path, query, name)
    return (str(found[0][0]), str(found[0][1])) if found else None


def _query(path: Path, query: str, *values: str) -> list[tuple[str, ...]]:
    """The rows of a query; none if the file does not have such tables, or another process is writing them."""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as database:
            return database.execute(query, values).fetchall()
    except sqlite3.Error:  # MLflow reports it later
        return []


@cache
def _versions() -> tuple[set[str], set[str]]:
    """The newest version of MLflow's tables, and all that the installed MLflow knows."""
    package = importlib.util.find_spec("mlflow")
    assert package is not None and package.origin is not None
    texts = [path.read_text() for path in (Path(package.origin).parent / _MIGRATIONS).glob("*.py")]
    known = {version for text in texts for version in re.findall(r'^revision\b.*= "(\w+)"$', text, re.M)}
    replaced = {version for text in texts for version in re.findall(r'^down_revision\b.*= "(\w+)"$', text, re.M)}
    return known - replaced, known
