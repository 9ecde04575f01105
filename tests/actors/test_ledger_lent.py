"""Rows of the ledger that go with another's transaction: each is written once, whatever becomes of that."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.actors.beat import BEAT, next_beat
from infermux.actors.identity import Identity
from infermux.actors.journal import Journal
from infermux.actors.kit import Child, supervise
from infermux.actors.ledger import BATCH, Flush, Ledger, open_ledger
from infermux.actors.treasury import TREASURY, Treasury, TreasuryActor
from infermux.config.settings import Budget
from infermux.database.budgets import NANO, Added, Batch, DatabaseBudgets
from infermux.database.place import Place
from infermux.database.session import Session, Unfit
from infermux.database.worker import Database
from infermux.errors import DatabaseUnavailable
from tests._properties import examples
from tests.actors._shelf import MemoryShelf, record, running

ALL = Budget(limit_usd=1e6)
WHO = Identity(caller="a")
OPENED = 1.0  # by then `running` has opened the shelf


async def test_what_was_taken_along_is_not_written_again(autojump_clock: trio.testing.MockClock) -> None:
    async with running(shelf := MemoryShelf()) as (ledger, _):
        for beat in range(1, 6):
            ledger.note(record(beat))
            await trio.sleep_until(OPENED + beat * BEAT)
            lent = ledger.lend()
            assert lent is not None
            assert (len(lent.rows), ledger.pending, ledger.lend()) == (1, 1, None)
            shelf.take(lent)
            lent.ended(kept=True)
            assert (ledger.written, ledger.pending) == (beat, 0)
        await trio.sleep(5)
        assert shelf.batches == []
        ledger.note(record("alone"))
        await trio.sleep(1.5 * BEAT)
        assert shelf.batches == [1]


async def test_what_was_not_written_is_at_once_and_in_order(autojump_clock: trio.testing.MockClock) -> None:
    async with running(shelf := MemoryShelf()) as (ledger, _):
        ledger.note(record("first"))
        lent = ledger.lend()
        ledger.note(record("second"))
        assert lent is not None
        begun = trio.current_time()
        lent.ended(kept=False)
        await trio.testing.wait_all_tasks_blocked()
        assert (shelf.ids, shelf.batches, trio.current_time()) == (["first", "second"], [2], begun)
        assert (ledger.written, ledger.pending) == (2, 0)


async def test_a_flush_waits_for_what_is_lent(autojump_clock: trio.testing.MockClock) -> None:
    async with running(shelf := MemoryShelf()) as (ledger, ref):
        ledger.note(record("row"))
        lent, begun = ledger.lend(), trio.current_time()
        assert lent is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ref.ask, Flush())
            await trio.sleep(3)
            lent.ended(kept=False)
        assert (trio.current_time(), ledger.pending, shelf.ids) == (begun + 3, 0, ["row"])


@pytest.mark.parametrize("kept", [True, False])
async def test_the_end_waits_for_what_is_lent(kept: bool, autojump_clock: trio.testing.MockClock) -> None:
    ledger = Ledger(shelf := MemoryShelf())
    ledger.note(record("row"))
    lent = ledger.lend()
    assert lent is not None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ledger.drain, 5)
        await trio.sleep(3)
        assert ledger.pending == 1
        if kept:
            shelf.take(lent)
        lent.ended(kept=kept)
    assert (trio.current_time(), ledger.written, ledger.shed, shelf.ids) == (3, 1, 0, ["row"])


async def test_the_end_waits_for_that_no_longer_than_for_the_rest(autojump_clock: trio.testing.MockClock) -> None:
    ledger = Ledger(MemoryShelf())
    ledger.note(record("row"))
    assert ledger.lend() is not None
    await ledger.drain(5)
    assert (trio.current_time(), ledger.shed) == (5, 1)


async def test_what_is_to_be_written_now_is_written_also_where_it_was_lent_meanwhile(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ledger, shelf = Ledger(MemoryShelf()), MemoryShelf()
    ledger.note(record("one"))
    first = ledger.lend()
    assert first is not None
    ledger.note(record("two"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ledger.write_out)
        await trio.testing.wait_all_tasks_blocked()
        shelf.take(first)
        first.ended(kept=True)
        second = ledger.lend()  # before anybody else has had a turn
        assert second is not None
        await trio.testing.wait_all_tasks_blocked()
        assert nursery.child_tasks
        shelf.take(second)
        second.ended(kept=True)
    assert (ledger.written, ledger.pending, shelf.ids) == (2, 0, ["one", "two"])


async def test_nothing_is_lent_that_is_being_written_cannot_be_or_is_a_batch(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running(shelf := MemoryShelf(takes=10), bound=2 * BATCH) as (ledger, _):
        await trio.sleep(20)
        assert ledger.lend() is None
        for number in range(BATCH):
            ledger.note(record(number))
        assert ledger.lend() is None
        await trio.sleep(5)
        ledger.note(record("while"))
        assert ledger.lend() is None
        await trio.sleep(30)
        shelf.away = True
        ledger.note(record("away"))
        await trio.sleep(30)
        assert (ledger.error, ledger.lend()) == ("the shelf is away", None)


@given(st.floats(min_value=0, max_value=1e9))
@settings(max_examples=examples(50))
def test_the_next_beat_is_within_one(now: float) -> None:
    assert now < next_beat(now) <= now + BEAT


# With a database.


@attrs.frozen
class Kept:
    """What runs on the file at `path`. `turns` has the database's transactions that wrote."""

    journal: Journal
    treasury: Treasury
    ledger: Ledger
    store: DatabaseBudgets
    path: Path

    def spend(self, name: str) -> None:
        self.treasury.spend(WHO, NANO, unpriced=False)
        self.journal.tell(record(name))

    def rows(self, what: str) -> list[tuple[object, ...]]:
        with sqlite3.connect(self.path) as connection:
            found = connection.execute(what).fetchall()
        connection.close()
        return found

    @property
    def ids(self) -> list[object]:
        return [row[0] for row in self.rows("SELECT id FROM requests ORDER BY seq")]

    @property
    def spent(self) -> int:
        rows = self.rows("SELECT amount FROM budgets_spent WHERE scope = 'all'")
        return int(str(rows[0][0])) if rows else 0


