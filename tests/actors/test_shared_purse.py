"""A budget's lease on what Redis has, round by round: what it asks for, and what is ours without Redis."""

from __future__ import annotations

import attrs
import trio
from trio.testing import MockClock

from infermux.actors.purse import Claim, Purse, nano
from infermux.actors.purses import Purses, Ticket
from infermux.actors.share import Share
from infermux.actors.supply import Supply
from infermux.config.settings import Budget
from infermux.database.budgets import Spent
from tests.shared._mirror import Mirror, trio_ms

AT = 1_800_000_000.0  # in one day for as long as a test takes
BUDGET = Budget(caller="someone", limit_usd=100.0, period="day", hard=True)


@attrs.define(eq=False)
class Node:
    """One of two that share `mirror`; its rounds are made one by one."""

    mirror: Mirror
    calls: int = 0
    supply: Supply = attrs.field(factory=lambda: Supply(prefix="x"))
    purses: Purses = attrs.field(factory=Purses)

    def __attrs_post_init__(self) -> None:
        self.purses.lease = lambda purse: self.supply.purse(purse, lambda: True, lambda: "ledger")
        self.supply.lost_at = None
        self.mirror.leaving["another"] = ""

    def round(self) -> None:
        now = trio.current_time()
        self.mirror.nodes["another"] = trio_ms()
        calls, leased = self.supply.round(now)
        self.calls += len(leased)
        self.supply.take(calls, leased, [self.mirror.call(call) for call in calls], now)

    async def rounds(self, seconds: int) -> None:
        for _ in range(seconds):
            await trio.sleep(1)
            self.round()

    def ask(self, dollars: float, budget: Budget = BUDGET) -> Ticket | None:
        claims = (Claim.of(budget, "caller", budget.caller or ""),)
        promised = self.purses.reserve(claims, nano(dollars), AT)
        return promised if isinstance(promised, Ticket) else None

    async def spend(self, dollars: float) -> None:
        assert self.ask(dollars) is None  # nothing is here yet
        self.round()
        promised = self.ask(dollars)
        assert promised is not None
        self.purses.settle(promised, nano(dollars))
        await self.rounds(4)

    async def forget(self) -> None:
        """Nobody uses it for so long that it is not spoken of any more."""
        await trio.sleep(700)
        await self.rounds(3)
        assert not self.supply.as_json()["degraded"]
        assert self.purse.lease is not None
        assert self.purse.lease.held == 0

    def all_that_is_left(self) -> float:
        """Dollars that are given, a half at a time."""
        given = 0.0
        while self.ask(0.5) is not None:
            given += 0.5
        return given

    @property
    def purse(self) -> Purse:
        [purse] = self.purses.current.values()
        return purse


async def test_of_a_budget_that_was_not_used_for_long_our_part_is_ours_without_redis(autojump_clock: MockClock) -> None:
    node = Node(Mirror(trio_ms))
    node.round()
    await node.spend(0.5)
    await node.forget()
    node.supply.lose("gone")
    # Half of seven eighths of what was left when it was heard of, less what was held then.
    assert 42.5 <= node.all_that_is_left() <= 43.5


async def test_what_the_store_tells_of_a_budget_that_was_not_used_for_long_is_not_left_without_redis(
    autojump_clock: MockClock,
) -> None:
    node = Node(Mirror(trio_ms))
    node.round()
    await node.spend(0.5)
    await node.forget()
    node.purses.catch_up([Spent("caller", "someone", "day", int(node.purse.start), nano(80))], AT)
    node.supply.lose("gone")
    assert 8 <= node.all_that_is_left() <= 8.5


async def test_a_budget_that_is_used_again_goes_by_the_nodes_that_are_there_now(autojump_clock: MockClock) -> None:
    node = Node(Mirror(trio_ms))
    node.round()
    await node.spend(0.5)
    await node.forget()
    node.supply.share = Share(0, 4)
    assert node.ask(0.5) is None
    assert node.purse.lease is not None
    assert node.purse.lease.share.of == 4


async def test_a_budget_that_nobody_uses_is_seldom_asked_for(autojump_clock: MockClock) -> None:
    node = Node(Mirror(trio_ms))
    node.round()
    await node.spend(0.5)
    await node.rounds(20)
    before = node.calls
    await node.rounds(120)
    assert node.calls - before in (3, 4)


async def test_what_others_spend_of_a_budget_in_use_is_heard_of_within_seconds(autojump_clock: MockClock) -> None:
    mirror = Mirror(trio_ms)
    node, other = Node(mirror), Node(mirror)
    for each in (node, other):
        each.round()
        await each.spend(0.5)
    await node.rounds(40)
    promised = node.ask(0.1)  # out of what it keeps
    assert promised is not None
    await other.spend(2.0)
    await node.rounds(4)
    assert node.purse.spent == nano(3.0)
