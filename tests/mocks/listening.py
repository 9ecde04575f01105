"""A mock upstream's door: a socket of the loopback, or a port in memory."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable

import trio

from infermux.providers.wire import MemoryWire
from tests.mocks.memory_net import MemoryNet, MemoryStream

Accept = Callable[[trio.SocketStream | MemoryStream], Awaitable[None]]


@contextlib.asynccontextmanager
async def listening(accept: Accept, *, net: MemoryNet | None, port: int) -> AsyncGenerator[int]:
    """Yields the port, `port` or, where that is 0, any free one. In the end connections are cut."""

    async def accept_wire(wire: MemoryWire) -> None:
        await accept(MemoryStream(wire))

    async with trio.open_nursery() as nursery:
        if net is None:
            listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
            port = listeners[0].socket.getsockname()[1]
            nursery.start_soon(trio.serve_listeners, accept, listeners)
        else:
            port = net.listen(nursery, accept_wire, port)
        yield port
        if net is not None:
            net.close(port)
        nursery.cancel_scope.cancel()
