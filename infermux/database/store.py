"""A database for whoever may wait for it: opened and brought up to date on first use."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from .place import Place

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

log = logging.getLogger("infermux.database")

T = TypeVar("T")


class Store:
    """The database at `place`. Threads may share it.

    `create`: SQLite's file is made where it is not there; without, that is DatabaseUnavailable.
    """

    def __init__(self, place: Place, *, create: bool = True) -> None:
        self.place = place
        self._create = create
        self._opening = threading.Lock()
        self._engine: Engine | None = None
        self._file: tuple[int, int] | None = None  # which one is open

    def __repr__(self) -> str:
        return f"<Store {self.place} {'new' if self._engine is None else 'open'}>"

    def write(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, in a transaction that is committed when it returns and rolled back when it raises.

        Raises DatabaseUnavailable where the database is the reason, and what `work` raises otherwise. After
        DatabaseUnavailable nothing is known of the transaction: a connection can be lost while it is committed.
        """
        return self._run(work, read_only=False)

    def read(self, work: Callable[[Connection], T]) -> T:
        """As `write`, but the transaction only reads: on SQLite it neither waits for writers nor holds them up."""
        return self._run(work, read_only=True)

    def close(self) -> None:
        """Close the connections. The next use opens it again."""
        with self._opening:
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()

    def _run(self, work: Callable[[Connection], T], *, read_only: bool) -> T:
        from .engine import READ_ONLY, told

        with told(self.place):
            engine = self._opened()
            pool = engine.pool
            try:
                with engine.execution_options(**{READ_ONLY: read_only}).begin() as connection, _left(connection):
                    return work(connection)
            finally:
                if self._engine is not engine:  # closed meanwhile, without this connection: it was in use
                    pool.dispose()
                    engine.dispose()

    def _opened(self) -> Engine:
        from .engine import open_engine
        from .migrations import migrate

        with self._opening:
            if self._engine is not None and self._file != _identity(self.place):
                # A removed file can be written for ever, and nobody would find the rows.
                log.warning("%s was removed or replaced: it is opened anew", self.place)
                self._engine.dispose()
                self._engine = None
            if self._engine is None:
                engine = open_engine(self.place, create=self._create)
                try:
                    with engine.begin() as connection:
                        migrate(connection, self.place)
                except BaseException:
                    engine.dispose()
                    raise
                self._engine, self._file = engine, _identity(self.place)
            return self._engine


@contextmanager
def _left(connection: Connection) -> Generator[None]:
    """A server that fails may be one that only reads from now on, after another took over: the next try looks anew."""
    from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

    try:
        yield
    except (DataError, IntegrityError):
        raise
    except DBAPIError:
        if connection.dialect.name == "postgresql":
            connection.invalidate()
        raise


def _identity(place: Place) -> tuple[int, int] | None:
    if place.file is None:
        return None
    try:
        found = os.stat(place.file)
    except OSError:
        return None
    return found.st_dev, found.st_ino
