"""A database for whoever may wait for it: opened and brought up to date on first use."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol, TypeVar

from infermux.errors import DatabaseUnavailable

from .migrations import migrate
from .place import Place
from .session import Session
from .sqlite import SqlitePool

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

log = logging.getLogger("infermux.database")

T = TypeVar("T")


class Pool(Protocol):
    """Connections; see `SqlitePool` and `AlchemyPool`."""

    def transaction(self, *, read_only: bool) -> AbstractContextManager[Session]: ...
    def question(self) -> AbstractContextManager[Connection]: ...
    def dispose(self) -> None: ...


class Store:
    """The database at `place`. Threads may share it.

    `create`: SQLite's file is made where it is not there; without, that is DatabaseUnavailable.
    """

    def __init__(self, place: Place, *, create: bool = True) -> None:
        self.place = place
        self._create = create
        self._opening = threading.Lock()
        self._pool: Pool | None = None
        self._file: tuple[int, int] | None = None  # which one is open
        self._ended = False

    def __repr__(self) -> str:
        return f"<Store {self.place} {'new' if self._pool is None else 'open'}>"

    def write(self, work: Callable[[Session], T]) -> T:
        """What `work` returns, in a transaction that is committed when it returns and rolled back when it raises.

        Raises DatabaseUnavailable where the database is the reason, and what `work` raises otherwise. After
        DatabaseUnavailable nothing is known of the transaction: a connection can be lost while it is committed.
        """
        with self._opened().transaction(read_only=False) as session:
            return work(session)

    def read(self, work: Callable[[Session], T]) -> T:
        """As `write`, but the transaction only reads: on SQLite it neither waits for writers nor holds them up."""
        with self._opened().transaction(read_only=True) as session:
            return work(session)

    def ask(self, work: Callable[[Connection], T]) -> T:
        """As `read`, over SQLAlchemy, which takes 200 ms to import: for questions that are composed."""
        with self._opened().question() as connection:
            return work(connection)

    def end(self) -> None:
        """From now on it opens nothing, as after a close `for_good`; what is open stays so. Without any waiting."""
        self._ended = True  # by no lock: whoever opens it holds that for as long as a server needs to answer

    def used(self, work: Callable[[Store], T]) -> T:
        """What `work` returns. Where the end came meanwhile, nobody else may be left to close the connections."""
        try:
            return work(self)
        finally:
            if self._ended:
                self.close()

    def close(self, *, for_good: bool = False) -> None:
        """Close the connections. The next use opens it again; after a close `for_good` that is DatabaseUnavailable."""
        with self._opening:
            self._ended = self._ended or for_good
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.dispose()

    def _opened(self) -> Pool:
        with self._opening:
            if self._ended:
                raise DatabaseUnavailable(f"{self.place}: it was closed")
            if self._pool is not None and self._file != _identity(self.place):
                # A removed file can be written for ever, and nobody would find the rows.
                log.warning("%s was removed or replaced: it is opened anew", self.place)
                self._pool.dispose()
                self._pool = None
            if self._pool is None:
                pool = _pool(self.place, create=self._create)
                try:
                    with pool.transaction(read_only=False) as session:
                        done = migrate(session, self.place)
                except BaseException:
                    pool.dispose()
                    raise
                self._pool, self._file = pool, _identity(self.place)
                for step in done:
                    log.info("%s: schema version %d (%s)", self.place, step.version, step.what)
            return self._pool


def _pool(place: Place, *, create: bool) -> Pool:
    if not place.postgresql:
        return SqlitePool(place, create=create)
    from .engine import AlchemyPool

    return AlchemyPool(place)


def _identity(place: Place) -> tuple[int, int] | None:
    if place.file is None:
        return None
    try:
        found = os.stat(place.file)
    except OSError:
        return None
    return found.st_dev, found.st_ino
