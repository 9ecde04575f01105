"""Several routers on one database: every row once, every amount once, whatever becomes of the database meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from infermux.actors.identity import Identity
from infermux.actors.journal import Journal
from infermux.actors.keys import Keys, start_keys
from infermux.actors.kit import supervise
from infermux.actors.ledger import ORIGIN_BITS, Ledger, open_ledger
from infermux.actors.ledger_rows import entry_of
from infermux.actors.record import Record
from infermux.actors.treasury import Treasury
from infermux.database.budgets import NANO, Added, Batch, add
from infermux.database.keys import DatabaseKeys
from infermux.database.place import Place
from infermux.database.rows import write_entries
from infermux.database.session import Session
from infermux.database.store import Store
from infermux.database.worker import Database
from infermux.errors import KeysUnavailable, Unauthorized
from infermux.keys import Allowance, new_key
from infermux.secret import Secret
from tests.database._node import COST, end_requests, node
from tests.database._postgresql import Cluster
from tests.e2e._process import ROOT, minimal_environ

pytestmark = pytest.mark.slow

REAL = pytest.mark.needs("initdb", "pg_ctl", "psql")
NODES = 4
REQUESTS = 1000


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=REAL)], name="place")
def _place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/ledger.db" if request.param == "sqlite" else str(request.getfixturevalue("url"))


def asked(url: str, question: str) -> list[Any]:
    """What the database answers, as tuples."""

    def read(session: Session) -> list[Any]:
        return session.rows(question)

    store = Store(Place.of(url))
    try:
        return store.read(read)
    finally:
        store.close()


def kept(url: str) -> dict[str, Any]:
    """By caller: rows and money."""
    found = asked(url, "SELECT caller, count(DISTINCT id), count(*), sum(cost) FROM requests GROUP BY caller")
    assert all(different == rows for _, different, rows, _ in found)
    return {caller: (rows, pytest.approx(money)) for caller, _, rows, money in found}


async def until(holds: Callable[[], bool]) -> None:
    with trio.fail_after(30):
        while not holds():  # noqa: ASYNC110 - a database has no event
            await trio.sleep(0.02)


@contextmanager
def processes(url: str, home: Path, names: Sequence[str]) -> Generator[subprocess.Popen[str]]:
    """A process of nodes that have all begun, each one of its children; killed if they still run at the end."""
    command = [sys.executable, "-m", "tests.database._node", url, str(REQUESTS), *names]
    environ = minimal_environ(str(home), {})
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environ, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            assert [process.stdout.readline() for _ in names] == ["begins\n"] * len(names)
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


@REAL
@pytest.mark.long
def test_four_processes_lose_and_double_nothing_while_the_server_restarts_hangs_and_dies(
    server: Cluster, url: str, tmp_path: Path
) -> None:
    names = [f"node-{number}" for number in range(NODES)]
    with processes(url, tmp_path, names) as process:
        for end in (server.stop, server.kill):
            time.sleep(0.4)  # some rows are under way by then, and it does not matter how many
            end()
            server.start()
        time.sleep(0.2)
        with server.frozen():
            time.sleep(0.3)
        assert process.wait(120) == 0
    assert kept(url) == dict.fromkeys(names, (REQUESTS, REQUESTS * COST))
    assert asked(url, "SELECT scope, amount FROM budgets_spent") == [("all", NODES * REQUESTS * round(COST * NANO))]


async def test_four_routers_in_one_process_lose_and_double_nothing(place: str) -> None:
    async def run(name: str) -> None:
        async with node(place) as (journal, _, treasury):
            await end_requests(journal, treasury, name, 200)

    async with trio.open_nursery() as nursery:
        for number in range(NODES):
            nursery.start_soon(run, f"node-{number}")
    assert kept(place) == {f"node-{number}": (200, 200 * COST) for number in range(NODES)}
    assert asked(place, "SELECT amount FROM budgets_spent") == [(NODES * 200 * round(COST * NANO),)]


async def test_what_one_router_spends_the_others_know_soon(place: str) -> None:
    def spent(treasury: Treasury) -> float:
        return float(treasury.statement()[0]["spent_usd"])

    async with node(place) as (journal, _, first), node(place) as (_, _, second):
        await end_requests(journal, first, "a", 3)
        await end_requests(Journal(), second, "a", 4)
        await until(lambda: spent(first) == spent(second) == 7 * COST)
        async with node(place) as (_, _, third):
            assert spent(third) == 7 * COST
            await end_requests(Journal(), third, "a", 1)
            await until(lambda: spent(first) == spent(second) == 8 * COST)
    assert asked(place, "SELECT amount FROM budgets_spent") == [(8 * round(COST * NANO),)]


async def test_what_one_router_does_to_a_key_the_others_know_soon(place: str) -> None:
    def lets_in(keys: Keys, secret: Secret) -> bool:
        try:
            return keys.find(secret.reveal().encode()).stored.name == "team-a"
        except (Unauthorized, KeysUnavailable):  # the latter before its first look
            return False

    databases = [Database.at(Place.of(place)) for _ in range(2)]
    async with supervise() as one, supervise() as two:
        first = await start_keys(one, DatabaseKeys(databases[0]), capacity=10)
        second = await start_keys(two, DatabaseKeys(databases[1]), capacity=10)
        for keys in (first, second):
            keys.watch(wanted=True)
        old, stored = new_key(name="team-a", allows=Allowance(), now=time.time())
        await first.create(stored)
        assert lets_in(first, old)
        await until(lambda: lets_in(second, old))
        new, _ = await second.rotate("team-a", keep_old=0)
        await until(lambda: lets_in(first, new) and not lets_in(first, old))
        await first.revoke("team-a")
        assert not lets_in(first, new)
        await until(lambda: not lets_in(second, new))
    for database in databases:
        await database.aclose()


async def test_routers_that_count_alike_lose_no_row(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Two of forty routers have drawn the same bits, as likely as not; here all have, and the same microseconds.
    monkeypatch.setattr("infermux.actors.ledger.time.time_ns", partial(int, 1_795_000_000_000_000_000))
    journals, databases = [Journal() for _ in range(NODES)], [Database.at(Place.of(place)) for _ in range(NODES)]
    async with supervise() as first, supervise() as second, supervise() as third, supervise() as fourth:
        ledgers: list[Ledger] = []
        async with (
            open_ledger(first, journals[0], databases[0]) as one,
            open_ledger(second, journals[1], databases[1]) as two,
            open_ledger(third, journals[2], databases[2]) as three,
            open_ledger(fourth, journals[3], databases[3]) as four,
        ):
            ledgers = [each.ledger for each in (one, two, three, four)]
            for ledger in ledgers:
                ledger._origin = 7  # pyright: ignore[reportPrivateUsage]
            for number in range(300):
                for name, journal in enumerate(journals):
                    journal.tell(Record(id=f"{name}-{number}", at=float(number)))
    assert [(ledger.written, ledger.shed) for ledger in ledgers] == [(300, 0)] * NODES
    ids = [each for (each,) in asked(place, "SELECT id FROM requests")]
    assert sorted(ids) == sorted(f"{name}-{number}" for name in range(NODES) for number in range(300))
    for database in databases:
        await database.aclose()


def test_routers_that_start_at_once_make_the_tables_once(place: str) -> None:
    stores, troubles = [Store(Place.of(place)) for _ in range(8)], list[BaseException]()
    together = threading.Barrier(len(stores))

    def start(store: Store) -> None:
        together.wait(30)
        try:
            store.write(lambda session: session.rows("SELECT count(*) FROM requests"))
        except BaseException as trouble:
            troubles.append(trouble)
        finally:
            store.close()

    threads = [threading.Thread(target=start, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert troubles == []
    assert asked(place, "SELECT count(*) = max(version) FROM schema_version") == [(True,)]


@REAL
def test_nothing_is_left_prepared_on_a_connection_that_a_pooler_gives_to_others(url: str) -> None:
    store = Store(Place.of(url))
    for number in range(1, 20):
        batch = Batch(1, number, [Added("all", "", "month", 0, 1, 1), Added("caller", "a", "month", 0, 1, 1)])
        store.write(partial(add, batch=batch))
    assert store.read(lambda session: session.rows("TABLE pg_prepared_statements")) == []
    store.close()


@REAL
def test_tables_of_a_part_a_day_take_rows_as_before(server: Cluster, url: str) -> None:
    store = Store(Place.of(url))
    today, tomorrow = (int(time.time() + later) * 1_000_000 << ORIGIN_BITS for later in (0, 86_400))
    unforeseen = tomorrow + (30 * 86_400_000_000 << ORIGIN_BITS)
    records = [Record(id=str(number), at=time.time(), who=Identity(tags={"a": "b"})) for number in range(2)]
    before, after = (entry_of(today + number, record) for number, record in enumerate(records))
    store.write(partial(write_entries, entries=[before]))
    store.close()
    server.run_file(url, ROOT / "docs" / "deploy" / "partitions.sql")
    later = [after, before, *(entry_of(number, records[0]) for number in (tomorrow, unforeseen))]
    for _ in range(2):
        assert store.write(partial(write_entries, entries=later)) == 0
    for table in ("requests", "tags"):
        parts = asked(url, f"SELECT count(*), count(DISTINCT tableoid) FROM {table}")
        assert parts == [(4, 3)]
    store.close()


@REAL
def test_of_several_hosts_the_one_that_answers_is_taken(server: Cluster, url: str) -> None:
    several = url.replace("host=", f"target_session_attrs=read-write&host={server.folder}/none,")
    assert asked(several, "SELECT count(*) FROM requests") == [(0,)]


@REAL
def test_a_server_that_only_reads_from_now_on_is_left(url: str) -> None:
    store = Store(Place.of(url))
    store.write(lambda session: session.change("SET default_transaction_read_only = on"))
    with pytest.raises(Exception, match="read-only transaction"):
        store.write(lambda session: session.change("CREATE TABLE x (y int)"))
    store.write(lambda session: session.change("CREATE TABLE x (y int)"))  # another connection
    store.close()
