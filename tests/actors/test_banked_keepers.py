"""Budgets of several workers in one database: everything counts once, whichever way it is heard of."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from infermux.actors.purse import nano
from infermux.config.settings import Budget
from infermux.database.budgets import NANO, DatabaseBudgets, Spent
from infermux.database.place import Place
from infermux.database.worker import Database
from tests._properties import examples
from tests.actors._banked import crew, worker
from tests.actors.test_purse_keeper import MONTH, TEN, Shelf

HUNDRED = Budget(caller="team-a", limit_usd=100)


def before(dollars: float) -> Shelf:
    return Shelf(Spent(*MONTH, nano(dollars)))


def stored(shelf: Shelf) -> float:
    return sum(shelf.rows.values()) / NANO


async def test_a_budget_that_one_worker_has_earlier_is_counted_once(autojump_clock: MockClock) -> None:
    shelf = before(3)
    made = crew(shelf, (TEN,), ())
    await made.ready()
    first, second = made.workers
    assert first.spend(0.5)
    made.turns()
    await second.treasury.expect((TEN,))
    second.treasury.adopt((TEN,))
    assert second.spent == 3.0
    made.turns(2)
    assert made.spent == [3.5, 3.5]
    await made.rest()
    assert (made.spent, stored(shelf)) == ([3.5, 3.5], 3.5)


async def test_a_store_that_tells_late_is_counted_once(autojump_clock: MockClock) -> None:
    shelf = before(3)
    made = crew(shelf, (TEN,), (TEN,), (TEN,))
    shelf.away = True
    await made.ready()
    assert all(each.spend(0.125) for each in made.workers)
    shelf.away = False
    for each in made.workers:
        await each.treasury.keeper.ready()
        made.turns(2)
    assert made.spent == [3.375] * 3
    await made.rest()
    assert (made.spent, stored(shelf)) == ([3.375] * 3, 3.375)


async def test_what_a_worker_has_seen_in_the_store_its_sibling_does_not_add_again(autojump_clock: MockClock) -> None:
    shelf = Shelf()
    made = crew(shelf, (TEN,), (TEN,))
    await made.ready()
    one, two = made.workers
    assert all(each.spend(0.125) for each in made.workers)
    made.turns(3)
    assert two.spend(2)
    await two.treasury.keeper.save()
    await one.treasury.keeper.look()
    assert one.spend(0.125)
    for each in (one, two, one, two):
        each.turn(made.bank)
        each.turn(made.bank)
    assert made.spent == [2.375, 2.375]
    await made.rest()
    assert (made.spent, stored(shelf)) == ([2.375, 2.375], 2.375)


async def test_what_another_router_spends_is_known_and_counted_once(autojump_clock: MockClock) -> None:
    shelf = before(1)
    made, alone = crew(shelf, (HUNDRED,), (HUNDRED,)), worker(0, 1, shelf, HUNDRED)
    await made.ready()
    await alone.treasury.keeper.ready()
    for _ in range(5):
        assert all(each.spend(1) for each in (*made.workers, alone))
        await alone.sync()
        made.turns()
        for each in made.workers:
            await each.sync()
    await made.rest()
    await alone.sync()
    assert (made.spent, alone.spent, stored(shelf)) == ([16, 16], 16, 16)


async def test_what_a_worker_learns_of_the_past_leaves_no_more_than_the_bank_gave(autojump_clock: MockClock) -> None:
    shelf = Shelf()
    made = crew(shelf, (TEN,), (TEN,))
    await made.ready()
    one, two = made.workers
    assert one.spend(4)
    made.turns(4)
    assert one.promise(3)
    assert not one.spend(1)  # so that it tells what it has promised
    made.turns(4)
    room = two.room
    shelf.rows[MONTH] = nano(4.5)
    both = (TEN, Budget(caller="team-b", limit_usd=10))
    await two.treasury.expect(both)
    two.treasury.adopt(both)
    assert two.spent == 4.5
    assert two.room <= room


async def test_a_limit_that_is_raised_or_lowered_holds_also_where_no_request_comes(autojump_clock: MockClock) -> None:
    made = crew(Shelf(), (TEN,), (TEN,))
    await made.ready()
    busy, idle = made.workers
    assert all(each.spend(1) for each in made.workers)
    made.turns(8)
    for limit in (20, 5):
        for each in made.workers:
            each.treasury.adopt((Budget(caller="team-a", limit_usd=limit),))
            made.turns(2)
        for _ in range(200):
            busy.spend(0.125)
            made.turns()
        assert limit - 1 < busy.spent or limit == 5
        assert busy.spent + idle.room <= max(limit, 20)
        assert idle.limit == limit
    assert not any(each.spend(0) for each in made.workers)


async def test_a_budget_that_is_gone_limits_nobody(autojump_clock: MockClock) -> None:
    made = crew(Shelf(), (TEN,), (TEN,))
    await made.ready()
    assert all(each.spend(4) for each in made.workers)
    made.turns(3)
    soft = Budget(caller="team-a", limit_usd=10, hard=False)
    for each in made.workers:
        each.treasury.adopt((soft,))
    made.turns(3)
    assert made.workers[0].limit is None
    assert all(each.spend(4) for each in made.workers)
    made.turns(3)
    assert made.spent == [16, 16]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["spend", "spend", "spend", "turn", "turn", "save", "look", "load", "outside", "lose", "adopt", "ends"]
        ),
        st.integers(0, 2),
        st.integers(1, 8),
    ),
    max_size=50,
)


@given(of=st.integers(2, 3), script=STEPS)
@settings(max_examples=examples(60), deadline=None)
def test_in_whatever_order_nobody_knows_of_more_than_was_spent_and_the_store_ends_with_that(
    of: int, script: list[tuple[str, int, int]]
) -> None:
    async def main() -> None:
        shelf = before(2)
        truth = 2.0
        made, alone = crew(shelf, *[(HUNDRED,) if place else () for place in range(of)]), worker(0, 1, shelf, HUNDRED)
        await alone.treasury.keeper.ready()
        for what, which, amount in script:
            each = made.workers[which % of]
            dollars = amount / 8
            if what == "spend" and each.treasury.budgets and each.spend(dollars):
                truth += dollars
            elif what == "outside" and alone.spend(dollars):
                truth += dollars
                await alone.sync()
            elif what == "turn":
                each.turn(made.bank)
            elif what == "save":
                await each.treasury.keeper.save()
            elif what == "look":
                await each.treasury.keeper.look()
            elif what == "load":
                await each.treasury.keeper.ready()
            elif what == "lose":
                shelf.loses_answers = not shelf.loses_answers
            elif what == "ends" and not shelf.loses_answers:
                await made.restart(each, shelf)
            elif what == "adopt":
                each.treasury.adopt((HUNDRED,))
            assert max(*made.spent, alone.spent, stored(shelf)) <= truth
            assert all(line.spent <= nano(truth) for line in made.bank._lines.values())  # pyright: ignore[reportPrivateUsage]
        shelf.loses_answers = False
        for each in made.workers:
            each.treasury.adopt((HUNDRED,))
        await alone.sync()
        await made.rest()
        await alone.sync()
        assert (made.spent, alone.spent, stored(shelf)) == ([truth] * of, truth, truth)

    trio.run(main, clock=MockClock(autojump_threshold=0))


@given(
    of=st.integers(2, 3),
    script=st.lists(
        st.tuples(st.sampled_from(["spend", "spend", "turn", "turn", "sync"]), st.integers(0, 2), st.integers(1, 16)),
        max_size=50,
    ),
)
@example(  # one has heard of its purse before anybody knew of a limit on it
    of=2,
    script=[*[("spend", 0, 14)] * 2, *[("turn", 1, 1)] * 2, ("spend", 1, 5), *[("spend", 1, 16)] * 2],
)
@example(  # one has told of its purse before there was a limit on it, and then takes its part
    of=2,
    script=[
        *[("spend", 0, 16)] * 2,
        ("turn", 1, 1),
        *[("spend", 1, 14)] * 2,
        *[("turn", 0, 1)] * 2,
        ("spend", 0, 5),
    ],
)
@settings(max_examples=examples(60), deadline=None)
def test_in_whatever_order_workers_with_a_store_spend_no_more_than_there_is(
    of: int, script: list[tuple[str, int, int]]
) -> None:
    async def main() -> None:
        truth = 2.0
        made = crew(before(truth), *[(TEN,)] * of)
        await made.ready()
        for what, which, amount in script:
            each = made.workers[which % of]
            if what == "spend" and each.spend(amount / 8):
                truth += amount / 8
            elif what == "turn":
                each.turn(made.bank)
            elif what == "sync":
                await each.sync()
            assert truth <= 10
            assert max(made.spent) <= truth

    trio.run(main, clock=MockClock(autojump_threshold=0))


@pytest.mark.slow
async def test_workers_on_one_file_end_with_what_was_spent(tmp_path: Path) -> None:
    place = Place.of(f"sqlite:///{tmp_path}/ledger.db")
    databases = [Database.at(place) for _ in range(2)]
    made = crew(DatabaseBudgets(databases[0]), (HUNDRED,), (HUNDRED,))
    made.workers[1].treasury.store = made.workers[1].treasury.keeper.store = DatabaseBudgets(databases[1])
    await made.ready()
    for turn in range(20):
        assert all(each.spend(0.125) for each in made.workers)
        await made.workers[turn % 2].sync()
        made.workers[turn % 3 % 2].turn(made.bank)
    await made.rest()
    assert made.spent == [5.0, 5.0]
    later = worker(0, 1, DatabaseBudgets(databases[0]), HUNDRED)
    await later.treasury.keeper.ready()
    assert later.spent == 5.0
    for database in databases:
        await database.aclose()
