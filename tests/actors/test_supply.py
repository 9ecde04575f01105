"""Several nodes on one Redis, in virtual time: what they admit together, with it and without it."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from infermux.actors.fleet import Fleet
from infermux.actors.share import Share
from infermux.config.settings import Budget, Price, ProviderSettings, Queue, RateLimits, StateSettings
from infermux.errors import BudgetExceeded, RateLimited
from tests.actors._scripted import Step, World, provider, world
from tests.shared._mirror import FakeShared

PRICED = {"a": {"m": Price(per_request=5.0)}}
KEPT = 2  # requests that each node keeps while nobody uses them, beyond a full bucket
BUDGET = Budget(limit_usd=100, period="day")


def limited(**limits: Any) -> ProviderSettings:
    return provider("a", "m", rate_limits=RateLimits(**limits))


@asynccontextmanager
async def nodes(
    shared: FakeShared, count: int, *providers: ProviderSettings, **config: Any
) -> AsyncGenerator[list[World]]:
    """So many nodes that know of each other."""
    async with AsyncExitStack() as stack:
        made = [await stack.enter_async_context(world(*providers, shared=shared, **config)) for _ in range(count)]
        while not all(supply(each.fleet).share.of == count for each in made):  # noqa: ASYNC110 - virtual time
            await trio.sleep(0.5)
        await trio.sleep(3.5)  # until the last knows that the others know of it
        yield made


def supply(fleet: Fleet) -> Any:
    assert fleet.supply is not None
    return fleet.supply


async def ask(node: World, times: int) -> int:
    """How many of so many requests are admitted, one after the other."""
    admitted = 0
    for _ in range(times):
        try:
            await node.chat()
        except (RateLimited, BudgetExceeded):
            continue
        admitted += 1
    return admitted


async def saturate(made: list[World], seconds: float, *, every: float = 0.05) -> int:
    """Take from the provider's limit on all nodes, again and again, for so long; how often there was something."""
    admitted, end = 0, trio.current_time() + seconds
    while trio.current_time() < end:
        for node in made:
            bucket = node.fleet.members["a"].gate.requests
            assert bucket is not None
            admitted += bucket.take(1, trio.current_time())
        await trio.sleep(every)
    return admitted


async def test_a_small_limit_is_one_for_all_nodes_together(autojump_clock: MockClock) -> None:
    async with nodes(FakeShared(), 4, limited(requests_per_minute=10)) as made:
        assert await saturate(made, 61, every=0.5) in (19, 20)  # a full bucket, and what a minute refills


async def test_what_a_node_does_not_have_it_asks_for_while_the_request_waits_some_milliseconds(
    autojump_clock: MockClock,
) -> None:
    async with nodes(FakeShared(), 2, limited(requests_per_minute=10, tokens_per_minute=100_000)) as made:
        assert [await ask(node, 4) for node in made] == [4, 4]
        await trio.sleep(120)  # idle: what was held has gone back, and everything is refilled
        assert await ask(made[1], 12) in (10, 11)  # one may be held ahead


async def test_a_node_that_leaves_gives_back_what_it_has_not_used(autojump_clock: MockClock) -> None:
    shared = FakeShared()
    async with nodes(shared, 1, limited(requests_per_minute=600)) as [one]:
        assert await ask(one, 2) == 2
    [kept] = shared.mirror.limits.values()
    assert kept.level // 60_000 >= 598
    assert shared.mirror.nodes == {}


async def test_until_the_others_know_of_a_node_that_joins_its_own_blocks_come_on_top_of_theirs(
    autojump_clock: MockClock,
) -> None:
    limit, shared = 1200, FakeShared()
    settings = limited(requests_per_minute=limit)
    most = 0

    async def use(node: Any) -> None:
        nonlocal most
        while True:
            bucket = node.fleet.members["a"].gate.requests
            bucket.take(5, trio.current_time())
            await trio.sleep(0.01)  # six times the limit, each by itself
            most = max(most, sum(max(0, each.fleet.members["a"].gate.requests.held) for each in there))

    async with nodes(shared, 3, settings) as made, world(settings, shared=shared) as late, trio.open_nursery() as users:
        there: list[Any] = [*made, late]
        for node in there:
            users.start_soon(use, node)
        await trio.sleep(1.5)
        users.cancel_scope.cancel()
    assert limit / 12 < most <= limit / 12 * (1 + 1 / 4) + len(there)


