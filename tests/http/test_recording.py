"""Every request leaves one record, whatever its end: told to the journal by the handler."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from infermux.actors.record import Ending, Record
from infermux.config.settings import AuthMode, AuthSettings, LimitSettings, Price
from infermux.errors import CallerLeft, Fault, PayloadTooLarge
from infermux.http.exchange import Exchange, Head, HeaderLines, Headers
from infermux.http.inference import Inference
from infermux.http.rules import Rules
from infermux.secret import Secret
from tests.actors._scripted import (
    PRIORITY,
    SERVER_ERROR,
    USAGE,
    Person,
    Step,
    World,
    breaking,
    provider,
    streams,
    two,
    world,
)

ASKED = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}


class Memory(Person):
    """An exchange in memory. `slow` seconds go by until its body is there."""

    def __init__(self, body: Any = ASKED, *, path: bytes = b"/v1/chat/completions", **headers: str) -> None:
        super().__init__()
        lines = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        lines += [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        self.head = Head(b"POST", path, b"", dict(lines).items())  # type: ignore[arg-type]
        self.shutting_down = self.stalled = False
        self.slow = 0.0
        self.refused: Exception | None = None
        self.status = 0
        self.sent = b""
        self._body = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def body(self) -> bytes:
        await trio.sleep(self.slow)
        if self.refused is not None:
            raise self.refused
        return self._body

    async def receive_body(self) -> bytes | None:
        await trio.lowlevel.checkpoint()
        return None

    async def respond(self, status: int, headers: Headers | HeaderLines, body: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.status, self.sent = status, body

    def start(self, status: int, headers: Headers | HeaderLines) -> None:
        self.status = status

    def send_now(self, data: bytes) -> bool:
        self.sent += data
        return True

    async def flush(self) -> None:
        await trio.lowlevel.checkpoint()

    async def finish(self, trailers: Headers = ()) -> None:
        await trio.lowlevel.checkpoint()

    def abort(self) -> None:
        self.status = -1


@attrs.define(eq=False)
class Door:
    """A handler over scripted providers, and the records it left."""

    inference: Inference
    world: World
    records: list[Record]

    async def asked(self, exchange: Exchange | None = None) -> Record:
        """The one record of a request."""
        self.records.clear()
        await self.inference(exchange or Memory())
        [record] = self.records
        return record


@asynccontextmanager
async def door(*providers: Any, **config: Any) -> AsyncGenerator[Door]:
    async with world(*(providers or (provider("a", "m"),)), **config) as w:
        records: list[Record] = []
        w.fleet.journal.listen(records.append)
        yield Door(Inference(w.fleet, Rules.of(w.fleet.config)), w, records)


async def test_an_answer(autojump_clock: MockClock) -> None:
    exchange = Memory(x_request_id="mine", x_infermux_caller="team-a", x_infermux_tags="env=prod")
    exchange.slow = 2.0
    pricing = {"a": {"m": Price(input_per_million=1.0, output_per_million=2.0)}}
    async with door(pricing=pricing, script={"a": [Step(seconds=1.0)]}) as d:
        record = await d.asked(exchange)
    assert (record.id, record.endpoint, record.requested, record.stream) == ("mine", "chat", "m", False)
    assert (record.ending, record.status, record.provider, record.model) == (Ending.OK, 200, "a", "m")
    assert (record.usage, record.cost, record.latency, record.overhead) == (USAGE, 20e-6, 3.0, 0.0)
    assert (record.who.caller, dict(record.who.tags)) == ("team-a", {"env": "prod"})
    assert record.at > 1.7e9


async def test_a_stream(autojump_clock: MockClock) -> None:
    async with door(script={"a": [streams(seconds=1.0, gap=1.0)]}) as d:
        record = await d.asked(Memory({**ASKED, "stream": True}))
    assert (record.ending, record.status, record.first_token, record.latency) == (Ending.OK, 200, 1.0, 3.0)


async def test_a_stream_that_breaks(autojump_clock: MockClock) -> None:
    async with door(script={"a": [streams(breaks=breaking())]}) as d:
        record = await d.asked(Memory({**ASKED, "stream": True}))
    assert (record.ending, record.status, record.code) == (Ending.BROKEN, 200, "upstream_error")
    assert record.fault is Fault.PROVIDER


async def test_a_failure_of_all(autojump_clock: MockClock) -> None:
    async with door(*two(), routing=PRIORITY, script={"a": [SERVER_ERROR], "b": [SERVER_ERROR]}) as d:
        record = await d.asked()
    assert (record.ending, record.status, [each.provider for each in record.attempts]) == (
        Ending.REFUSED,
        502,
        ["a", "b"],
    )


@pytest.mark.parametrize(
    ("exchange", "status", "code"),
    [
        (Memory(b"{"), 400, "invalid_request"),
        (Memory({"model": "m"}), 400, "invalid_request"),
        (Memory({**ASKED, "model": "unheard-of"}), 404, "model_not_found"),
        (Memory(content_type="text/plain"), 415, "unsupported_media_type"),
        (Memory(x_infermux_timeout="never"), 400, "invalid_request"),
    ],
)
async def test_what_a_caller_did_wrong(exchange: Memory, status: int, code: str, autojump_clock: MockClock) -> None:
    async with door() as d:
        record = await d.asked(exchange)
    assert (record.ending, record.status, record.code, record.fault) == (Ending.REFUSED, status, code, Fault.CALLER)
    assert (record.attempts, exchange.status) == ((), status)


async def test_a_wrong_key(autojump_clock: MockClock) -> None:
    async with door(auth=AuthSettings(mode=AuthMode.STATIC_KEY, key=Secret("right"))) as d:
        record = await d.asked(Memory(authorization="Bearer wrong"))
    assert (record.status, record.code, record.endpoint) == (401, "unauthorized", "chat")


async def test_a_body_that_is_too_large_counts_as_received_not_as_our_time(autojump_clock: MockClock) -> None:
    exchange = Memory()
    exchange.slow, exchange.refused = 5.0, PayloadTooLarge("too large")
    async with door() as d:
        record = await d.asked(exchange)
    assert (record.status, record.code, record.latency, record.overhead) == (413, "payload_too_large", 5.0, 0.0)


async def test_too_many_at_once_and_a_router_that_drains(autojump_clock: MockClock) -> None:
    async with door(limits=LimitSettings(max_concurrent_requests=1)) as d:
        d.inference.in_flight = 1
        assert (await d.asked()).code == "overloaded"
        d.inference.draining = True
        record = await d.asked()
    assert (record.status, record.code, record.fault) == (503, "shutting_down", Fault.POLICY)


async def test_a_caller_that_leaves(autojump_clock: MockClock) -> None:
    exchange = Memory()
    async with door(script={"a": [Step(hangs=True)]}) as d, trio.open_nursery() as nursery:

        @nursery.start_soon
        async def _() -> None:
            await trio.sleep(1)
            exchange.leave()

        with pytest.raises(CallerLeft):
            await d.inference(exchange)
        [record] = d.records
    assert (record.ending, record.status, record.attempts[0].outcome) == (Ending.LEFT, 499, "cancelled")


@pytest.mark.parametrize(("shutting_down", "ending"), [(True, Ending.REFUSED), (False, Ending.LEFT)])
async def test_a_request_that_is_cancelled(shutting_down: bool, ending: Ending, autojump_clock: MockClock) -> None:
    exchange = Memory()
    exchange.shutting_down = shutting_down
    async with door(script={"a": [Step(hangs=True)]}) as d:
        with trio.move_on_after(1):
            await d.inference(exchange)
        [record] = d.records
    assert record.ending is ending


def bug(*_: object, **__: object) -> None:
    raise RuntimeError("a bug")


async def test_a_bug_of_ours(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    async with door() as d:
        monkeypatch.setattr("infermux.http.intake.request_run", bug)
        record = await d.asked()
    assert (record.status, record.code, record.fault) == (500, "internal_error", Fault.INFERMUX)


async def test_what_is_passed_through_is_called_by_its_kind(autojump_clock: MockClock) -> None:
    async with door() as d:
        record = await d.asked(Memory({"model": "m", "prompt": "a cat"}, path=b"/v1/images/generations"))
    assert (record.endpoint, record.requested, record.ending) == ("images", "m", Ending.OK)
