"""Writing the ledger: a batch of rows, each exactly once however often it is tried.

Rows are tuples and statements are ours, so that a row costs what its database takes. SQLite gets many rows a statement:
its driver lets go of the interpreter's lock for each, and where it wants it back the event loop has to stop for it.
PostgreSQL gets them as one JSON text, which it takes apart itself; its driver would look at each value.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Final

import attrs
import msgspec

from infermux.errors import DatabaseUnavailable

from .session import Row, Session

log = logging.getLogger("infermux.database")

LONGEST_TEXT = 512
LARGEST_NUMBER = 2**53
AT_ONCE: Final = 32  # rows a statement: before 3.32 SQLite took no more than 999 values

TOKENS: Final = (
    "prompt_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "estimated",
)


@attrs.frozen(eq=False)
class Columns:
    """Those of one table, in the order in which its rows have them."""

    table: str
    names: tuple[str, ...]

    @property
    def into(self) -> str:
        """How an insertion of such rows begins."""
        return f"INSERT INTO {self.table} ({', '.join(self.names)})"


REQUESTS: Final = Columns(
    "requests",
    (
        *("seq", "id", "at", "day", "caller", "key", "endpoint", "stream", "requested", "route_group", "strategy"),
        *("provider", "model", "attempts", "rescues", "outcome", "status", "code", "fault", "cache"),
        *("latency", "first_token", "waited", "overhead"),
        *(*TOKENS, "cost"),
    ),
)
ATTEMPTS: Final = Columns(
    "attempts",
    (
        *("seq", "number", "provider", "model", "outcome", "status", "started", "ended", "first_token"),
        *(*TOKENS, "cost"),
    ),
)
TAGS: Final = Columns("tags", ("seq", "name", "value"))


class NumbersTaken(Exception):
    """Other rows have these numbers already: those of a router that happens to count as this one does."""

    def __init__(self, numbers: frozenset[int]) -> None:
        super().__init__(f"{len(numbers)} numbers are taken")
        self.numbers = numbers


@attrs.define(eq=False)
class Entry:
    """One request as the tables have it: its row, those of its attempts where it had several, those of its tags."""

    request: Row
    attempts: Sequence[Row] = ()
    tags: Sequence[Row] = ()


def write_entries(session: Session, entries: Sequence[Entry]) -> int:
    """Insert what is not there yet: after a lost connection nobody knows what was committed, so it is sent again.

    One row that cannot be kept must not keep the others out: it is left out, and logged. How many there were. Raises
    NumbersTaken, and writes nothing, where a number is another row's: silently left out, that row would be lost.
    """
    try:
        with session.part():
            _write(session, entries)
        return 0
    except (NumbersTaken, DatabaseUnavailable):
        raise  # the database is the reason, not a row
    except Exception as error:
        if len(entries) == 1:
            log.error("request %s is not in the ledger: %s", entries[0].request[1], error)  # noqa: TRY400 - that is all
            return 1
    half = len(entries) // 2
    return write_entries(session, entries[:half]) + write_entries(session, entries[half:])


def _write(session: Session, entries: Sequence[Entry]) -> None:
    if _insert(session, REQUESTS, [entry.request for entry in entries]) < len(entries):
        _see_whose(session, entries)
    _insert(session, ATTEMPTS, [row for entry in entries for row in entry.attempts])
    _insert(session, TAGS, [row for entry in entries for row in entry.tags])


def _see_whose(session: Session, entries: Sequence[Entry]) -> None:
    """Some were there before: these very ones, sent again, or those of another router. Raises NumbersTaken."""
    ours = {entry.request[0]: entry.request[1:3] for entry in entries}
    numbers = list(ours)
    taken: set[int] = set()
    for at in range(0, len(numbers), AT_ONCE):
        some = numbers[at : at + AT_ONCE]
        marks = ", ".join("?" * len(some))
        there = session.rows(f"SELECT seq, id, at FROM requests WHERE seq IN ({marks})", some)  # noqa: S608 - ours
        taken.update(seq for seq, *whose in there if tuple(whose) != ours[seq])
    if taken:
        raise NumbersTaken(frozenset(taken))


def _insert(session: Session, columns: Columns, rows: Sequence[Row]) -> int:
    """How many of the rows were not there yet."""
    if not rows:
        return 0
    if session.postgresql:
        named = [dict(zip(columns.names, row, strict=True)) for row in rows]
        return session.change(_json_insertion(columns), (msgspec.json.encode(named).decode(),))
    return sum(
        session.change(_insertion(columns, len(some)), tuple(chain.from_iterable(some))) for some in _parted(rows)
    )


def _parted(rows: Sequence[Row]) -> Generator[Sequence[Row]]:
    """`AT_ONCE` at a time, then in powers of two: few lengths, so that a driver keeps the statements of all."""
    at, size = 0, AT_ONCE
    while at < len(rows):
        while size > len(rows) - at:
            size //= 2
        yield rows[at : at + size]
        at += size


@lru_cache(maxsize=64)
def _insertion(columns: Columns, count: int) -> str:
    """For SQLite: insert so many rows, unless they are there."""
    row = f"({', '.join('?' * len(columns.names))})"
    return f"{columns.into} VALUES {', '.join([row] * count)} ON CONFLICT DO NOTHING"


@lru_cache(maxsize=8)
def _json_insertion(columns: Columns) -> str:
    """For PostgreSQL: insert rows out of JSON, unless they are there."""
    source = f"json_populate_recordset(NULL::{columns.table}, ?)"
    return f"{columns.into} SELECT {', '.join(columns.names)} FROM {source} ON CONFLICT DO NOTHING"  # noqa: S608 - ours


def fitting_text(text: str) -> str:
    """`text` as every database takes it: no NUL, no half characters, not endless."""
    if len(text) <= LONGEST_TEXT and text.isprintable():
        return text
    return text[:LONGEST_TEXT].replace("\0", "").encode("utf-8", "replace").decode()


@lru_cache(maxsize=4096)
def fitting_names(*names: str) -> tuple[str, ...]:
    """The same for several that mostly are what they were the last time, together."""
    return tuple([fitting_text(each) for each in names])


def fitting_number(number: int) -> int:
    """`number` within what 64 bits and JSON hold: a provider may claim any."""
    return number if 0 <= number <= LARGEST_NUMBER else max(0, min(number, LARGEST_NUMBER))
