"""The ledger: every request once, nothing waits for it, and what becomes of rows that cannot be written."""

from __future__ import annotations

import logging

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from infermux.actors.journal import Journal
from infermux.actors.kit import Child, supervise
from infermux.actors.ledger import BATCH, FLUSH_EVERY, Flush, Ledger, LedgerActor, Lent, open_ledger
from infermux.database.place import Place
from infermux.database.worker import Database
from infermux.errors import DatabaseUnavailable
from tests._properties import examples
from tests.actors._shelf import MemoryShelf, record, running


async def test_rows_are_written_together_within_a_quarter_of_a_second(autojump_clock: trio.testing.MockClock) -> None:
    async with running(shelf := MemoryShelf()) as (ledger, _):
        for name in range(10):
            ledger.note(record(name))
            await trio.sleep(FLUSH_EVERY / 20)
        await trio.sleep(FLUSH_EVERY)
        assert (shelf.ids, shelf.batches) == ([str(name) for name in range(10)], [10])
        assert (ledger.written, ledger.pending) == (10, 0)


async def test_a_whole_batch_does_not_wait_for_company(autojump_clock: trio.testing.MockClock) -> None:
    async with running(shelf := MemoryShelf(), bound=2 * BATCH) as (ledger, _):
        start = trio.current_time()
        for name in range(BATCH + 1):
            ledger.note(record(name))
        while ledger.pending:
            await trio.testing.wait_all_tasks_blocked()
        assert (trio.current_time(), shelf.batches) == (start, [BATCH, 1])


async def test_what_came_while_others_were_written_has_waited_already(autojump_clock: trio.testing.MockClock) -> None:
    async with running(shelf := MemoryShelf(takes=2 * FLUSH_EVERY)) as (ledger, _):
        await trio.sleep(1)  # it is open
        ledger.note(record("first"))
        await trio.sleep(1.5 * FLUSH_EVERY)  # it is being written
        ledger.note(record("second"))
        came = trio.current_time()
        while ledger.pending:  # noqa: ASYNC110 - it tells nobody when it has written
            await trio.sleep(FLUSH_EVERY / 100)
        assert trio.current_time() - came < 3.6 * FLUSH_EVERY  # the rest of that writing, and its own
        assert shelf.batches == [1, 1]


