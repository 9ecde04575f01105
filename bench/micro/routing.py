"""Routing: one decision among few and among many, and the way through router and provider to a lease and back."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Final

import trio

from infermux.actors.actor import spawn
from infermux.actors.fleet import Fleet, open_fleet
from infermux.actors.lease import Lease
from infermux.actors.messages import Outcome, Want
from infermux.actors.plan import Plan
from infermux.actors.router_messages import Advance
from infermux.actors.strategies import STRATEGY_NAMES
from infermux.config.settings import Config, HealthCheck, ProviderSettings, RateLimits, Routing
from infermux.providers.interface import Endpoint

from ..callers import MODEL
from ..decision import Granting, routed
from .case import Act, Case
from .driving import at_once
from .steps import USAGE

_WANT: Final = Want(model=MODEL, endpoint=Endpoint.CHAT, prompt_tokens=350, max_tokens=256, affinity=b"conversation")
_MANY: Final = 1000


@asynccontextmanager
async def _decision(serving: int, others: int, strategy: str) -> AsyncGenerator[Act]:
    """Question, decision, hand-over to a provider that grants at once, and answer."""
    async with trio.open_nursery() as nursery:
        router = await routed(nursery, serving=serving, others=others, strategy=strategy, rng=random.Random(1))
        yield lambda: at_once(router.ask(Advance(Plan(_WANT))))
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _ask() -> AsyncGenerator[Act]:
    """Through the kit alone."""
    async with trio.open_nursery() as nursery:
        stub = await spawn(nursery, Granting(), name="stub")
        yield lambda: at_once(stub.ask(None))
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _lease() -> AsyncGenerator[Act]:
    """The router's actor, the provider's with limits, the lease, and its outcome."""
    limits = RateLimits(requests_per_minute=1_000_000_000, tokens_per_minute=1_000_000_000_000, max_concurrent=10_000)
    settings = ProviderSettings(
        name="p0", type="simulated", models=(MODEL,), rate_limits=limits, health_check=HealthCheck(disabled=True)
    )
    outcome = Outcome(status=200, latency=0.5, first_token=0.1, usage=USAGE)
    async with open_fleet(Config(providers=(settings,)), environ={}) as fleet:
        yield partial(_leased, fleet, outcome)


def _leased(fleet: Fleet, outcome: Outcome) -> None:
    lease = at_once(fleet.router.ask(Advance(Plan(_WANT))))
    assert isinstance(lease, Lease)
    lease.release(outcome)


def _opened(serving: int, others: int, strategy: str) -> Case:
    def opened() -> AbstractAsyncContextManager[Act]:
        return _decision(serving, others, strategy)

    beside = f", {others} others" if others else ""
    return Case(name=f"decision, {strategy}, {serving} serve{beside}", open=opened)


def _cases() -> Iterator[Case]:
    yield Case(name="ask, an eager actor", open=_ask)
    yield Case(name="lease, asked of router and provider, released", open=_lease)
    for serving in (1, 10, 100):
        yield _opened(serving, 0, Routing().strategy)
    for others in (10, 100, 1000):
        yield _opened(3, others, Routing().strategy)
    for strategy in STRATEGY_NAMES:
        yield _opened(_MANY, 0, strategy)


CASES: Final = tuple(_cases())
