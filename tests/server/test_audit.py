"""Tests of the audit trail: damage to it is found."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import program
import pytest

from cifar_exp.server import audit


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("UPDATE cifar_exp_audit SET who = 'eve' WHERE number = 2", "row 2 was changed"),
        ("DELETE FROM cifar_exp_audit WHERE number = 2", "rows between 1 and 3 are missing"),
        ("DELETE FROM cifar_exp_audit WHERE number = (SELECT max(number) FROM cifar_exp_audit)", "but its head names"),
        ("DELETE FROM cifar_exp_audit", "but its head names"),
    ],
)
def test_a_changed_or_deleted_row_of_the_audit_trail_is_found(tmp_path: Path, damage: str, found: str) -> None:
    import sqlalchemy as sa
    from sqlalchemy.orm import Session

    uri = f"sqlite:///{tmp_path}/m.db"
    engine = sa.create_engine(uri)
    for _ in range(2):
        audit.create_tables(engine)
    for number in range(4):
        with Session(engine) as session:
            audit.lock(session)
            audit.append(session, "bob", "here", "approve", f"run {number}", {}, {"note": "ü"})
            session.commit()
    kept, head = audit.read_database(f"{uri}?timeout=9")
    assert audit.read_database(f"sqlite:///file:{tmp_path}/m.db?mode=ro&uri=true") == (kept, head)
    assert len(kept) == 4 and not list(audit.problems(kept, head))
    with closing(sqlite3.connect(tmp_path / "m.db")) as database:
        database.execute(damage)
        database.commit()
    done = program.execute([*program.COMMAND, "audit", "--database", uri], tmp_path)
    assert done.returncode == 1 and found in done.stdout and "was changed.\n" in done.stdout


def test_a_database_without_a_trail_is_named_in_one_line(tmp_path: Path) -> None:
    addresses = (f"sqlite:///{tmp_path}/none.db", f"sqlite+pysqlite:///{tmp_path}/none.db?timeout=9")
    for arguments in (*(("--database", address) for address in addresses), ()):
        done = program.execute([*program.COMMAND, "audit", *arguments], tmp_path)
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert not (tmp_path / "none.db").exists()