async def test_the_database_is_opened_without_any_row_so_that_trouble_is_told_early(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(shelf := MemoryShelf(away=True)) as (ledger, _):
        assert shelf.opened == 1
        assert ledger.statistics().error == "the shelf is away"
        assert "the shelf is away; up to 1000 rows are kept until it works, requests go on" in caplog.text


async def test_rows_wait_while_the_database_is_away_and_are_written_in_order_later(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(shelf := MemoryShelf()) as (ledger, _):
        shelf.away = True
        for name in range(5):
            ledger.note(record(name))
            await trio.sleep(30)
        assert (shelf.ids, ledger.pending, ledger.error) == ([], 5, "the shelf is away")
        shelf.away = False
        await trio.sleep(15)
        assert shelf.ids == ["0", "1", "2", "3", "4"]
        assert ledger.statistics().error is None
        assert [line.message for line in caplog.records if line.levelno == logging.WARNING] == [
            "the shelf is away; up to 1000 rows are kept until it works, requests go on",
            "rows are written again; none was lost",
        ]


async def test_beyond_the_bound_the_oldest_are_shed_and_counted(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(shelf := MemoryShelf(), bound=3) as (ledger, _):
        shelf.away = True
        ledger.note(record("first"))
        await trio.sleep(0.9)  # between two tries
        for name in range(4):
            ledger.note(record(name))
        assert (ledger.pending, ledger.shed) == (3, 2)
        shelf.away = False
        await trio.sleep(15)
        assert (shelf.ids, ledger.written, ledger.shed) == (["1", "2", "3"], 3, 2)
        assert "rows are written again; 2 were shed" in caplog.text


async def test_a_slow_database_holds_up_no_one_and_the_bound_holds(autojump_clock: trio.testing.MockClock) -> None:
    async with running(shelf := MemoryShelf(), bound=3) as (ledger, _):
        shelf.takes = 60
        for name in range(3):
            ledger.note(record(name))
        await trio.sleep(1)
        for name in range(3, 6):  # those being written have the whole room
            ledger.note(record(name))
        assert (ledger.pending, ledger.shed) == (3, 3)
        await trio.sleep(60)
        assert shelf.ids == ["0", "1", "2"]


async def test_what_may_have_been_written_is_sent_again_under_its_number(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running(shelf := MemoryShelf(loses_the_answer=True)) as (ledger, _):
        ledger.note(record("once"))
        await trio.sleep(5)
        shelf.loses_the_answer = False
        await trio.sleep(15)
        assert len(shelf.batches) > 1
        assert (shelf.ids, ledger.written) == (["once"], 1)


async def test_a_flush_is_answered_when_all_that_waits_is_written(autojump_clock: trio.testing.MockClock) -> None:
    async with running(shelf := MemoryShelf()) as (ledger, ref):
        shelf.takes = 0.5
        ledger.note(record("one"))
        start = trio.current_time()
        await ref.ask(Flush())
        assert (shelf.ids, trio.current_time() - start) == (["one"], 0.5)
        await ref.ask(Flush())


async def test_a_flush_that_cannot_be_done_says_why(autojump_clock: trio.testing.MockClock) -> None:
    async with running(shelf := MemoryShelf()) as (ledger, ref):
        shelf.away = True
        ledger.note(record("one"))
        with pytest.raises(DatabaseUnavailable, match="the shelf is away"):
            await ref.ask(Flush())
        assert ledger.pending == 1


async def test_a_crash_of_the_actor_loses_no_row(autojump_clock: trio.testing.MockClock) -> None:
    shelf = MemoryShelf()

    class Crashing(LedgerActor):
        def receive(self, message: Flush, reply: object) -> None:
            raise RuntimeError("a bug")

    ledger, actors = Ledger(shelf), iter((Crashing, LedgerActor))
    async with supervise(
        Child("ledger", lambda: next(actors)(ledger)), intensity=None, on_restart=lambda _: None
    ) as supervisor:
        shelf.takes = 10
        ledger.note(record("one"))
        await trio.sleep(1)
        supervisor.ref("ledger").tell(Flush())  # while the row is being written
        shelf.takes = 0
        await trio.sleep(5)
    assert (shelf.ids, ledger.pending, ledger.written) == (["one"], 0, 1)


async def test_what_is_left_is_written_at_the_end_even_when_that_is_cancelled(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ledger = Ledger(shelf := MemoryShelf(takes=1))
    ledger.note(record("last"))
    with trio.CancelScope() as scope:
        scope.cancel()
        await ledger.drain(5)
    assert (shelf.ids, ledger.pending) == (["last"], 0)


async def test_the_end_waits_no_longer_than_its_grace(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    for shelf in (MemoryShelf(away=True), MemoryShelf(takes=60)):
        ledger = Ledger(shelf)
        ledger.note(record("last"))
        start = trio.current_time()
        await ledger.drain(5)
        assert trio.current_time() - start == 5
        assert (ledger.pending, ledger.shed) == (0, 1)
    assert "1 rows could not be written within 5 s of the end: the shelf is away" in caplog.text
    assert "1 rows could not be written within 5 s of the end: the database does not answer" in caplog.text


async def test_numbers_ascend_and_no_two_routers_give_the_same(autojump_clock: trio.testing.MockClock) -> None:
    shelves = [MemoryShelf() for _ in range(2)]
    ledgers = [Ledger(shelf) for shelf in shelves]
    ledgers[1]._origin = ledgers[0]._origin ^ 1  # pyright: ignore[reportPrivateUsage] - one chance in 2048 to be equal
    for _ in range(2):
        for name in range(500):
            ledgers[name % 2].note(record(name))
        for ledger in ledgers:
            await ledger.write_out()
    numbers = [list(shelf.rows) for shelf in shelves]
    assert all(each == sorted(each) for each in numbers)
    assert len({*numbers[0], *numbers[1]}) == 1000
    assert max(numbers[0]) < 2**63


@given(st.lists(st.sampled_from(["note", "away", "back", "wait", "lend", "keep", "lose"]), max_size=30))
@settings(max_examples=examples(30), deadline=None)
def test_every_row_is_written_shed_or_pending(steps: list[str]) -> None:
    async def play() -> None:
        noted = 0
        lent: Lent | None = None
        async with running(shelf := MemoryShelf(takes=0.1), bound=4) as (ledger, _):
            for step in steps:
                match step:
                    case "note":
                        noted += 1
                        ledger.note(record(noted))
                    case "away" | "back":
                        shelf.away = step == "away"
                    case "lend":
                        lent = lent or ledger.lend()
                    case "keep" | "lose" if lent is not None:
                        if step == "keep":
                            shelf.take(lent)
                        lent.ended(kept=step == "keep")
                        lent = None
                    case _:
                        await trio.sleep(0.3)
                assert ledger.written + ledger.shed + ledger.pending == noted
                assert ledger.pending <= 4
            shelf.away = False
            if lent is not None:
                lent.ended(kept=False)
            await trio.sleep(30)
            assert ledger.pending == 0
            assert ledger.written == noted - ledger.shed
            # A row whose answer was lost may be there although it was shed before it could be sent again.
            assert ledger.written <= len(shelf.rows) <= noted
            assert shelf.ids == sorted(shelf.ids, key=int)

    trio.run(play, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_an_open_ledger_writes_what_the_journal_is_told_to_the_last_record() -> None:
    database = Database.at(Place.of("sqlite://"))
    journal = Journal()
    async with supervise() as supervisor:
        async with open_ledger(supervisor, journal, database) as books:
            journal.tell(record("one"))
            with trio.fail_after(5):
                assert await books.flush(5)
            assert books.ledger.written == 1
            journal.tell(record("two"))
        assert not journal
    ids = await database.read(lambda session: session.rows("SELECT id FROM requests"))
    assert ids == [("one",), ("two",)]
    await database.aclose()
