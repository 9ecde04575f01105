"""SQLite by its own driver: how it is opened, and whose fault its errors are."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import attrs

from infermux.errors import DatabaseUnavailable

from .place import Place
from .session import Row, Session, Unfit

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

BUSY_TIMEOUT = 5.0  # seconds it waits for another process's transaction
KEPT: Final = 2  # connections that nobody uses: one is for what is written, one for what is read
# Half a megabyte of pages is enough to append rows; what reads of days ago need, the system's cache has.
_PRAGMAS: Final = ("synchronous=NORMAL", "foreign_keys=ON", "cache_size=-512")
_TRY_EVERY: Final = 0.01  # seconds
_making: Final = threading.Lock()  # held until a new file is closed again: nobody has a lock on it yet


@attrs.frozen
class SqliteSession:
    """A `Session` on a connection in which a transaction has begun."""

    connection: sqlite3.Connection
    place: Place
    postgresql: bool = False

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        try:
            return self.connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise _told(error, self.place) from error

    def change(self, statement: str, values: Sequence[Any] = ()) -> int:
        try:
            return self.connection.execute(statement, values).rowcount
        except sqlite3.Error as error:
            raise _told(error, self.place) from error

    @contextmanager
    def part(self) -> Generator[None]:
        self.change("SAVEPOINT part")
        try:
            yield
        except BaseException:
            with suppress(sqlite3.Error):  # a full disk has undone all of it
                self.connection.execute("ROLLBACK TO part")
                self.connection.execute("RELEASE part")
            raise
        self.change("RELEASE part")


class SqlitePool:
    """Connections to the database at `place`; threads may share it. In memory there is but one.

    Raises DatabaseUnavailable where the file cannot be made or, without `create`, is not there.
    """

    def __init__(self, place: Place, *, create: bool) -> None:
        if place.file is not None:
            _make(place, create=create)
        self._place = place
        self._lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        self._engine: Engine | None = None
        self._memory = _connected(place) if place.in_memory else None

    @contextmanager
    def transaction(self, *, read_only: bool) -> Generator[Session]:
        """One transaction, committed at the end of the block and undone where that raises."""
        try:
            connection = self._take()
        except sqlite3.Error as error:
            raise _told(error, self._place) from error
        broken = False
        try:
            # One that first reads and then writes would fail at once, without waiting, where another process wrote in
            # between; one that is to write at all says so when it begins.
            connection.execute("BEGIN" if read_only else "BEGIN IMMEDIATE")
            yield SqliteSession(connection, self._place)
            connection.execute("COMMIT")
        except BaseException as error:
            with suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            broken = isinstance(error, sqlite3.Error | DatabaseUnavailable)
            if isinstance(error, sqlite3.Error):
                raise _told(error, self._place) from error
            raise
        finally:
            self._give(connection, broken=broken)

    @contextmanager
    def question(self) -> Generator[Connection]:
        """A transaction that only reads, over SQLAlchemy, which is imported for it."""
        from .engine import sqlite_engine, told

        with self._lock:
            if self._engine is None:
                keep = self._place.in_memory
                self._engine = sqlite_engine(lambda: self._memory or _connected(self._place), keep=keep)
        with told(self._place), self._engine.begin() as connection:
            yield connection

    def dispose(self) -> None:
        """Close all that nobody uses; the others are closed when they are given back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()
        for connection in [*idle, *([self._memory] if self._memory is not None else [])]:
            connection.close()

    def _take(self) -> sqlite3.Connection:
        if self._memory is not None:
            return self._memory
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return _connected(self._place)

    def _give(self, connection: sqlite3.Connection, *, broken: bool) -> None:
        if connection is self._memory:
            return
        with self._lock:
            if not self._closed and not broken and len(self._idle) < KEPT:
                self._idle.append(connection)
                return
        connection.close()


def _make(place: Place, *, create: bool) -> None:
    """The file, for its owner only; SQLite gives its companions (-wal, -shm) the same mode.

    One that is there is not opened: closing it would drop the locks that this process has on it (fcntl(2)), by which
    other processes know that somebody uses it. Whoever then came and went would take the log for nobody's and remove
    it, and what is written afterwards would be lost.
    """
    assert place.file is not None
    try:
        with _making:
            if create:
                os.makedirs(place.file.parent, mode=0o700, exist_ok=True)
                with suppress(FileExistsError):
                    made = os.path.realpath(place.file)  # a link may lead to where there is nothing yet
                    os.close(os.open(made, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            os.stat(place.file)
    except OSError as error:
        raise DatabaseUnavailable(f"{place}: {error.strerror}") from None


def _connected(place: Place) -> sqlite3.Connection:
    # Transactions begin where we say so, not where the driver guesses: it leaves DDL outside.
    file = ":memory:" if place.file is None else place.file
    connection = sqlite3.connect(file, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
    try:
        _log_ahead(connection)
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


def _log_ahead(connection: sqlite3.Connection) -> None:
    """Have it write to a log beside the file. Where two do so at once, SQLite tells one that it is busy, unwaited."""
    until = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
        time.sleep(_TRY_EVERY)


def _told(error: sqlite3.Error, place: Place) -> Unfit | DatabaseUnavailable:
    """What the driver says; it names no values."""
    said = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if isinstance(error, sqlite3.DataError | sqlite3.IntegrityError):
        return Unfit(said)
    return DatabaseUnavailable(f"{place}: {said}")
