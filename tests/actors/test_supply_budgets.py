"""Budgets of several nodes on one Redis, in virtual time: what they spend together, with it and without it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from infermux.actors.beat import next_beat
from infermux.config.settings import StateSettings
from infermux.database.budgets import NANO, Batch
from tests.actors._scripted import World, provider, world
from tests.actors.test_purse_keeper import Shelf
from tests.actors.test_supply import BUDGET, PRICED, ask, nodes
from tests.shared._mirror import FakeShared


def spent(node: World) -> float:
    return float(node.fleet.treasury.statement()[0]["spent_usd"])


async def test_a_budget_is_one_for_all_nodes_together(autojump_clock: MockClock) -> None:
    shared = FakeShared()
    async with nodes(shared, 3, provider("a", "m"), budgets=(BUDGET,), pricing=PRICED) as made:
        total = 0
        for _ in range(40):
            total += sum([await ask(node, 1) for node in made])
            await trio.sleep(0.2)
        await trio.sleep(5)
        assert total > 0
        assert len({spent(node) for node in made}) == 1
        assert spent(made[0]) == pytest.approx(total * 5, abs=1)
        assert spent(made[0]) <= 100


async def test_a_budget_is_not_exceeded_without_redis_nor_forgotten_by_it(autojump_clock: MockClock) -> None:
    shared = FakeShared()
    async with nodes(shared, 2, provider("a", "m"), budgets=(BUDGET,), pricing=PRICED) as made:
        total = sum([await ask(node, 3) for node in made])
        shared.go()
        await trio.sleep(2)
        total += sum([await ask(node, 2) for node in made])
        shared.come()
        await trio.sleep(5)
        shared.mirror.flush()
        await trio.sleep(5)
        total += sum([await ask(node, 40) for node in made])
        await trio.sleep(5)
        assert spent(made[0]) == spent(made[1])
        assert spent(made[0]) == pytest.approx(total * 5, abs=1)
        assert spent(made[0]) <= 100


async def test_what_was_spent_while_redis_was_away_is_counted_once_where_nodes_have_a_store_too(
    autojump_clock: MockClock,
) -> None:
    shared, shelf = FakeShared(), Shelf()
    shared.go()
    config: dict[str, Any] = {"budgets": (BUDGET,), "pricing": PRICED, "state": StateSettings(nodes=2)}
    async with AsyncExitStack() as stack:
        made = [
            await stack.enter_async_context(world(provider("a", "m"), shared=shared, store=shelf, **config))
            for _ in range(2)
        ]
        total = sum([await ask(node, 4) for node in made])
        await trio.sleep(5)  # all of it is in the store, and each has looked
        assert [spent(node) for node in made] == [total * 5] * 2
        total += sum([await ask(node, 1) for node in made])  # this is not, when Redis comes
        shared.come()
        await trio.sleep(10)
        assert [spent(node) for node in made] == [total * 5] * 2
        total += sum([await ask(node, 30) for node in made])
        await trio.sleep(5)
        assert [spent(node) for node in made] == [total * 5] * 2
        assert 0.9 * BUDGET.limit_usd <= total * 5 <= BUDGET.limit_usd
        assert sum(shelf.rows.values()) == total * 5 * NANO


@pytest.mark.parametrize("loses", ["nothing", "all", "all, twice"])
async def test_what_the_store_tells_before_a_call_that_was_under_way_reaches_redis_is_counted_once(
    autojump_clock: MockClock, loses: str
) -> None:
    shared, shelf = FakeShared(), Shelf()
    slow = FakeShared(shared.mirror)
    config: dict[str, Any] = {"budgets": (BUDGET,), "pricing": PRICED, "store": shelf}
    async with (
        nodes(shared, 1, provider("a", "m"), **config) as [one],
        world(provider("a", "m"), shared=slow, **config) as other,
    ):
        await trio.sleep(5)
        assert await ask(one, 2) + await ask(other, 2) == 4
        await trio.sleep(5)
        assert spent(one) == spent(other) == 20
        for each in (shared, slow):
            each.go()
        if loses != "nothing":
            shared.mirror.flush()
        await trio.sleep(next_beat(trio.current_time()) + 0.01 - trio.current_time())
        assert await ask(one, 1) + await ask(other, 1) == 2
        slow.delay = 3  # the first sees what it has saved before Redis runs what it was told
        for each in (shared, slow):
            each.come()
        if loses == "all, twice":
            await trio.sleep(2)
            for each in (shared, slow):
                each.go()
            shared.mirror.flush()
            await trio.sleep(0.1)
            for each in (shared, slow):
                each.come()
        await trio.sleep(4)
        slow.delay = 0.0005
        await trio.sleep(5)
        assert [spent(one), spent(other)] == [30, 30]
        [kept] = shared.mirror.purses.values()
        assert kept.spent == 30_000_000
        assert await ask(one, 2) + await ask(other, 2) == 4
        await trio.sleep(5)
        assert [spent(one), spent(other)] == [50, 50]


async def test_what_a_node_spends_while_others_have_written_back_an_older_view_is_not_lost(
    autojump_clock: MockClock,
) -> None:
    shared = FakeShared()
    late = FakeShared(shared.mirror)
    config: dict[str, Any] = {"budgets": (BUDGET,), "pricing": PRICED}
    async with (
        nodes(shared, 1, provider("a", "m"), **config) as [one],
        world(provider("a", "m"), shared=late, **config) as other,
    ):
        await trio.sleep(5)
        shared.go()
        assert await ask(other, 2) == 2
        await trio.sleep(1.2)  # Redis and the second know of that, the first does not
        late.go()
        shared.mirror.flush()
        assert await ask(one, 1) == 1
        shared.come()
        await trio.sleep(0.5)
        [kept] = shared.mirror.purses.values()
        assert kept.spent == 5_000_000
        late.come()
        await trio.sleep(5)
        [kept] = shared.mirror.purses.values()
        assert kept.spent == 15_000_000
        assert [spent(one), spent(other)] == [15, 15]


async def test_what_redis_heard_of_a_node_that_did_not_hear_its_answer_is_counted_once_when_another_writes_it_back(
    autojump_clock: MockClock,
) -> None:
    shared = FakeShared()
    deaf = FakeShared(shared.mirror)
    config: dict[str, Any] = {"budgets": (BUDGET,), "pricing": PRICED}
    async with (
        nodes(shared, 1, provider("a", "m"), **config) as [one],
        world(provider("a", "m"), shared=deaf, **config) as other,
    ):
        await trio.sleep(5)
        assert await ask(one, 1) == 1
        deaf.loses_answers = True
        assert await ask(other, 2) == 2
        await trio.sleep(5)
        assert spent(one) == 15
        for each in (shared, deaf):
            each.go()
        shared.mirror.flush()
        deaf.loses_answers = False
        shared.come()
        await trio.sleep(2)
        deaf.come()
        await trio.sleep(5)
        [kept] = shared.mirror.purses.values()
        assert kept.spent == 15_000_000
        assert [spent(one), spent(other)] == [15, 15]


@pytest.mark.parametrize("loses", ["nothing", "all"])
async def test_of_a_node_that_is_killed_while_redis_is_away_what_it_has_saved_is_counted_once(
    autojump_clock: MockClock, loses: str
) -> None:
    shared, shelf = FakeShared(), Shelf()
    dying = FakeShared(shared.mirror)
    config: dict[str, Any] = {"budgets": (BUDGET,), "pricing": PRICED, "store": shelf}
    async with (
        nodes(shared, 1, provider("a", "m"), **config) as [one],
        world(provider("a", "m"), shared=dying, **config) as other,
    ):
        await trio.sleep(5)
        for each in (shared, dying):
            each.go()
        await trio.sleep(1)
        assert await ask(one, 2) + await ask(other, 3) == 5
        await trio.sleep(3)
        if loses == "all":
            shared.mirror.flush()
        shared.come()  # the other has gone, as far as anybody can tell
        for _ in range(20):
            is_left = spent(one) < 100
            assert await ask(one, 1) == is_left
            await trio.sleep(1)
        assert spent(one) == 100
        [kept] = shared.mirror.purses.values()
        assert kept.spent == 100_000_000


async def test_the_store_is_given_what_redis_has_heard(autojump_clock: MockClock) -> None:
    shared, shelf = FakeShared(), Shelf()
    config: dict[str, Any] = {"budgets": (BUDGET,), "pricing": PRICED, "store": shelf}
    async with nodes(shared, 1, provider("a", "m"), **config) as [one]:
        assert await ask(one, 2) == 2
        end, seen = trio.current_time() + 3, 0
        while trio.current_time() < end:
            [kept] = shared.mirror.purses.values()
            seen = sum(shelf.rows.values())
            assert seen // 1000 <= kept.spent
            await trio.sleep(0.05)
        assert seen == 10 * NANO
        shared.go()
        assert await ask(one, 1) == 1
        await trio.sleep(1)
        assert sum(shelf.rows.values()) == 15 * NANO  # there is no Redis to hear of it


async def test_what_nodes_with_a_ledger_each_have_spent_while_redis_was_away_adds_up(autojump_clock: MockClock) -> None:
    shared, shelves = FakeShared(), (Shelf(), Shelf())
    shelves[1].name = "another"
    shared.go()
    config: dict[str, Any] = {"budgets": (BUDGET,), "pricing": PRICED, "state": StateSettings(nodes=2)}
    async with AsyncExitStack() as stack:
        made = [
            await stack.enter_async_context(world(provider("a", "m"), shared=shared, store=shelf, **config))
            for shelf in shelves
        ]
        total = await ask(made[0], 5) + await ask(made[1], 3)
        await trio.sleep(5)  # each has saved its own
        assert [spent(node) for node in made] == [25, 15]
        shared.come()
        await trio.sleep(10)
        assert [spent(node) for node in made] == [total * 5] * 2 == [40, 40]
        async with world(provider("a", "m"), shared=shared, store=shelves[1], **config) as again:
            assert await ask(again, 1) == 1
            await trio.sleep(35)  # those that do not use it ask seldom
            assert [spent(node) for node in (*made, again)] == [45] * 3


class Hung(Shelf):
    """A store that takes for ever to keep something."""

    async def add(self, batch: Batch) -> None:
        await trio.sleep_forever()


async def test_a_node_that_leaves_gives_back_its_money_while_the_store_hangs(autojump_clock: MockClock) -> None:
    shared = FakeShared()
    config: dict[str, Any] = {"budgets": (BUDGET,), "pricing": PRICED}
    async with world(provider("a", "m"), shared=shared, store=Hung(), **config) as node:
        await trio.sleep(2)
        assert await ask(node, 2) == 2
        await trio.sleep(1)
        [kept] = shared.mirror.purses.values()
        assert kept.total > kept.spent
    [kept] = shared.mirror.purses.values()
    assert kept.total == kept.spent == 10_000_000
    assert shared.mirror.nodes == {}


async def test_a_redis_that_is_some_milliseconds_away_keeps_a_budget_as_well(autojump_clock: MockClock) -> None:
    shared, config = FakeShared(delay=0.02), {"budgets": (BUDGET,), "pricing": PRICED}
    async with nodes(shared, 4, provider("a", "m"), **config) as made:
        assert await ask(made[0], 18) == 18
        await trio.sleep(5)  # idle: what was held ahead has gone back
        assert sum([await ask(node, 5) for node in made[1:]]) in (1, 2)  # they have never heard of it
        began = trio.current_time()
        assert await ask(made[1], 1) == 0
        assert trio.current_time() - began <= 0.1


async def test_what_a_node_held_of_a_budget_comes_back_when_it_has_gone_without_a_word(
    autojump_clock: MockClock,
) -> None:
    shared = FakeShared()
    dying, config = FakeShared(shared.mirror), dict[str, Any](budgets=(BUDGET,), pricing=PRICED)
    async with (
        nodes(shared, 1, provider("a", "m"), **config) as [one],
        world(provider("a", "m"), shared=dying, **config) as other,
    ):
        await trio.sleep(5)
        assert await ask(other, 4) == 4
        await trio.sleep(1.2)  # it has told what it has spent
        [kept] = shared.mirror.purses.values()
        assert kept.total > kept.spent == 20_000_000
        dying.go()
        await trio.sleep(12)
        assert await ask(one, 17) == 16
        dying.come()  # it was cut off, and has done nothing meanwhile
        await trio.sleep(5)
        assert spent(one) == spent(other) == 100


async def test_what_is_asked_for_at_once_at_a_node_that_has_nothing_yet_is_granted_at_once(
    autojump_clock: MockClock,
) -> None:
    async with nodes(FakeShared(delay=0.02), 2, provider("a", "m"), budgets=(BUDGET,), pricing=PRICED) as made:
        admitted: list[int] = []

        async def one() -> None:
            admitted.append(await ask(made[0], 1))

        async with trio.open_nursery() as nursery:
            for number in range(12):
                nursery.start_soon(one)
                await trio.sleep(number / 1000)  # some ask while Redis is being asked
        assert sum(admitted) == 12
