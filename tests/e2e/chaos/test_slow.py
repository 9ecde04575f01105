"""Callers that read slowly or not at all: what is held for them is bounded, and their upstream stops."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio
from trio.testing import MockClock

from infermux.providers.wire import RECEIVE_SIZE, MemoryWire
from tests.e2e._router import provider
from tests.e2e.chaos._callers import request
from tests.e2e.faults._memory import InMemory, in_memory
from tests.mocks.memory_net import MemoryNet, MemoryStream

EVENT = b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": "x" * 20_000}}]}).encode() + b"\n\n"
# On its way from the provider to the caller a stream fills the two connections; the router itself may hold what it
# read last and what did not fit: an event each.
MOST_HELD = 2 * RECEIVE_SIZE + 4 * len(EVENT)


@attrs.define
class Flood:
    """A provider that says as much as anybody takes. `sent` and `open` over all of its streams."""

    sent: int = 0
    open: int = 0

    async def serve(self, wire: MemoryWire) -> None:
        stream = MemoryStream(wire)
        self.open += 1
        try:
            await stream.receive_some()
            await stream.send_all(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            while True:
                await stream.send_all(b"%x\r\n%b\r\n" % (len(EVENT), EVENT))
                self.sent += len(EVENT)
        except trio.BrokenResourceError:
            pass
        finally:
            self.open -= 1


@asynccontextmanager
async def flooded(**config: Any) -> AsyncGenerator[tuple[InMemory, Flood]]:
    net = MemoryNet()
    flood = Flood()
    async with trio.open_nursery() as nursery:
        port = net.listen(nursery, flood.serve)
        file = {"providers": [provider("flood", f"http://127.0.0.1:{port}/v1", models=["m"])], **config}
        async with in_memory(net, file) as world:
            yield world, flood
        nursery.cancel_scope.cancel()


async def asking(world: InMemory) -> MemoryStream:
    stream = await world.net.open_stream(world.port)
    await stream.send_all(request("m", stream=True))
    return stream


async def test_what_is_held_for_slow_readers_is_bounded(autojump_clock: MockClock) -> None:
    async with flooded() as (world, flood):
        streams = [await asking(world) for _ in range(20)]
        read = 0
        for _ in range(30):
            await trio.sleep(1)
            for stream in streams:
                read += len(await stream.receive_some(4096))
            assert flood.sent - read <= len(streams) * MOST_HELD
        assert read >= 20 * 30 * 4096 * 0.9
        for stream in streams:
            await stream.aclose()


async def test_it_is_bounded_too_while_the_answer_may_have_to_be_rescued(autojump_clock: MockClock) -> None:
    kept = 1024 * 1024
    async with flooded(rescue="continue") as (world, flood):
        stream = await asking(world)
        read = 0
        while read < 4 * kept:
            read += len(await stream.receive_some())
        assert flood.sent - read <= MOST_HELD
        await stream.aclose()


async def test_who_stops_reading_is_cut_after_the_write_timeout_and_its_upstream_with_it(
    autojump_clock: MockClock,
) -> None:
    async with flooded(limits={"write_timeout": "10s"}) as (world, flood):
        streams = [await asking(world) for _ in range(20)]
        await trio.sleep(5)
        assert flood.open == len(streams)
        stopped_at = flood.sent
        assert stopped_at <= len(streams) * MOST_HELD
        await trio.sleep(4)
        assert flood.sent == stopped_at, "nobody reads, nobody is asked for more"
        await trio.sleep(2)
        await world.settle()
        assert flood.open == 0
        assert not world.lane.connections
        for stream in streams:
            await stream.aclose()
