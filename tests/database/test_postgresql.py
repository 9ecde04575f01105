"""A real PostgreSQL: the same schema and answers as SQLite's, and a server that stops, dies and hangs under load."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from functools import partial
from typing import Any

import pytest
import trio
from sqlalchemy import MetaData, event
from sqlalchemy.engine import Connection
from sqlalchemy.pool import QueuePool

from infermux.actors.identity import Identity
from infermux.actors.journal import Journal
from infermux.actors.kit import supervise
from infermux.actors.ledger import Books, open_ledger
from infermux.actors.ledger_rows import entry_of
from infermux.actors.record import Record, Tried
from infermux.costs import CostQuery
from infermux.database.budgets import identity
from infermux.database.costs import costs
from infermux.database.engine import AlchemyPool
from infermux.database.migrations import NEWEST
from infermux.database.place import Place
from infermux.database.rows import Entry, write_entries
from infermux.database.session import Session
from infermux.database.store import Store
from infermux.database.tables import METADATA
from infermux.database.worker import Database
from infermux.errors import DatabaseUnavailable
from infermux.providers.interface import Usage
from tests.database._hanging import closed_while_writing, reaches
from tests.database._postgresql import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.needs("initdb", "pg_ctl", "psql")]

RATE = 400  # rows a second: enough to have some under way whenever something happens


def record(number: int) -> Record:
    usage = Usage(prompt_tokens=100, completion_tokens=10)
    return Record(id=str(number), at=time.time(), who=Identity(caller="a", tags={"app": "x"}), usage=usage, cost=0.01)


@asynccontextmanager
async def under_load(url: str) -> AsyncGenerator[tuple[Books, list[int]]]:
    """A ledger that is told of requests all the time, and their numbers; the end of the block ends the load."""
    noted: list[int] = []
    journal, database = Journal(), Database.at(Place.of(url))

    async def load() -> None:
        begun = trio.current_time()
        while True:
            while len(noted) < (trio.current_time() - begun) * RATE:
                noted.append(len(noted))
                journal.tell(record(noted[-1]))
            await trio.sleep(0.005)

    async with (
        supervise() as supervisor,
        open_ledger(supervisor, journal, database) as books,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(load)
        await reaches(lambda: books.ledger.written > 0)
        yield books, noted
        nursery.cancel_scope.cancel()
    await database.aclose()


@contextmanager
def made_connections() -> Generator[list[Any]]:
    """Those that are opened inside the block."""
    made: list[Any] = []

    def connected(connection: Any, _: object) -> None:
        made.append(connection)

    event.listen(QueuePool, "connect", connected)
    try:
        yield made
    finally:
        event.remove(QueuePool, "connect", connected)


def ids(url: str) -> list[int]:
    """Of the rows, in the order they were noted."""

    def read(session: Session) -> list[int]:
        return [int(each) for [each] in session.rows("SELECT id FROM requests ORDER BY seq")]

    store = Store(Place.of(url))
    try:
        return store.read(read)
    finally:
        store.close()


def test_the_schema_is_the_same_and_is_made_once(url: str) -> None:
    def look(connection: Connection) -> dict[str, dict[str, tuple[bool, str]]]:
        found = MetaData()
        found.reflect(connection)
        return {
            table.name: {column.name: (column.primary_key, str(column.type)) for column in table.columns}
            for table in found.tables.values()
        }

    first, second = Store(Place.of(url)), Store(Place.of(url))
    found = first.ask(look)
    assert first.read(identity) == second.read(identity) != ""
    assert second.write(lambda session: session.rows("SELECT max(version) FROM schema_version")) == [(NEWEST,)]
    assert {name: set(columns) for name, columns in found.items()} == {
        name: set(table.columns.keys()) for name, table in METADATA.tables.items()
    }
    assert found["requests"]["seq"] == (True, "BIGINT")
    first.close()
    second.close()


def test_costs_are_those_that_sqlite_tells(url: str) -> None:
    lost = Tried(provider="one", model="m", started=0.0, ended=1.0, outcome="cancelled", usage=Usage(9, 1), cost=0.25)
    unpriced = Tried(provider="two", model="m", started=0.0, ended=1.0, usage=Usage(9, 1, estimated=True), cost=None)
    tagged = Identity(tags={"app": "x", "env": "y"})
    records = [
        Record(id="1", at=1e9, who=Identity(caller="b"), provider="one", attempts=(lost,), usage=lost.usage, cost=0.25),
        Record(id="2", at=1e9, who=tagged, attempts=(lost, unpriced), usage=Usage(18, 2, estimated=True)),
        Record(id="NUL \0 and half \ud800", at=1e9 + 1e5, code="\0" * 600),
    ]
    entries = [entry_of(seq, each) for seq, each in enumerate(records)]
    stores = Store(Place.of(url)), Store(Place.of("sqlite://"))
    for store in stores:
        assert store.write(lambda session: write_entries(session, entries)) == 0
    for group_by in ("caller", "provider,model", "tag", "tag:app,day", "key,group", ""):
        query = CostQuery.of(group_by=group_by, since="2001-01-01", until="", now=2e9)
        told = [store.ask(partial(costs, query=query)).as_json() for store in stores]
        assert told[0] == told[1]
        assert told[0]["total"]["requests"] == 3
    for store in stores:
        store.close()


@pytest.mark.parametrize("used", ["before", "after"])
def test_who_still_uses_a_pool_that_is_disposed_of_leaves_no_connection(url: str, used: str) -> None:
    with made_connections() as made:
        pool = AlchemyPool(Place.of(url))
        with pool.question() if used == "before" else nullcontext():
            pool.dispose()
        for _ in range(2):
            with pool.question():
                pass
    assert {connection.closed for connection in made} == {True}


def test_one_row_that_cannot_be_kept_keeps_no_other_out(url: str) -> None:
    entries = [entry_of(seq, record(seq)) for seq in range(20)]
    entries[7] = Entry(tuple(2**40 if value == 200 else value for value in entries[7].request))
    store = Store(Place.of(url))
    assert store.write(lambda session: write_entries(session, entries)) == 1
    store.close()
    assert ids(url) == [seq for seq in range(20) if seq != 7]


async def test_a_server_that_is_stopped_and_started_under_load_has_every_row_once(server: Cluster, url: str) -> None:
    async with under_load(url) as (books, noted):
        await trio.to_thread.run_sync(server.stop)
        await reaches(lambda: books.ledger.error is not None)
        await trio.to_thread.run_sync(server.start)
        await reaches(lambda: books.ledger.error is None)
    assert ids(url) == noted
    assert (books.ledger.shed, books.ledger.written) == (0, len(noted))


@pytest.mark.long
async def test_a_server_that_is_killed_under_load_has_every_row_once(server: Cluster, url: str) -> None:
    async with under_load(url) as (books, noted):
        await trio.to_thread.run_sync(server.kill)
        await reaches(lambda: books.ledger.error is not None)
        await trio.to_thread.run_sync(server.start)
        await reaches(lambda: books.ledger.error is None)
    assert ids(url) == noted
    assert (books.ledger.shed, books.ledger.written) == (0, len(noted))


async def test_a_server_that_hangs_holds_up_nobody_and_gets_the_rows_afterwards(server: Cluster, url: str) -> None:
    async with under_load(url) as (books, noted):
        with server.frozen():
            begun, count = trio.current_time(), len(noted)
            await trio.sleep(0.6)
            assert len(noted) - count > RATE * 0.4, "the load went on"
            assert trio.current_time() - begun < 10
            assert not await books.flush(0.05)
    assert ids(url) == noted
    assert books.ledger.shed == 0


async def test_the_end_is_not_held_up_by_a_server_that_hangs(
    server: Cluster, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infermux.actors.ledger.GRACE", 0.3)
    with server.frozen():
        database = Database.at(Place.of(url))
        async with supervise() as supervisor:
            async with open_ledger(supervisor, journal := Journal(), database) as books:
                journal.tell(record(1))
            assert (books.ledger.pending, books.ledger.shed) == (0, 1)
    await database.aclose()  # what its thread has opened meanwhile


async def test_a_thread_that_hangs_at_the_end_is_the_last_one_and_leaves_no_connection(url: str) -> None:
    def number(session: Session) -> int:
        return len(session.rows("SELECT 1 FROM requests"))

    with made_connections() as made:
        database = Database.at(Place.of(url))
        assert await database.read(number) == 0
        go_on = await closed_while_writing(database, lambda session: write_entries(session, [entry_of(1, record(1))]))
        with pytest.raises(DatabaseUnavailable, match="it was closed"):
            await database.read(number)
        go_on()
        await reaches(lambda: all(connection.closed for connection in made))
    assert ids(url) == [1]
