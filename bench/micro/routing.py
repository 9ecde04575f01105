"""Routing: one decision among few and among many, and the way through router and provider to a lease and back."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import trio

from infermux.actors.actor import spawn
from infermux.actors.fleet import Fleet
from infermux.actors.lease import Lease
from infermux.actors.messages import Outcome, Want
from infermux.actors.opening import open_fleet
from infermux.actors.plan import Plan
from infermux.actors.router_messages import Advance
from infermux.actors.strategies import STRATEGY_NAMES
from infermux.config.settings import Config, HealthCheck, ProviderSettings, RateLimits, Routing
from infermux.providers.interface import Endpoint

from ..decision import MODEL, Granting, routed
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
        refused = at_once(router.ask(Advance(Plan(_WANT))))
        if refused is not None:  # to refuse is another piece of work
            raise RuntimeError(f"the router refuses: {refused!r}")
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
async def _lease(serving: int, strategy: str) -> AsyncGenerator[Act]:
    """The router's actor, one of the providers' with limits, the lease, and its outcome."""
    limits = RateLimits(requests_per_minute=1_000_000_000, tokens_per_minute=1_000_000_000_000, max_concurrent=10_000)
    unchecked = HealthCheck(disabled=True)
    providers = tuple(
        ProviderSettings(name=f"p{at}", type="simulated", models=(MODEL,), rate_limits=limits, health_check=unchecked)
        for at in range(serving)
    )
    outcome = Outcome(status=200, latency=0.5, first_token=0.1, usage=USAGE)
    config = Config(providers=providers, routing=Routing(strategy=strategy))
    async with open_fleet(config, environ={}) as fleet:
        act = partial(_leased, fleet, outcome)
        for _ in range(8 * serving):  # until least_latency has measured all of them
            act()
        yield act


def _leased(fleet: Fleet, outcome: Outcome) -> None:
    lease = at_once(fleet.router.ask(Advance(Plan(_WANT))))
    assert isinstance(lease, Lease)
    lease.release(outcome)


def _cases() -> Iterator[Case]:
    usual = Routing().strategy
    yield Case(name="ask, an eager actor", open=_ask)
    for others in (0, 10, 100, 1000):
        yield Case(name=f"decision, {usual}, 1 serves beside {others}", open=partial(_decision, 1, others, usual))
    for serving in (1, 3, 10, 100):
        yield Case(name=f"lease and release, {usual}, {serving} serve", open=partial(_lease, serving, usual))
    for strategy in STRATEGY_NAMES:
        yield Case(name=f"lease and release, {strategy}, {_MANY} serve", open=partial(_lease, _MANY, strategy))


CASES: Final = tuple(_cases())
