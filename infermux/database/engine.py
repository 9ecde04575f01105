"""SQLAlchemy: for PostgreSQL, and for questions that are composed. Whose fault its errors are."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import attrs
import sqlalchemy
from sqlalchemy import event
from sqlalchemy.engine import Connection, CursorResult, Engine
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.pool import NullPool, StaticPool

from infermux.errors import DatabaseUnavailable

from .place import Place
from .session import Row, Session, Unfit

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


@attrs.frozen
class AlchemySession:
    """A `Session` on a connection to PostgreSQL in which a transaction has begun."""

    connection: Connection
    place: Place
    postgresql: bool = True

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        return [tuple(row) for row in self._done(statement, tuple(values))]

    def change(self, statement: str, values: Sequence[Any] = ()) -> int:
        return self._done(statement, tuple(values)).rowcount

    @contextmanager
    def part(self) -> Generator[None]:
        with told(self.place), self.connection.begin_nested():
            yield

    def _done(self, statement: str, values: Any) -> CursorResult[Any]:
        with told(self.place):
            return self.connection.exec_driver_sql(statement.replace("?", "%s"), values or None)


class AlchemyPool:
    """Connections to a PostgreSQL, opened when they are needed. Raises DatabaseUnavailable without its driver."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._engine = _postgresql(place)
        self._disposed = False

    @contextmanager
    def transaction(self, *, read_only: bool) -> Generator[Session]:
        """One transaction, committed at the end of the block and undone where that raises."""
        del read_only  # readers and writers never wait for one another there
        with self.question() as connection:
            yield AlchemySession(connection, self._place)

    @contextmanager
    def question(self) -> Generator[Connection]:
        """The same, with SQLAlchemy's own connection."""
        try:
            with told(self._place), self._engine.begin() as connection, _left(connection):
                yield connection
        finally:
            if self._disposed:
                self._engine.pool.dispose()

    def dispose(self) -> None:
        """Close all that nobody uses; the others are closed when they are given back."""
        # Not `Engine.dispose`: it goes on with another pool, where nobody would look for what a thread, late by a
        # step, opens or gives back. Said first: whoever gives one back later than this looks sees that it is closed.
        self._disposed = True
        self._engine.pool.dispose()


@contextmanager
def _left(connection: Connection) -> Generator[None]:
    """A server that fails may be one that only reads from now on, after another took over: the next try looks anew."""
    try:
        yield
    except (DataError, IntegrityError):
        raise
    except (DBAPIError, DatabaseUnavailable):
        connection.invalidate()
        raise


def sqlite_engine(connect: Callable[[], Any], *, keep: bool) -> Engine:
    """For questions to a SQLite that `connect` opens, each on a connection of its own unless it is to `keep` one."""
    pool = StaticPool if keep else NullPool
    engine = _engine("sqlite://", {}, creator=connect, poolclass=pool)
    event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _engine(url: str, arguments: Mapping[str, Any], **pool: Any) -> Engine:
    # Without its parameters an error shows nobody's names, and no key's hash.
    return sqlalchemy.create_engine(url, connect_args=dict(arguments), hide_parameters=True, **pool)


def _postgresql(place: Place) -> Engine:
    try:
        # Two connections: one for what is written, one for what is read.
        return _engine(place.url, _POSTGRESQL, pool_size=2, max_overflow=0, pool_pre_ping=True)
    except ModuleNotFoundError:
        raise DatabaseUnavailable(f"{place}: PostgreSQL needs a driver: pip install 'infermux[postgres]'") from None


@contextmanager
def told(place: Place) -> Generator[None]:
    """Turn what the driver raises into Unfit where it is about the values, and else into DatabaseUnavailable."""
    try:
        yield
    except (DataError, IntegrityError) as error:
        raise Unfit(reason_of(error)) from error
    except DBAPIError as error:
        raise DatabaseUnavailable(f"{place}: {reason_of(error)}") from error
    except SQLAlchemyError as error:  # of the pool or the URL
        raise DatabaseUnavailable(f"{place}: {type(error).__name__}") from error


def reason_of(error: DBAPIError) -> str:
    """The first line of what the driver says; it names no values, and psycopg no password."""
    lines = str(error.orig).strip().splitlines()
    return lines[0] if lines else type(error.orig).__name__