async def test_a_limit_that_nobody_uses_keeps_no_provider_from_being_routable(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infermux.actors.supply.FORGET_AFTER", 20.0)
    settings = limited(requests_per_minute=240, tokens_per_minute=20_000)
    async with nodes(FakeShared(), 2, settings) as made:
        for _ in range(4):
            assert [node.fleet.is_ready() for node in made] == [True, True]
            await trio.sleep(10)
        gates: list[Any] = [node.fleet.members["a"].gate for node in made]
        for node in made:
            await node.fleet.remove("a")
        await trio.sleep(25)
        assert [bucket.held for gate in gates for bucket in (gate.requests, gate.tokens)] == [0] * 4  # nobody will


async def test_without_redis_nodes_hold_their_fair_shares_and_tell_what_they_used(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    caplog.set_level(logging.INFO, "infermux.state")
    shared = FakeShared()
    async with nodes(shared, 4, limited(requests_per_minute=600)) as made:
        began = trio.current_time()
        total = await saturate(made, 20)
        shared.go()
        total += await saturate(made, 20)
        assert all(supply(node.fleet).is_degraded for node in made)
        assert supply(made[0].fleet).as_json()["trouble"] == "nobody listens there"
        shared.come()
        total += await saturate(made, 20)
        assert not any(supply(node.fleet).is_degraded for node in made)
        allowed = 600 + 10 * (trio.current_time() - began)
        assert 0.98 * allowed <= total <= allowed + 4 * KEPT
        spread = [await ask(node, 12) for node in made]
    assert max(spread) <= 10
    said = [record.message for record in caplog.records if "gone" in record.message]
    assert len(said) == 4
    assert "redis://fake is gone (the connection is lost): limits are held by this node's fair share, 1 of 4" in said


async def test_a_redis_that_has_lost_everything_refills_no_limit(autojump_clock: MockClock) -> None:
    shared = FakeShared()
    async with nodes(shared, 3, limited(requests_per_minute=600)) as made:
        began = trio.current_time()
        total = await saturate(made, 20)
        shared.mirror.flush()
        total += await saturate(made, 10)
        assert total <= 600 + 3 * KEPT + 10 * (trio.current_time() - began)
        assert sum(supply(node.fleet).numbers.written_back for node in made) > 0


async def test_workers_that_begin_without_redis_hold_their_parts_of_a_router_s_part(autojump_clock: MockClock) -> None:
    shared = FakeShared()
    shared.go()
    settings = limited(requests_per_minute=600, max_concurrent=16)
    config: dict[str, Any] = {"budgets": (BUDGET,), "pricing": PRICED, "state": StateSettings(nodes=2)}
    async with AsyncExitStack() as stack:
        workers = [
            await stack.enter_async_context(world(settings, shared=shared, share=Share(place, 4), **config))
            for place in range(4)
        ]
        gates = [worker.fleet.members["a"].gate for worker in workers]
        assert [gate.max_concurrent for gate in gates] == [2] * 4  # half of it is the other router's
        assert 0.45 * 600 <= await saturate(workers, 60) <= 0.5 * 600
        await trio.sleep(60)
        assert sum([await ask(worker, 20) for worker in workers]) * 5 <= BUDGET.limit_usd / 2
        shared.come()
        for _ in range(100):
            await trio.sleep(0.1)
            assert all((gate.max_concurrent or 0) >= 2 for gate in gates)  # who has a part keeps it
            assert sum(gate.max_concurrent or 0 for gate in gates) <= 16
        assert [gate.max_concurrent for gate in gates] == [4] * 4  # there is no other router


async def test_requests_in_the_queue_are_told_when_there_is_room_again(autojump_clock: MockClock) -> None:
    async with nodes(FakeShared(), 2, limited(requests_per_minute=60), queue=Queue(max_wait=30)) as made:
        await saturate(made, 60)
        began = trio.current_time()
        assert await ask(made[0], 10) == 10
        assert 5 <= trio.current_time() - began <= 12


async def test_what_may_run_at_once_is_dealt_by_parts(autojump_clock: MockClock) -> None:
    shared = FakeShared()
    async with nodes(shared, 2, limited(max_concurrent=5)) as made:
        assert sorted(node.fleet.members["a"].gate.max_concurrent or 0 for node in made) == [2, 3]
        async with world(limited(max_concurrent=5), shared=shared) as late:
            await trio.sleep(0.5)
            assert late.fleet.members["a"].gate.max_concurrent == 0  # the others do not know of it yet
            await trio.sleep(5)
            limits = [node.fleet.members["a"].gate.max_concurrent or 0 for node in (*made, late)]
            assert sorted(limits) == [1, 2, 2]
        await trio.sleep(2)
        assert sorted(node.fleet.members["a"].gate.max_concurrent or 0 for node in made) == [2, 3]


async def test_a_node_that_joins_waits_until_the_others_have_let_go_of_what_runs_at_once(
    autojump_clock: MockClock,
) -> None:
    shared, settings = FakeShared(), limited(max_concurrent=8)

    async def ask_for_long(node: World) -> None:
        with suppress(RateLimited):
            await node.chat()

    async with nodes(shared, 1, settings) as [first], trio.open_nursery() as nursery:
        first["a"].rest = Step(seconds=20)
        for _ in range(8):
            nursery.start_soon(ask_for_long, first)
        await trio.sleep(1)
        async with world(settings, shared=shared) as second:
            second["a"].rest = Step(seconds=100)
            await trio.sleep(10)
            for _ in range(8):
                nursery.start_soon(ask_for_long, second)
            await trio.sleep(1)
            assert first.in_flight("a") + second.in_flight("a") == 8
            await trio.sleep(15)  # what ran has ended
            assert [node.fleet.members["a"].gate.max_concurrent for node in (first, second)] == [4, 4]
            nursery.cancel_scope.cancel()


async def test_a_node_that_drains_lets_go_of_what_its_requests_do_not_need(autojump_clock: MockClock) -> None:
    shared, settings = FakeShared(), limited(max_concurrent=8)
    async with nodes(shared, 2, settings) as [leaver, stayer], trio.open_nursery() as nursery:
        gates = [node.fleet.members["a"].gate for node in (leaver, stayer)]
        leaver["a"].script = [Step(seconds=seconds) for seconds in (10, 20, 30, 30)]
        for _ in range(4):
            nursery.start_soon(leaver.chat)
        await trio.sleep(1)
        leaver.fleet.leave(lambda: len(gates[0].leases))
        async with world(settings, shared=shared) as late:  # it is to have its part although others are used up
            gates.append(late.fleet.members["a"].gate)
            seen: list[list[int | None]] = []
            for _ in range(200):
                await trio.sleep(0.25)
                seen.append([gates[0].max_concurrent, *sorted(gate.max_concurrent or 0 for gate in gates[1:])])
                assert sum(each or 0 for each in seen[-1]) <= 8
    assert seen[23] == [4, 2, 2]
    assert seen[60] == [3, 2, 3]
    assert seen[100] == [2, 3, 3]
    assert seen[-1] == [0, 4, 4]


async def test_a_node_that_has_just_joined_when_redis_goes_has_its_part(autojump_clock: MockClock) -> None:
    shared = FakeShared()
    async with nodes(shared, 1, limited(max_concurrent=8)), world(limited(max_concurrent=8), shared=shared) as late:
        await trio.sleep(0.5)
        assert late.fleet.members["a"].gate.max_concurrent == 0
        shared.go()
        await trio.sleep(2)
        assert late.fleet.members["a"].gate.max_concurrent == 4


async def test_what_may_run_at_once_stays_divided_while_nodes_come_back_one_by_one(autojump_clock: MockClock) -> None:
    shared = FakeShared()
    async with nodes(shared, 4, limited(max_concurrent=8)) as made:
        gates = [node.fleet.members["a"].gate for node in made]
        for seconds in (7.3, 9.1, 12.7):  # each tries at moments of its own
            shared.go()
            await trio.sleep(seconds)
            shared.come()
            for _ in range(60):
                await trio.sleep(0.05)
                assert [gate.max_concurrent for gate in gates] == [2] * 4


async def test_at_full_load_a_node_asks_redis_once_for_fifty_requests_or_more(autojump_clock: MockClock) -> None:
    limits = limited(requests_per_minute=600_000, tokens_per_minute=60_000_000)
    async with nodes(FakeShared(), 2, limits) as made:
        before, admitted = sum(supply(node.fleet).numbers.rounds for node in made), 0
        for _ in range(1000):  # a second has a thousand for each node
            await trio.sleep(0.01)
            now = trio.current_time()
            for gate in (node.fleet.members["a"].gate for node in made):
                assert gate.requests is not None
                assert gate.tokens is not None
                admitted += sum(gate.tokens.take(100, now) and gate.requests.take(1, now) for _ in range(10))
        rounds = sum(supply(node.fleet).numbers.rounds for node in made) - before
        assert admitted > 19_000
        assert admitted >= 50 * rounds
