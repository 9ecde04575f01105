"""Callers that leave at moments of chance, in every phase and every way: then nothing is left of them.

Everyday it is some hundreds of them; `INFERMUX_TEST_CALLERS=1000` has as many as continuous integration does.
"""

from __future__ import annotations

import gc
import os
import random
import socket
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any
from unittest.mock import patch

import attrs
import pytest
import trio

from infermux.actors.bucket import TokenBucket
from infermux.actors.dispatch import Run
from infermux.actors.phase import Phase
from infermux.config.settings import ProviderSettings
from infermux.providers.interface import Adapter
from infermux.providers.registry import make_adapter
from tests.campaign._truth import Truth, Watched, audited
from tests.e2e._router import Router, provider, routing, until
from tests.e2e.chaos._callers import WAYS, Caller, misbehave
from tests.e2e.chaos._left import Left, open_files
from tests.mocks.openai_upstream import OpenAIUpstream, Reply

pytestmark = pytest.mark.slow

AT_ONCE = 40
WARM_UP = 50
COUNT = int(os.environ.get("INFERMUX_TEST_CALLERS", "250"))
ENDLESS = Reply(endless=True, interval=0.01, tokens=("x" * 200,))
# What a request of each model is at when its caller leaves, and what its upstreams do for that.
PHASES: dict[str, tuple[Reply, ...]] = {
    "queued": (Reply(delay=0.03),),
    "connecting": (),
    "waiting": (Reply(delay=9.0),),
    "streaming": (ENDLESS,),
    "pausing": (Reply(status=503),),
    "hedged": (Reply(delay=0.3), Reply(delay=0.1)),
    "answered": (Reply(),),
}
FILE: dict[str, Any] = {
    "routing": {"strategy": "priority"},
    "queue": {"max_wait": "5s"},
    "retry": {"backoff": {"base": "2s"}, "budget_min_per_second": 10_000},
    "hedge": {"enabled": True, "after": "20ms", "max_extra_ratio": 1.0},
    "limits": {"header_timeout": "2s", "write_timeout": "2s"},
}
NEVER_OPENS = {"consecutive_failures": 1_000_000, "min_requests": 1_000_000}


@contextmanager
def unanswered() -> Generator[str]:
    """The base URL of an address that takes no connection and refuses none: its backlog is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        full = [socket.socket() for _ in range(4)]
        try:
            for each in full:
                each.setblocking(False)
                each.connect_ex(listener.getsockname())
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        finally:
            for each in full:
                each.close()


@attrs.define(eq=False)
class World:
    """A router, its upstreams, and what was truly used at each provider."""

    router: Router
    upstreams: list[OpenAIUpstream]
    truths: dict[str, Truth]
    spent: dict[TokenBucket, int]

    async def storm(self, count: int, ways: Sequence[Callable[[Caller], Awaitable[None]]], first: int = 0) -> None:
        """So many callers, some at once: each its own way and model, by its number."""
        limit = trio.CapacityLimiter(AT_ONCE)

        async def one(number: int) -> None:
            rng = random.Random(f"caller {number}")
            async with limit:
                await misbehave(self.router.port, number, rng.choice(ways), rng.choice(list(PHASES)))

        async with trio.open_nursery() as nursery:
            for number in range(first, first + count):
                nursery.start_soon(one, number)

    async def quiet(self) -> Left:
        """What is there once nothing is in flight."""
        await self.router.wait_settled()
        lanes = self.router.running
        assert lanes is not None, "it is served by `serve`"
        await until(lambda: lanes.statistics().connections <= 1)
        return Left.now(self.upstreams)

    async def left(self, before: Left) -> dict[str, int]:
        """What is there beyond that; a moment is given to who has to notice that its peer has gone."""
        await self.quiet()
        await until(lambda: not Left.now(self.upstreams).beyond(before))
        return Left.now(self.upstreams).beyond(before)

    def unpaid(self) -> dict[str, tuple[int, int]]:
        """The providers whose bucket has lent and not got back anything else than what was used there."""
        application = self.router.application
        assert application is not None, "it is served by `serve`"
        found: dict[str, tuple[int, int]] = {}
        for name, member in application.fleet.members.items():
            assert member.gate.tokens is not None, "each has a limit"
            spent, used = self.spent.get(member.gate.tokens, 0), self.truths[name].tokens
            if spent != used:
                found[name] = spent, used
        return found


@asynccontextmanager
async def world() -> AsyncGenerator[World]:
    truths: dict[str, Truth] = {}

    def adapter(settings: ProviderSettings) -> Adapter:
        truth = truths[settings.name] = Truth(settings.name)
        return Watched(make_adapter(settings, environ={}), truth, settings, lambda _: [])

    async with AsyncExitStack() as stack:
        spent = stack.enter_context(audited())
        upstreams: list[OpenAIUpstream] = []
        providers: list[dict[str, Any]] = []
        for phase, replies in PHASES.items():
            urls: list[OpenAIUpstream | str] = []
            for reply in replies:
                upstreams.append(await stack.enter_async_context(OpenAIUpstream(any_model=True, default=reply)))
                urls.append(upstreams[-1])
            for number, url in enumerate(urls or [stack.enter_context(unanswered())]):
                limits = {"tokens_per_minute": 1_000_000_000, **({"max_concurrent": 2} if phase == "queued" else {})}
                providers.append(
                    provider(f"{phase}-{number}", url, models=[phase], rate_limits=limits, circuit_breaker=NEVER_OPENS)
                )
        router = await stack.enter_async_context(routing(*providers, adapters=adapter, **FILE))
        yield World(router, upstreams, truths, spent)


@contextmanager
def phases_at_the_end() -> Generator[Counter[Phase]]:
    """In which phase the requests are when they are closed: done, or left."""
    seen: Counter[Phase] = Counter()
    close = Run.close

    def noting(run: Run) -> None:
        seen[run.phase] += 1
        close(run)

    with patch.object(Run, "close", noting):
        yield seen


async def test_nothing_is_left_of_callers_that_leave_in_any_phase_and_any_way() -> None:
    gc.collect()  # what earlier tests have left to it
    before_all = open_files()
    with phases_at_the_end() as seen:
        async with world() as w:
            await w.storm(WARM_UP, tuple(WAYS.values()))  # what is made once, is made
            before = await w.quiet()
            await w.storm(COUNT - WARM_UP, tuple(WAYS.values()), first=WARM_UP)
            assert await w.left(before) == {}
            assert w.unpaid() == {}
            assert {name: truth.open for name, truth in w.truths.items() if truth.open} == {}
            assert w.truths["connecting-0"].tokens == 0
            assert w.truths["hedged-1"].tries, "the second attempt beside the first"
    # Leasing takes next to no time, and without a cache nobody follows another one.
    assert set(seen) >= set(Phase) - {Phase.LEASING, Phase.FOLLOWING}, seen
    assert open_files() == before_all
