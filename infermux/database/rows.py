"""Writing the ledger: a batch of rows, each exactly once however often it is tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.engine import Connection

Row = Mapping[str, Any]

LONGEST_TEXT = 512
LARGEST_NUMBER = 2**53


@attrs.frozen
class Entry:
    """One request as the tables have it: its row, those of its attempts where it had several, those of its tags."""

    request: Row
    attempts: Sequence[Row] = ()
    tags: Sequence[Row] = ()


def write_entries(connection: Connection, entries: Sequence[Entry]) -> None:
    """Insert what is not there yet: after a lost connection nobody knows what was committed, so it is sent again."""
    from . import tables

    _insert(connection, tables.REQUESTS, [entry.request for entry in entries])
    _insert(connection, tables.ATTEMPTS, [row for entry in entries for row in entry.attempts])
    _insert(connection, tables.TAGS, [row for entry in entries for row in entry.tags])


def _insert(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as insert_postgresql

        connection.execute(insert_postgresql(table).on_conflict_do_nothing(), rows)
    else:
        from sqlalchemy.dialects.sqlite import insert as insert_sqlite

        connection.execute(insert_sqlite(table).on_conflict_do_nothing(), rows)


def fitting_text(text: str) -> str:
    """`text` as every database takes it: no NUL, no half characters, not endless."""
    if len(text) <= LONGEST_TEXT and text.isprintable():
        return text
    return text[:LONGEST_TEXT].replace("\0", "").encode("utf-8", "replace").decode()


def fitting_number(number: int) -> int:
    """`number` within what 64 bits and JSON hold: a provider may claim any."""
    return max(-LARGEST_NUMBER, min(number, LARGEST_NUMBER))
