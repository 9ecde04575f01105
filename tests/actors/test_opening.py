"""The end of a fleet: everybody gets the time it is promised, and nobody is passed over for another."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from infermux.actors.identity import Identity
from infermux.actors.purse import nano
from infermux.actors.purse_keeper import STORE_PATIENCE
from infermux.config.settings import Budget
from infermux.database.budgets import Batch, Looked, Spent, Term
from tests.actors._scripted import provider, world


@attrs.define(eq=False)
class SlowStore:
    """What is added to it takes `takes` seconds."""

    takes: float
    added: list[Batch] = attrs.field(factory=list[Batch])

    async def identity(self) -> str:
        await trio.lowlevel.checkpoint()
        return "slow"

    async def load(self, terms: Sequence[Term], at: float) -> Sequence[Spent]:
        del terms, at
        await trio.lowlevel.checkpoint()
        return []

    async def add(self, batch: Batch) -> None:
        await trio.sleep(self.takes)
        self.added.append(batch)

    async def look(self, since: float) -> Looked:
        await trio.lowlevel.checkpoint()
        return Looked([], since)


@pytest.mark.parametrize("takes", [STORE_PATIENCE - 1, 1000.0])
async def test_a_slow_store_has_its_patience_and_keeps_no_connection_open(
    takes: float, autojump_clock: MockClock
) -> None:
    store = SlowStore(takes)
    async with world(provider("a", "m"), budgets=(Budget(caller="a", limit_usd=10),), store=store) as w:
        treasury = w.fleet.treasury
        ticket: Any = treasury.purses.reserve(treasury.rules.claims(Identity(caller="a"), ""), 0, time.time())
        treasury.purses.settle(ticket, nano(1))
        ended = trio.current_time()
    assert [row.more for batch in store.added for row in batch.rows] == ([nano(1)] if takes < STORE_PATIENCE else [])
    assert w["a"].closed
    assert trio.current_time() == pytest.approx(ended + min(takes, STORE_PATIENCE))
