"""The wall in memory, on a virtual clock at the real figures, asked byte by byte."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import attrs
import trio

from infermux.actors.fleet import Fleet
from infermux.actors.opening import open_fleet
from infermux.config import load_text
from infermux.http.connection import Connection, Lane
from infermux.http.framing import ParsedHead
from infermux.http.inference import Inference, is_inference
from infermux.http.rules import Rules
from infermux.http.watch import PollingWatch
from infermux.providers.wire import MemoryWire
from infermux.simulation.virtual import run_virtually
from tests.e2e._router import HELLO
from tests.e2e.faults._runs import NOT_JSON, Result, Run, asked, configuration, place
from tests.e2e.faults._table import Case
from tests.http._caller import Caller
from tests.mocks.memory_net import MemoryNet

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n%b\r\n"


@attrs.define(eq=False)
class Nothing:
    """In place of hypercorn: there is nothing but inference here."""

    async def answer(self, connection: Connection, head: ParsedHead) -> bool:
        raise AssertionError(f"{head.target!r} is not inference")

    async def take_http2(self, connection: Connection) -> None:
        raise AssertionError("nobody here speaks HTTP/2")


@attrs.define(eq=False)
class InMemory:
    """A router whose callers and providers are in memory."""

    net: MemoryNet
    fleet: Fleet
    lane: Lane
    inference: Inference
    port: int

    async def ask(self, model: str, *, stream: bool, headers: bytes = b"") -> Result:
        """What a caller sees on its wire, to the byte. `headers` are further lines, each with its end."""
        return await ask_bare(await self.net.open_stream(self.port), model, stream=stream, headers=headers)

    async def settle(self) -> None:
        """Return when nothing is in flight. AssertionError: something is left."""
        with trio.move_on_after(1.0):
            while self.inference.in_flight or self._leases():  # noqa: ASYNC110 - it has no event
                await trio.sleep(0.01)
        left = self._leases()
        assert not left, f"leases are left: {left}"
        assert not self.inference.in_flight, "a request is left in flight"

    def _leases(self) -> list[Any]:
        return [lease for member in self.fleet.members.values() for lease in member.gate.leases]


async def ask_bare(
    connection: trio.abc.HalfCloseableStream, model: str, *, stream: bool, headers: bytes = b""
) -> Result:
    """One request on a new connection, which is closed after it."""
    body = request_body(model, stream=stream)
    began = trio.current_time()
    async with connection:
        caller = Caller(connection)
        await caller.say(HEAD % (len(body), headers) + body)
        reply = await caller.reply()
    seconds = trio.current_time() - began
    if stream and reply.headers["content-type"].startswith("text/event-stream"):
        return read_events(reply.body.decode(), reply.headers, seconds)
    return read_whole(reply.status, reply.body, reply.headers, seconds)


def request_body(model: str, *, stream: bool) -> bytes:
    return json.dumps({"model": model, "messages": HELLO, "stream": stream}).encode()


def read_whole(status: int, body: bytes, headers: dict[str, str], seconds: float) -> Result:
    answer = json.loads(body)
    if status != 200:
        code = answer["error"]["code"]
        return Result(code=code, status=status, said="", seconds=seconds, headers=headers)
    said = answer["choices"][0]["message"]["content"]
    return Result(code=None, status=200, said=said, seconds=seconds, headers=headers)


def read_events(text: str, headers: dict[str, str], seconds: float) -> Result:
    """Every event must be JSON, the last one `[DONE]` or an error: a strict client's view."""
    *events, last = text.split("\n\n")
    assert last == "", f"the stream ends within an event: {last!r}"
    said, code, finished, done = "", None, False, False
    for event in events:
        if event.startswith(":"):
            continue
        data = event.removeprefix("data: ")
        assert not done, f"after [DONE]: {event}"
        if data == "[DONE]":
            done = True
            continue
        chunk: Any
        try:
            chunk = json.loads(data)
        except json.JSONDecodeError:
            chunk = {"error": {"code": NOT_JSON}}
        if "error" in chunk:
            code = chunk["error"]["code"]
            continue
        for choice in chunk["choices"]:
            said += choice["delta"].get("content") or ""
            finished = finished or bool(choice["finish_reason"])
    assert code == NOT_JSON or done == (code is None), f"a clean end and an error, or neither: {events[-2:]}"
    return Result(
        code=code, status=200, said=said, seconds=seconds, headers=headers, finished=finished, events=tuple(events)
    )


@asynccontextmanager
async def in_memory(net: MemoryNet, configured: dict[str, Any]) -> AsyncGenerator[InMemory]:
    """A router of this configuration on `net`: the real one, from the express lane to the adapters' transports."""
    config = load_text(json.dumps(configured), environ={})
    with (
        patch("infermux.providers.express.connect", net.connect),
        patch("infermux.providers.express.connect_here", net.connect_here),
    ):
        async with open_fleet(config, environ={}, rng=random.Random(1)) as fleet, trio.open_nursery() as nursery:
            inference = Inference(fleet, Rules.of(config))
            lane = Lane(
                handler=inference,
                is_inference=is_inference,
                elsewhere=Nothing(),
                limits=config.limits,
                watch=PollingWatch(interval=3600.0),
            )

            async def accept(wire: MemoryWire) -> None:
                await Connection(lane, wire, client=("127.0.0.1", 1)).serve()

            nursery.start_soon(lane.run)
            yield InMemory(net, fleet, lane, inference, net.listen(nursery, accept))
            nursery.cancel_scope.cancel()


def virtually(cases: Sequence[Case], *, rescue: bool) -> list[Run]:
    """Run all cases one after the other in memory, on a virtual clock at the real figures, asked byte by byte."""
    return [
        run_virtually(partial(_virtually, case, stream=stream, rescue=rescue), seed=1) for case, stream in asked(cases)
    ]


async def _virtually(case: Case, *, stream: bool, rescue: bool) -> Run:
    async with AsyncExitStack() as stack:
        net = MemoryNet()
        placed = await place(stack, case, stream, scale=1.0, net=net)
        world = await stack.enter_async_context(in_memory(net, configuration([placed], 1.0, rescue=rescue)))
        result = await world.ask(placed.model, stream=stream)
        await world.settle()
    return placed.run(result, rescue=rescue)
