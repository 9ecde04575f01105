"""Connections to the database: how each kind is opened, and whose fault its errors are."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import sqlalchemy
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from infermux.errors import DatabaseUnavailable

from .place import Place

BUSY_TIMEOUT = 5.0  # seconds SQLite waits for another process's transaction
CONNECT_TIMEOUT = 5  # seconds, per address of the server
UNANSWERED = 10_000  # milliseconds after which a server whose machine does not answer any more counts as gone
_POSTGRESQL: Final[Mapping[str, Any]] = {
    "connect_timeout": CONNECT_TIMEOUT,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": UNANSWERED,
    "application_name": "infermux",
    # Behind a pooler that gives each transaction another connection, the server knows none that was prepared before.
    "prepare_threshold": None,
}
READ_ONLY = "infermux_read_only"


def open_engine(place: Place, *, create: bool) -> Engine:
    """An engine for `place`; only SQLite's file is touched: made, with its folder, where `create` and it is not there.

    Raises DatabaseUnavailable where the file cannot be made or is not there, or a driver is not installed.
    """
    if place.postgresql:
        return _postgresql(place)
    if place.file is None:
        engine = _engine(place.url, {"check_same_thread": False}, poolclass=StaticPool)
    else:
        _make(place, create=create)
        engine = _engine(f"sqlite:///{place.file}", {"timeout": BUSY_TIMEOUT, "check_same_thread": False})
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _engine(url: str, arguments: Mapping[str, Any], **pool: Any) -> Engine:
    # Without its parameters an error shows nobody's names, and no key's hash.
    return sqlalchemy.create_engine(url, connect_args=dict(arguments), hide_parameters=True, **pool)


def _make(place: Place, *, create: bool) -> None:
    """The file, for its owner only; SQLite gives its companions (-wal, -shm) the same mode."""
    assert place.file is not None
    try:
        if not create:
            os.stat(place.file)
            return
        os.makedirs(place.file.parent, mode=0o700, exist_ok=True)
        os.close(os.open(place.file, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise DatabaseUnavailable(f"{place}: {error.strerror}") from None


def _set_up_sqlite(connection: Any, _record: object) -> None:
    # Transactions begin where we say so (see _begin_sqlite), not where the driver guesses: it leaves DDL outside.
    connection.isolation_level = None
    # Half a megabyte of pages is enough to append rows; what reads of days ago need, the system's cache has.
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "cache_size=-512"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that first reads and then writes would fail at once, without waiting, where another process wrote
    # in between; one that is to write at all says so when it begins.
    reads = connection.get_execution_options().get(READ_ONLY, False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _postgresql(place: Place) -> Engine:
    try:
        # Two connections: one for what is written, one for what is read.
        return _engine(place.url, _POSTGRESQL, pool_size=2, max_overflow=0, pool_pre_ping=True)
    except ModuleNotFoundError:
        raise DatabaseUnavailable(f"{place}: PostgreSQL needs a driver: pip install 'infermux[postgres]'") from None


@contextmanager
def told(place: Place) -> Generator[None]:
    """Turn what the driver raises into DatabaseUnavailable, but for what it has against the values themselves.

    Those are DataError and IntegrityError: sent again, they would be refused again.
    """
    try:
        yield
    except (DataError, IntegrityError):
        raise
    except DBAPIError as error:
        raise DatabaseUnavailable(f"{place}: {reason_of(error)}") from error
    except SQLAlchemyError as error:  # of the pool or the URL
        raise DatabaseUnavailable(f"{place}: {type(error).__name__}") from error


def reason_of(error: DBAPIError) -> str:
    """The first line of what the driver says; it names no values, and psycopg no password."""
    lines = str(error.orig).strip().splitlines()
    return lines[0] if lines else type(error.orig).__name__
