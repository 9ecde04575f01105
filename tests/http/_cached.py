"""A front door with a cache over one scripted provider."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from infermux.actors.fleet import Fleet
from infermux.actors.record import Record
from infermux.config.settings import CacheSettings, Group, Routing
from infermux.errors import CallerLeft, FailureKind, UpstreamFailure
from infermux.http.caching import Caching, caching_of
from infermux.http.inference import Inference
from infermux.http.rules import Rules
from tests.actors._scripted import Scripted, Step, provider, streams, world
from tests.http._memory import MemoryExchange

BODY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
STREAM = {**BODY, "stream": True}
ROUTING = Routing(strategy="priority", groups=(Group(name="kept", models=("m",), cache=True),))
WHOLE = Step(body=b'{"id":"one","choices":[]}', seconds=1.0)
SLOW = streams(b"data: a\n\n", b"data: b\n\n", b"data: [DONE]\n\n", gap=1.0)
FAILS = Step(seconds=1.0, failure=UpstreamFailure(FailureKind.CALLER, "no", status=400))


@attrs.define(eq=False)
class Door:
    """A front door over one scripted provider."""

    inference: Inference
    wire: Scripted
    records: list[Record] = attrs.field(factory=list[Record])

    @property
    def fleet(self) -> Fleet:
        return self.inference.fleet

    @property
    def caching(self) -> Caching:
        assert self.inference.caching is not None, "there is a cache"
        return self.inference.caching

    @property
    def sent(self) -> int:
        return len(self.wire.asked)

    async def ask(self, body: Any = BODY, path: str = "/v1/chat/completions", **headers: str) -> MemoryExchange:
        """One request to its end. A caller that left is no error here."""
        return await self.take(MemoryExchange(body, path, _named(headers)))

    async def take(self, exchange: MemoryExchange) -> MemoryExchange:
        try:
            await self.inference(exchange)
        except CallerLeft:
            assert exchange.left, "only a caller that left is said to have left"
        return exchange

    async def together(self, exchanges: Sequence[MemoryExchange]) -> None:
        """All of them at once, the first one first."""
        async with trio.open_nursery() as nursery:
            for exchange in exchanges:
                nursery.start_soon(self.take, exchange)
                await trio.sleep(0.001)


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


@asynccontextmanager
async def door(*steps: Step, cache: CacheSettings | None = None, **config: Any) -> AsyncGenerator[Door]:
    """`steps` are what the provider does first; after them it answers at once, with an empty completion."""
    config = {"routing": ROUTING, "cache": cache or CacheSettings(enabled=True), **config}
    async with world(provider("a", "m", "other"), script={"a": steps}, **config) as made:
        inference = Inference(made.fleet, Rules.of(made.fleet.config))
        inference.caching = caching_of(made.fleet)
        found = Door(inference, made["a"])
        made.fleet.journal.listen(found.records.append)
        yield found
        assert inference.in_flight == 0, "nobody is left"
        if inference.caching is not None:
            assert not inference.caching.flights, "no flight is left"
            assert inference.caching.cache.making == 0, "nothing is promised any more"
