"""Writing the ledger: a batch of rows, each exactly once however often it is tried."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, cast

import attrs

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.engine import Connection, Dialect
    from sqlalchemy.sql.compiler import SQLCompiler

log = logging.getLogger("infermux.database")

Row = Mapping[str, Any]

LONGEST_TEXT = 512
LARGEST_NUMBER = 2**53


@attrs.frozen
class Entry:
    """One request as the tables have it: its row, those of its attempts where it had several, those of its tags."""

    request: Row
    attempts: Sequence[Row] = ()
    tags: Sequence[Row] = ()


def prepare(connection: Connection) -> None:
    """Make ready what writing needs: the first row shall not wait for it."""
    from . import tables

    for table in (tables.REQUESTS, tables.ATTEMPTS, tables.TAGS):
        _insertion(connection.dialect, table)


def write_entries(connection: Connection, entries: Sequence[Entry]) -> int:
    """Insert what is not there yet: after a lost connection nobody knows what was committed, so it is sent again.

    One row that cannot be kept must not keep the others out: it is left out, and logged. How many there were.
    """
    from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

    try:
        with connection.begin_nested():
            _write(connection, entries)
        return 0
    except Exception as error:
        if isinstance(error, DBAPIError) and not isinstance(error, DataError | IntegrityError):
            raise  # the database is the reason, not a row
        if len(entries) == 1:
            said = getattr(error, "orig", None) or error
            log.error("request %s is not in the ledger: %s", entries[0].request["id"], said)  # noqa: TRY400 - that is all
            return 1
    half = len(entries) // 2
    return write_entries(connection, entries[:half]) + write_entries(connection, entries[half:])


def _write(connection: Connection, entries: Sequence[Entry]) -> None:
    from . import tables

    _insert(connection, tables.REQUESTS, [entry.request for entry in entries])
    _insert(connection, tables.ATTEMPTS, [row for entry in entries for row in entry.attempts])
    _insert(connection, tables.TAGS, [row for entry in entries for row in entry.tags])


def _insert(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    if not rows:
        return
    compiled = _insertion(connection.dialect, table)
    # By the driver itself, a third of what it takes by way of SQLAlchemy: these values need no conversion.
    if compiled.positiontup:
        in_order = itemgetter(*compiled.positiontup)
        connection.exec_driver_sql(str(compiled), [in_order(row) for row in rows])
    else:
        connection.exec_driver_sql(str(compiled), list(rows))


@lru_cache(maxsize=16)
def _insertion(dialect: Dialect, table: Table) -> SQLCompiler:
    """An insertion of every column, of rows that are not there yet, as the driver takes it."""
    insertion: Any
    if dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as insertion
    else:
        from sqlalchemy.dialects.sqlite import insert as insertion
    compiled = insertion(table).on_conflict_do_nothing().compile(dialect=dialect)
    return cast("SQLCompiler", compiled)


def fitting_text(text: str) -> str:
    """`text` as every database takes it: no NUL, no half characters, not endless."""
    if len(text) <= LONGEST_TEXT and text.isprintable():
        return text
    return text[:LONGEST_TEXT].replace("\0", "").encode("utf-8", "replace").decode()


def fitting_number(number: int) -> int:
    """`number` within what 64 bits and JSON hold: a provider may claim any."""
    return number if 0 <= number <= LARGEST_NUMBER else max(0, min(number, LARGEST_NUMBER))