@asynccontextmanager
async def kept(folder: Path) -> AsyncGenerator[Kept]:
    place = Place.of(f"sqlite:///{folder}/ledger.db")
    rows_of, budgets_of, journal = Database.at(place), Database.at(place), Journal()
    store = DatabaseBudgets(budgets_of)
    treasury = Treasury(budgets=(ALL,), store=store)
    async with supervise(Child(TREASURY, lambda: TreasuryActor(treasury))) as supervisor:
        async with open_ledger(supervisor, journal, rows_of) as books:
            store.company = books.ledger.lend
            await treasury.keeper.ready()
            assert await books.flush(within=30)
            yield Kept(journal, treasury, books.ledger, store, folder / "ledger.db")
        await supervisor.stop_child(TREASURY)
        await treasury.keeper.aclose()
    await rows_of.aclose()
    await budgets_of.aclose()


def counting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """By which database, the ledger's or the budgets', each write was made."""
    writes: list[str] = []
    turn = Database.turn

    async def counted(self: Database, work: Any) -> Any:
        writes.append("along" if "DatabaseBudgets" in work.__qualname__ else "alone")
        return await turn(self, work)

    monkeypatch.setattr(Database, "turn", counted)
    return writes


@pytest.mark.slow
async def test_a_request_s_row_and_its_money_are_one_transaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with kept(tmp_path) as all_:
        writes = counting(monkeypatch)
        await trio.sleep_until(next_beat(trio.current_time()) + 0.1)
        for name in ("one", "two"):
            all_.spend(name)
        with trio.fail_after(30):
            while all_.ledger.pending or all_.spent < 2 * NANO:  # noqa: ASYNC110 - it tells nobody
                await trio.sleep(0.02)
        assert all_.ids == ["one", "two"]
        assert writes == ["along"]
    assert (all_.ids, all_.spent) == (["one", "two"], 2 * NANO)


@pytest.mark.slow
async def test_a_row_that_no_table_takes_keeps_no_money_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with kept(tmp_path) as all_:

        def broken(*_: object) -> int:
            monkeypatch.undo()
            raise ValueError("a bug")

        monkeypatch.setattr("infermux.actors.ledger.write_entries", broken)
        all_.spend("one")
        with trio.fail_after(30):
            while all_.ledger.pending or all_.spent < NANO:  # noqa: ASYNC110
                await trio.sleep(0.02)
    assert (all_.ids, all_.spent, all_.ledger.written) == (["one"], NANO, 1)


@pytest.mark.slow
async def test_where_the_money_cannot_be_kept_the_rows_are(tmp_path: Path) -> None:
    async with kept(tmp_path) as all_:
        all_.journal.tell(record("one"))
        unfit: Any = Added("all", "", "month", 0, 1, 1)
        with pytest.raises(Unfit):
            await all_.store.add(Batch(1, 1, [unfit._replace(name=None)]))
        with trio.fail_after(30):
            while all_.ledger.pending:  # noqa: ASYNC110
                await trio.sleep(0.02)
        assert (all_.ids, all_.ledger.written) == (["one"], 1)


@pytest.mark.slow
async def test_a_database_that_is_away_loses_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with kept(tmp_path) as all_:
        turn, until = Database.turn, time.monotonic() + 0.8

        async def away(self: Database, work: Any) -> Any:
            if time.monotonic() < until:
                raise DatabaseUnavailable("away")
            return await turn(self, work)

        monkeypatch.setattr(Database, "turn", away)
        for name in ("one", "two"):
            all_.spend(name)
    assert (all_.ids, all_.spent, all_.ledger.shed) == (["one", "two"], 2 * NANO, 0)


@pytest.mark.slow
async def test_of_a_transaction_that_was_given_up_the_rows_are_there_once(tmp_path: Path) -> None:
    async with kept(tmp_path) as all_:
        all_.journal.tell(record("one"))
        lent = all_.ledger.lend()
        assert lent is not None

        def work(session: Session) -> None:
            lent.write(session)

        await all_.store.database.write(work)
        lent.ended(kept=False)  # nobody has heard that it was committed
    assert (all_.ids, all_.ledger.written) == (["one"], 1)
