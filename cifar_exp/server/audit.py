"""The audit trail: an append-only table in which each row carries the hash of the row before it.

Rows are written in the transaction of the change that they record. Whoever writes first locks the only row of the table
`cifar_exp_audit_head`, so that the rows of a chain are written one after the other, and no last row can disappear
unnoticed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from cifar_exp.errors import UserError, reason
from cifar_exp.tracking import server

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

ROUTE = "/api/3.0/cifar-exp/audit"
FIRST = "0" * 64  # stands for the hash before the first row

metadata = sa.MetaData()
rows_table = sa.Table(
    "cifar_exp_audit",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", sa.String(40), nullable=False),
    sa.Column("who", sa.String(255), nullable=False),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("action", sa.String(40), nullable=False),
    sa.Column("subject", sa.String(600), nullable=False, index=True),
    sa.Column("before", sa.Text, nullable=False),
    sa.Column("after", sa.Text, nullable=False),
    sa.Column("previous", sa.String(64), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
)
head_table = sa.Table(
    "cifar_exp_audit_head",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
)


@dataclass(frozen=True)
class Row:
    """A row of the audit trail.

    Attributes:
        number: from 1, without gaps.
        at: when, in UTC.
        who: user whose request made the change.
        origin: address and program of the request.
        action: such as approve or promote.
        subject: `run ID` or `model NAME@ALIAS`.
        before: state before the change, as JSON.
        after: state after the change, as JSON.
        previous: hash of the row before.
        hash: of everything above.
    """

    number: int
    at: str
    who: str
    origin: str
    action: str
    subject: str
    before: str
    after: str
    previous: str
    hash: str

    def computed_hash(self) -> str:
        """Hash that the row must have."""
        content = asdict(self)
        del content["hash"]
        return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def create_tables(engine: sa.Engine) -> None:
    """Create the tables that are missing."""
    metadata.create_all(engine)
    with engine.begin() as connection:
        if connection.scalar(sa.select(head_table.c.id)) is None:
            connection.execute(head_table.insert().values(id=1, number=0, hash=FIRST))


def lock(session: Session) -> None:
    """Wait until no other transaction writes to the trail, and keep others out until the end of this one."""
    session.execute(head_table.update().where(head_table.c.id == 1).values(id=1))


def append(
    session: Session,
    who: str,
    origin: str,
    action: str,
    subject: str,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
) -> Row:
    """Append a row in the transaction of a session, which must have called `lock` first."""
    number, previous = session.execute(sa.select(head_table.c.number, head_table.c.hash)).one()
    states = [json.dumps(one, sort_keys=True, ensure_ascii=False) for one in (before, after)]
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    row = Row(number + 1, at, who, origin, action, subject, states[0], states[1], previous, "")
    content = asdict(row) | {"hash": row.computed_hash()}
    session.execute(rows_table.insert().values(**content))
    session.execute(head_table.update().values(number=content["number"], hash=content["hash"]))
    return Row(**content)


def read(
    connection: sa.Connection | Session, subjects: Iterable[str] = (), after: int = 0, most: int | None = None
) -> list[Row]:
    """Rows of the trail, the oldest first.

    Args:
        connection: to the database.
        subjects: only the rows about these; all if empty.
        after: only rows with a higher number.
        most: number of rows; None: all.
    """
    wanted = sa.select(rows_table).where(rows_table.c.number > after).order_by(rows_table.c.number).limit(most)
    if chosen := list(subjects):
        wanted = wanted.where(rows_table.c.subject.in_(chosen))
    return [Row(**row._mapping) for row in connection.execute(wanted)]


def head(connection: sa.Connection | Session) -> tuple[int, str]:
    """Number and hash of the last row, as the trail itself keeps them."""
    found = connection.execute(sa.select(head_table.c.number, head_table.c.hash)).first()
    return (int(found[0]), str(found[1])) if found else (0, FIRST)


def read_database(uri: str) -> tuple[list[Row], tuple[int, str]]:
    """All rows of the trail in a database, and its head.

    Raises:
        UserError: if the database has no trail or cannot be read.
    """
    try:
        engine = sa.create_engine(uri)
        file = engine.url.database or ""
        if engine.dialect.name == "sqlite" and not file.startswith("file:") and not os.path.isfile(file):
            raise UserError(f"--database {uri}: there is no such file")  # SQLite would create it
        with engine.connect() as connection:
            return read(connection), head(connection)
    except (sa.exc.SQLAlchemyError, ImportError) as error:
        raise UserError(f"--database: no audit trail can be read there: {reason(error)}") from error


def read_server(uri: str) -> tuple[list[Row], tuple[int, str]]:
    """All rows of the trail of a server, and its head.

    Raises:
        UserError: if the server has no trail, does not answer or refuses the user.
    """
    rows: list[Row] = []
    while True:
        path = f"{ROUTE}?after={rows[-1].number if rows else 0}"
        page = server.call(uri, "GET", path)
        rows += [Row(**row) for row in page["rows"]]
        number, last = page["head"]
        if not page["rows"] or rows[-1].number >= number:
            return rows, (number, last)


def problems(rows: Iterable[Row], last: tuple[int, str]) -> Iterator[str]:
    """Check the chain.

    Args:
        rows: all rows of the trail, the oldest first.
        last: number and hash of the last row, as `head` returns them.

    Yields:
        One sentence for each row that is missing or was changed.
    """
    number, previous = 0, FIRST
    for row in rows:
        if row.number != number + 1:
            yield f"the rows between {number} and {row.number} are missing"
        elif row.previous != previous:
            yield f"row {row.number} does not follow the row before it"
        if row.computed_hash() != row.hash:
            yield f"row {row.number} was changed ({row.action} of {row.subject} by {row.who})"
        number, previous = row.number, row.hash
    if (number, previous) != last:
        yield f"the trail ends with row {number}, but its head names row {last[0]}"
