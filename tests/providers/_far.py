"""The far ends of an express transport's connections, in memory."""

from __future__ import annotations

import pytest
import trio

from infermux.errors import UpstreamFailure
from infermux.providers.express import ExpressTransport
from infermux.providers.transport import Origin, Response
from infermux.providers.wire import MemoryWire, Wire, memory_pair

ORIGIN = Origin("upstream.test", 80, False)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Far:
    """The other ends of the connections a transport made, in order."""

    def __init__(self, capacity: int = 65536) -> None:
        self.ends: list[MemoryWire] = []
        self.near: list[MemoryWire] = []
        self._capacity = capacity

    async def dial(self, origin: Origin) -> Wire:
        near, end = memory_pair(self._capacity)
        self.near.append(near)
        self.ends.append(end)
        return near

    async def answer(self, number: int, data: bytes) -> bytes:
        """Wait for a request on connection `number`, answer it; returns what came."""
        while len(self.ends) <= number:
            await trio.lowlevel.checkpoint()
        request = await self.ends[number].receive()
        await self.ends[number].send(data)
        return request


async def exchange(transport: ExpressTransport, far: Far, number: int, answer: bytes) -> Response:
    """One request, answered on connection `number`."""
    got: list[Response] = []

    async def ask() -> None:
        got.append(await transport.request(b"POST", b"/", (), b"{}"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await far.answer(number, answer)
    return got[0]


async def failing(transport: ExpressTransport, body: bytes = b"{}") -> UpstreamFailure:
    with pytest.raises(UpstreamFailure) as caught:
        await transport.request(b"POST", b"/", (), body)
    return caught.value
