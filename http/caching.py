"""The cache of answers: which requests it is for, what makes two of them the same, and who waits for whom.

A request of a route group with `cache: true` is answered from the cache when exactly the same was asked before by the
same caller. While the first of several identical requests is under way the others wait for its answer. When it fails,
or its caller leaves, one of them is sent in its place.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from typing import Any, Final

import attrs
import trio

from infermux.actors.cache import Cache, Tally
from infermux.actors.dispatch import Run
from infermux.actors.draft import Draft
from infermux.actors.fleet import Fleet
from infermux.actors.flight import Flight
from infermux.actors.record import BYPASS, MISS
from infermux.config.settings import Config
from infermux.errors import ShuttingDown
from infermux.providers.interface import TRACE_HEADERS

from .exchange import Exchange, Head
from .kept_answers import Kept, Marked, Recording

MOST_VAIN: Final = 2  # answers of others that a request waits for in vain before it waits for no more

Answering = Callable[[Exchange, Run, Draft], Awaitable[None]]
"""What answers a request when the cache does not."""


@attrs.define(eq=False)
class Caching:
    """The answers kept by one configuration. Another one that may answer otherwise begins with none (`caching_of`)."""

    fleet: Fleet = attrs.field(repr=False)
    config: Config = attrs.field(repr=False)
    cache: Cache[Kept]
    flights: dict[bytes, Flight[Kept]] = attrs.field(factory=dict[bytes, Flight[Kept]], repr=False)
    _secret: bytes = attrs.field(factory=lambda: secrets.token_bytes(32), repr=False)

    async def serve(self, exchange: Exchange, run: Run, draft: Draft, answer: Answering) -> None:
        """Answer from the cache, or by `answer`, keeping what comes. Raises what that does, and what `Run.follow` does.

        Nothing of `run` has been sent yet.
        """
        group = None if run.call.path else self.fleet.catalogue.resolve(run.want.model, run.want.endpoint).group
        if group is None or not group.cache:
            await answer(exchange, run, draft)
            return
        directives = _directives(exchange.head)
        if run.call.stateful or b"no-store" in directives:
            draft.cache = BYPASS
            self._count(BYPASS)
            await answer(Marked(exchange, BYPASS), run, draft)
            return
        key, anew = self.key(run, draft), b"no-cache" in directives
        kept = None if anew else await self._found(key, exchange, run)
        if kept is not None:
            if run.killed is not None:
                raise run.killed
            self.cache.tally.hits += 1
            run.plan.group = group.name
            run.close()  # nothing of it is left to be ended: the answer is on its way out
            await kept.give(exchange, draft)
            return
        draft.cache = BYPASS if anew else MISS
        self._count(draft.cache)
        await self._record(key, exchange, run, draft, answer)

    def key(self, run: Run, draft: Draft) -> bytes:
        """What identical requests have in common. Neither a body nor a credential can be read from it.

        Who asks is part of it unless answers are shared: the key, the name that `X-Infermux-Caller` gives, and the
        credential that is passed through. The body counts as it was written, byte by byte.
        """
        call = run.call
        parts = [call.endpoint.name.encode(), b"strict" if call.strict else b""]
        if not self.config.cache.shared:
            parts += [draft.who.key.encode(), draft.who.caller.encode()]
            parts.append(b"" if call.lent is None else call.lent.reveal().encode())
        parts += [b"%b: %b" % pair for pair in call.headers if pair[0] not in TRACE_HEADERS]
        hashed = blake2b(b"".join([b"%d:%b" % (len(part), part) for part in parts]), key=self._secret, digest_size=32)
        hashed.update(b"/")  # no header is called so: here the body begins
        hashed.update(call.body)
        return hashed.digest()

    async def _found(self, key: bytes, exchange: Exchange, run: Run) -> Kept | None:
        """An answer that is there, or comes of another request. None: this one has to be sent."""
        for _ in range(MOST_VAIN):
            kept = self.cache.find(key, trio.current_time())
            flight = self.flights.get(key)
            if kept is not None or flight is None or flight.is_over:
                return kept
            await run.follow(flight.over)
            if flight.answer is not None:
                self.cache.tally.followed += 1
                return flight.answer
            if exchange.shutting_down:
                raise ShuttingDown("the router is shutting down; send the request to another one", retry_after=1)
            if flight.too_large:
                return None
        return None

    async def _record(self, key: bytes, exchange: Exchange, run: Run, draft: Draft, answer: Answering) -> None:
        """Send it, and keep what comes; whoever asks the same meanwhile waits for it, unless there is one before."""
        flight, before = Flight[Kept](), self.flights.get(key)
        if before is None or before.is_over:
            self.flights[key] = flight
        recording = Recording(exchange, draft.cache, draft=draft, cache=self.cache, key=key, flight=flight)
        try:
            await answer(recording, run, draft)
        finally:
            recording.close()
            if self.flights.get(key) is flight:
                del self.flights[key]

    def _count(self, word: str) -> None:
        if word == MISS:
            self.cache.tally.misses += 1
        else:
            self.cache.tally.bypasses += 1

    def as_json(self) -> dict[str, Any]:
        """Its size and what it has done since the router began."""
        settings, cache = self.config.cache, self.cache
        tally = cache.tally
        asked = tally.hits + tally.misses
        return {
            "enabled": True,
            "shared": settings.shared,
            "ttl_seconds": settings.ttl,
            "max_bytes": settings.max_bytes,
            "largest_answer": max(0, cache.largest),
            "bytes": cache.size + cache.making,
            "entries": len(cache),
            "under_way": len(self.flights),
            **attrs.asdict(tally),
            "hit_rate": round(tally.hits / asked, 4) if asked else None,
        }


def caching_of(fleet: Fleet, before: Caching | None = None) -> Caching | None:
    """What is cached under the fleet's configuration; None: nothing.

    `before` goes on where the same request still has the same answer.
    """
    config = fleet.config
    if not config.cache.enabled:
        return None
    if before is not None and _decisive(before.config) == _decisive(config):
        return before
    return emptied(fleet, before)


def emptied(fleet: Fleet, before: Caching | None = None) -> Caching:
    """One without answers; only what is counted goes on.

    What `before` keeps is gone with it, also what its requests under way come to: those who wait for them still get it.
    """
    settings, tally = fleet.config.cache, Tally() if before is None else before.cache.tally
    return Caching(fleet, fleet.config, Cache(settings.ttl, settings.max_bytes, tally))


def _decisive(config: Config) -> tuple[Any, ...]:
    return config.providers, config.routing, config.auth, config.cache


def _directives(head: Head) -> set[bytes]:
    """Of the caller's `Cache-Control` (RFC 9111, 5.2.1), without their arguments."""
    if head.get(b"cache-control") is None:
        return set()
    said = b",".join([value for name, value in head.headers if name == b"cache-control"])
    return {each.partition(b"=")[0].strip().lower() for each in said.split(b",")}
