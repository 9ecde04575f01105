"""What was spent survives restarts, reloads, stores that are away and stores that fail."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from infermux.actors.actor import spawn
from infermux.actors.identity import Identity
from infermux.actors.purse import nano
from infermux.actors.purses import Refused
from infermux.actors.treasury import TREASURY, Treasury, TreasuryActor
from infermux.config.settings import Budget
from infermux.database.budgets import MOST_NANO, Batch, Looked, Spent, Term
from infermux.errors import DatabaseUnavailable
from infermux.keys import KeyBudget

START = 1_795_348_800.0  # 2026-11-22T12:00Z, a Sunday
TEAM = Identity(caller="team-a")
TEN = Budget(caller="team-a", limit_usd=10)


class Shelf:
    """A store in memory that can be away."""

    def __init__(self, *rows: Spent) -> None:
        self.rows: dict[tuple[str, str, str, int], int] = {row[:4]: row.amount for row in rows}
        self.name = "shelf"
        self.away = False
        self.asked: list[tuple[Sequence[Term], float]] = []
        self.saved = 0
        self.batches: dict[int, int] = {}
        self.loses_answers = False
        self.refused: set[str] = set()  # names of which a row is an error
        self.unreadable = False

    async def identity(self) -> str:
        await trio.lowlevel.checkpoint()
        if self.away:
            raise DatabaseUnavailable("away")
        return self.name

    async def load(self, terms: Sequence[Term], at: float) -> Sequence[Spent]:
        await trio.lowlevel.checkpoint()
        if self.away:
            raise DatabaseUnavailable("away")
        if self.unreadable:
            raise OverflowError("Python int too large to convert to SQLite INTEGER")
        self.asked.append((terms, at))
        wanted = {(term.scope, term.period) for term in terms}
        return [Spent(*key, amount) for key, amount in self.rows.items() if (key[0], key[2]) in wanted]

    async def add(self, batch: Batch) -> None:
        await trio.lowlevel.checkpoint()
        if self.away:
            raise DatabaseUnavailable("away")
        if any(row.name in self.refused for row in batch.rows):
            raise OverflowError("Python int too large to convert to SQLite INTEGER")
        if batch.number > self.batches.get(batch.writer, 0):
            self.batches[batch.writer] = batch.number
            self.saved += 1
            for row in batch.rows:
                self.rows[row[:4]] = min(MOST_NANO, max(row.least, self.rows.get(row[:4], 0) + row.more))
        if self.loses_answers:
            raise DatabaseUnavailable("the connection broke")

    async def look(self, since: float) -> Looked:
        await trio.lowlevel.checkpoint()
        if self.away:
            raise DatabaseUnavailable("away")
        return Looked([Spent(*key, amount) for key, amount in self.rows.items()], since + 1)


MONTH = ("caller", "team-a", "month", 1_793_491_200)  # since 1 November


@asynccontextmanager
async def kept(shelf: Shelf, *budgets: Budget) -> AsyncGenerator[Treasury]:
    treasury = Treasury(budgets=budgets or (TEN,), store=shelf, clock=lambda: START + trio.current_time())
    async with trio.open_nursery() as nursery:
        await spawn(nursery, TreasuryActor(treasury), name=TREASURY)
        await treasury.keeper.ready()
        yield treasury
        nursery.cancel_scope.cancel()


def spend(treasury: Treasury, dollars: float, who: Identity = TEAM) -> None:
    ticket: Any = treasury.purses.reserve(treasury.rules.claims(who, ""), 0, treasury.clock())
    treasury.purses.settle(ticket, nano(dollars))


def amounts(treasury: Treasury) -> dict[str, float]:
    return {row["budget"]: row["spent_usd"] for row in treasury.statement()}


async def test_what_was_spent_before_a_restart_is_spent(autojump_clock: MockClock) -> None:
    shelf = Shelf()
    async with kept(shelf) as treasury:
        spend(treasury, 4)
        await trio.sleep(0.9)
    assert shelf.rows == {MONTH: nano(4)}
    async with kept(shelf) as treasury:
        assert shelf.asked[-1] == ([Term("caller", "month", MONTH[3])], START + trio.current_time())
        assert treasury.statement()[0]["spent_usd"] == 4
        spend(treasury, 1)
        await treasury.keeper.aclose()
    assert shelf.rows == {MONTH: nano(5)}


async def test_while_nothing_is_spent_nothing_is_written(autojump_clock: MockClock) -> None:
    shelf = Shelf()
    async with kept(shelf) as treasury:
        spend(treasury, 1)
        await trio.sleep(60)
    assert shelf.saved == 1


async def test_who_has_slept_while_nothing_was_spent_wakes_up_for_what_is(autojump_clock: MockClock) -> None:
    shelf = Shelf()
    async with kept(shelf) as treasury:
        await trio.sleep(3600)
        spend(treasury, 4)
        await trio.sleep(0.9)
        assert shelf.rows == {MONTH: nano(4)}
        spend(treasury, 1)
        await trio.sleep(0.9)
        assert shelf.rows == {MONTH: nano(5)}


async def test_who_has_slept_wakes_up_for_a_budget_that_is_new(autojump_clock: MockClock) -> None:
    shelf = Shelf(Spent("caller", "team-b", "month", MONTH[3], nano(2)))
    async with kept(shelf) as treasury:
        await trio.sleep(3600)
        treasury.adopt((TEN, Budget(caller="team-b", limit_usd=10)))
        await trio.sleep(0.9)
        assert amounts(treasury)["caller:team-b/month"] == 2


async def test_a_store_that_is_away_costs_nothing_but_time(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    shelf = Shelf()
    async with kept(shelf) as treasury:
        shelf.away = True
        spend(treasury, 4)
        await trio.sleep(10)
        shelf.away = False
        spend(treasury, 1)
        await trio.sleep(1)
    assert shelf.rows == {MONTH: nano(5)}
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


async def test_a_store_that_is_away_at_the_start_is_asked_until_it_tells(autojump_clock: MockClock) -> None:
    shelf = Shelf(Spent(*MONTH, nano(4)))
    shelf.away = True
    async with kept(shelf) as treasury:
        spend(treasury, 1)
        assert treasury.statement()[0]["spent_usd"] == 1
        await trio.sleep(3)
        assert shelf.rows == {MONTH: nano(4)}  # not what is less than it was
        shelf.away = False
        await trio.sleep(10)
    assert shelf.rows == {MONTH: nano(5)}


async def test_what_was_spent_since_the_start_is_not_asked_for_again(autojump_clock: MockClock) -> None:
    shelf = Shelf()
    shelf.away = True
    async with kept(shelf):
        await trio.sleep(3)
        shelf.away = False
        await trio.sleep(10)
    assert [at for _, at in shelf.asked] == [START]


async def test_what_others_spend_is_known_within_two_seconds(autojump_clock: MockClock) -> None:
    shelf = Shelf()
    async with kept(shelf) as first, kept(shelf) as second:
        for treasury, dollars in ((first, 4), (second, 5), (first, 0.5)):
            spend(treasury, dollars)
            await trio.sleep(2)
            assert amounts(first) == amounts(second)
        assert amounts(first) == {"caller:team-a/month": 9.5}
        refused = second.purses.reserve(second.rules.claims(TEAM, ""), nano(0.6), second.clock())
        assert isinstance(refused, Refused)
    assert shelf.rows == {MONTH: nano(9.5)}


async def test_what_was_kept_though_nobody_said_so_is_not_added_again(autojump_clock: MockClock) -> None:
    shelf = Shelf()
    async with kept(shelf) as treasury, kept(shelf) as other:
        spend(other, 2)
        await trio.sleep(2)
        shelf.loses_answers = True
        for _ in range(3):
            spend(treasury, 1)
            await trio.sleep(2)
        shelf.loses_answers = False
        await trio.sleep(2)
        assert amounts(treasury) == amounts(other) == {"caller:team-a/month": 5}
    assert shelf.rows == {MONTH: nano(5)}


async def test_at_the_end_a_store_that_fails_once_is_asked_again(autojump_clock: MockClock) -> None:
    shelf = Shelf()
    async with kept(shelf) as treasury:
        spend(treasury, 1)
        shelf.away = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(treasury.keeper.aclose)
            await trio.sleep(0.1)
            shelf.away = False
    assert shelf.rows == {MONTH: nano(1)}


async def test_what_was_spent_while_a_batch_was_in_doubt_is_kept_too(autojump_clock: MockClock) -> None:
    shelf = Shelf()
    async with kept(shelf) as treasury:
        shelf.loses_answers = True
        spend(treasury, 1)
        await treasury.keeper.save()
        spend(treasury, 2)
        shelf.loses_answers = False
        await treasury.keeper.save()
    assert shelf.rows == {MONTH: nano(3)}


async def test_the_end_does_not_wait_long_for_a_store_that_was_away_before(autojump_clock: MockClock) -> None:
    shelf = Shelf()
    async with kept(shelf) as treasury:
        shelf.away = True
        spend(treasury, 1)
        await trio.sleep(2)
        begun = trio.current_time()
        await treasury.keeper.aclose()
        assert trio.current_time() - begun == pytest.approx(1)


async def test_a_store_that_was_replaced_by_an_older_one_gets_what_is_known_here(autojump_clock: MockClock) -> None:
    shelf = Shelf()
    async with kept(shelf) as first, kept(shelf) as second:
        spend(first, 4)
        await trio.sleep(2)
        shelf.rows.clear()
        shelf.batches.clear()
        spend(second, 1)
        await trio.sleep(2)
        assert amounts(first) == amounts(second) == {"caller:team-a/month": 5}
    assert shelf.rows == {MONTH: nano(5)}


async def test_with_the_next_period_what_others_spent_in_it_counts(autojump_clock: MockClock) -> None:
    shelf, daily = Shelf(), Budget(limit_usd=10, period="day")
    async with kept(shelf, daily) as treasury:
        spend(treasury, 4)
        tomorrow = ("all", "", "day", int(START) + 43_200)
        await trio.sleep(2)
        treasury.clock = lambda: START + 43_195 + trio.current_time()
        shelf.rows[tomorrow] = nano(3)  # by one whose clock is ahead
        assert amounts(treasury) == {"all/day": 4}
        await trio.sleep(8)
        assert amounts(treasury) == {"all/day": 3}


# A store that fails


async def test_an_amount_that_no_store_can_keep_is_kept_as_the_largest(autojump_clock: MockClock) -> None:
    shelf = Shelf()
    async with kept(shelf, Budget(caller="team-a", limit_usd=10, hard=False)) as treasury:
        for _ in range(20):
            spend(treasury, 1e300)
        await trio.sleep(1)
        assert amounts(treasury) == {"caller:team-a/month": 2e10}
    assert shelf.rows == {MONTH: MOST_NANO}


async def test_a_row_that_is_an_error_keeps_no_other_out_and_ends_nothing(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    shelf = Shelf()
    shelf.refused = {"bad"}
    async with kept(shelf, Budget(caller="*", limit_usd=10)) as treasury:
        for _ in range(3):
            for name in ("a", "bad", "c"):
                spend(treasury, 1, Identity(caller=name))
            await trio.sleep(1)
        assert amounts(treasury)["caller:bad/month"] == 3
    assert {key[1]: amount for key, amount in shelf.rows.items()} == {"a": nano(3), "c": nano(3)}
    assert [record.getMessage() for record in caplog.records] == ["what was spent of caller:bad/month cannot be kept"]


async def test_what_cannot_be_read_ends_nothing(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    shelf = Shelf(Spent(*MONTH, nano(4)))
    shelf.unreadable = True
    async with kept(shelf) as treasury:
        spend(treasury, 1)
        await trio.sleep(20)
        shelf.unreadable = False
        await trio.sleep(6)
        assert amounts(treasury) == {"caller:team-a/month": 5}
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


# Budgets that come while the router runs

ALL = Budget(limit_usd=20, period="month")
ALL_MONTH = ("all", "", "month", MONTH[3])


async def test_a_budget_that_comes_later_knows_what_was_spent_before_it_counts(autojump_clock: MockClock) -> None:
    shelf = Shelf(Spent(*ALL_MONTH, nano(7)))
    async with kept(shelf) as treasury:
        await trio.sleep(2)
        await treasury.expect((TEN, ALL))
        treasury.adopt((TEN, ALL))
        assert amounts(treasury) == {"caller:team-a/month": 0, "all/month": 7}
        spend(treasury, 1)
        await trio.sleep(1)
    assert shelf.rows == {MONTH: nano(1), ALL_MONTH: nano(8)}


async def test_one_that_comes_while_the_store_is_away_learns_it_later(autojump_clock: MockClock) -> None:
    shelf = Shelf(Spent(*ALL_MONTH, nano(7)))
    async with kept(shelf) as treasury:
        shelf.away = True
        await treasury.expect((TEN, ALL))
        treasury.adopt((TEN, ALL))
        spend(treasury, 1)
        shelf.away = False
        await trio.sleep(6)
        assert amounts(treasury)["all/month"] == 8


async def test_another_name_in_a_scope_that_is_known_is_looked_up_too(autojump_clock: MockClock) -> None:
    shelf, other = Shelf(), Budget(caller="team-b", limit_usd=5)
    async with kept(shelf) as treasury:
        spend(treasury, 3)
        await trio.sleep(1)
        shelf.rows["caller", "team-b", "month", MONTH[3]] = nano(2)  # by requests under no budget
        await treasury.expect((TEN, other))
        treasury.adopt((TEN, other))
        assert amounts(treasury) == {"caller:team-a/month": 3, "caller:team-b/month": 2}


async def test_a_budget_that_comes_back_knows_what_was_spent_without_it(autojump_clock: MockClock) -> None:
    shelf = Shelf()
    async with kept(shelf) as treasury:
        spend(treasury, 3)
        await trio.sleep(1)
        treasury.adopt(())
        shelf.rows[MONTH] = nano(5)
        await treasury.expect((TEN,))
        treasury.adopt((TEN,))
        assert amounts(treasury) == {"caller:team-a/month": 5}


async def test_what_has_just_ended_is_written_down_before_the_store_is_asked(autojump_clock: MockClock) -> None:
    shelf = Shelf()
    async with kept(shelf) as treasury:

        async def flush() -> None:
            await trio.lowlevel.checkpoint()
            shelf.rows[ALL_MONTH] = nano(2)

        treasury.keeper.flush = flush
        await treasury.expect((ALL,))
        treasury.adopt((ALL,))
        assert amounts(treasury) == {"all/month": 2}


async def test_where_callers_begin_to_come_with_keys_those_budgets_are_looked_up(autojump_clock: MockClock) -> None:
    shelf = Shelf(Spent("key", "k1", "month", MONTH[3], nano(4)))
    async with kept(shelf) as treasury:
        await treasury.expect((TEN,), keyed=True)
        treasury.adopt((TEN,), keyed=True)
        treasury.key_budget = lambda key: KeyBudget(limit_usd=9, period="month")
        assert amounts(treasury) == {"caller:team-a/month": 0, "key:k1/month": 4}
