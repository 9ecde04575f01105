"""What happens, as it happens: server-sent events for whoever watches (`GET /_infermux/events`).

Wire shape: https://html.spec.whatwg.org/multipage/server-sent-events.html (`event:` and `data:` lines, a blank line).
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator
from typing import Any, TypeAlias

import attrs
import msgspec
import trio
from quart import Response, request
from quart_trio import QuartTrio

from infermux.actors.explain import brief
from infermux.actors.record import Record
from infermux.actors.treasury import Exceeded
from infermux.errors import Overloaded, ShuttingDown

from .money import moment
from .overview import Overview

MOST_READERS = 32
BEHIND = 256  # events a reader may be behind; then it is dropped
LOOK_EVERY = 0.2  # seconds between two looks at the providers' states
SNAPSHOT_EVERY = 5  # looks
MOST_REQUESTS = 20  # ended requests that are told between two snapshots; the others are counted

Reader: TypeAlias = trio.MemorySendChannel[bytes]


@attrs.define(eq=False)
class Hub:
    """Tells every reader of what happens. Without readers it does nothing; its task ends with the last one.

    Events: `overview` first, then `snapshot` every second, `change` for each transition of a provider (health, circuit,
    operator), `request` for ended requests, at most `MOST_REQUESTS` a second: how many were left out is told with the
    snapshot; `budget` for each that is used up, as many a second at most. A reader that is too far behind is dropped,
    and so are all when the router drains.
    """

    overview: Overview
    nursery: trio.Nursery
    _readers: set[Reader] = attrs.field(factory=set[Reader])
    _told: int = 0
    _budgets_told: int = 0
    _left_out: int = 0
    _watched: bool = False

    def note(self, record: Record) -> None:
        """A listener of the journal."""
        if not self._readers:
            return
        if self._told >= MOST_REQUESTS:
            self._left_out += 1
            return
        self._told += 1
        self._publish(event("request", brief(record)))

    def note_budget(self, exceeded: Exceeded) -> None:
        """A listener of the treasury."""
        if self._readers and self._budgets_told < MOST_REQUESTS:
            self._budgets_told += 1
            self._publish(event("budget", {**attrs.asdict(exceeded), "until": moment(exceeded.until)}))

    def join(self) -> tuple[Reader, trio.MemoryReceiveChannel[bytes]]:
        """A new reader, to be dropped in the end, and its events from now on. Raises Overloaded, ShuttingDown."""
        if self.overview.inference.draining:
            raise ShuttingDown("the router is shutting down", retry_after=1)
        if len(self._readers) >= MOST_READERS:
            raise Overloaded(f"{MOST_READERS} readers of events are as many as may be", retry_after=10)
        send, receive = trio.open_memory_channel[bytes](BEHIND)
        send.send_nowait(event("overview", self.overview.whole()))
        self._readers.add(send)
        if not self._watched:
            self._watched = True
            self.nursery.start_soon(self._watch)
        return send, receive

    def drop(self, reader: Reader) -> None:
        """It is told no more. Idempotent."""
        self._readers.discard(reader)
        reader.close()

    def _publish(self, data: bytes) -> None:
        for reader in list(self._readers):
            try:
                reader.send_nowait(data)
            except (trio.WouldBlock, trio.BrokenResourceError):
                self.drop(reader)

    async def _watch(self) -> None:
        since, looks = trio.current_time(), 0
        while self._readers:
            await trio.sleep(LOOK_EVERY)
            now, looks = trio.current_time(), looks + 1
            for change in self._changes(since, now):
                self._publish(event("change", change))
            since = now
            if looks % SNAPSHOT_EVERY == 0:
                snapshot = {**self.overview.snapshot(), "requests_left_out": self._left_out}
                self._told = self._left_out = self._budgets_told = 0
                self._publish(event("snapshot", snapshot))
            if self.overview.inference.draining:
                for reader in list(self._readers):
                    self.drop(reader)
        self._watched = False

    def _changes(self, since: float, now: float) -> Iterator[dict[str, Any]]:
        """The transitions between two moments, the first excluded."""
        wall = time.time() - now
        for name, member in self.overview.inference.fleet.members.items():
            gate = member.gate
            gate.breaker.state(now)  # it notes that its recovery window has passed when somebody looks
            logs = (
                ("health", gate.health.transitions),
                ("circuit", gate.breaker.transitions),
                ("operator", gate.operator),
            )
            for of, log in logs:
                for each in log:
                    if since < each.at <= now:
                        yield {
                            "provider": name,
                            "of": of,
                            "from": _word(each.source),
                            "to": _word(each.target),
                            "why": each.why,
                            "at": round(wall + each.at, 3),
                        }


def event(name: str, data: Any) -> bytes:
    """One event. JSON has no line break of its own, so its data is one line."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(data))


def add_events(app: QuartTrio, hub: Hub, prefix: str) -> None:
    """`GET PREFIX/events`."""

    @app.get(f"{prefix}/events")
    async def events() -> Response:
        reader, arriving = hub.join()
        if request.method == "HEAD":  # without an end it would have no answer
            hub.drop(reader)

        async def body() -> AsyncGenerator[bytes]:
            try:
                async for data in arriving:
                    yield data
            finally:
                hub.drop(reader)

        return Response(body(), content_type="text/event-stream", headers={"Cache-Control": "no-store"})


def _word(state: Any) -> str:
    return state if isinstance(state, str) else str(state.value)
