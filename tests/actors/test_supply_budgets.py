"""Budgets of several nodes on one Redis, in virtual time: what they spend together, with it and without it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio
from trio.testing import MockClock

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
            await trio.sleep(5)
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
