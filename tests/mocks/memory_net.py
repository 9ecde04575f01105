"""A loopback in memory, on any clock: ports that are listened on and connected to, as trio streams and as wires."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Awaitable, Callable

import trio

from infermux.providers.wire import MemoryWire, WireBroken, memory_pair

Accept = Callable[[MemoryWire], Awaitable[None]]


class MemoryStream(trio.abc.HalfCloseableStream):
    """A wire as trio's own streams are: what a mock upstream or a test's caller talks on."""

    def __init__(self, wire: MemoryWire) -> None:
        self._wire = wire

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            await self._wire.send(bytes(data))
        except WireBroken as error:
            raise self._ended() from error

    async def wait_send_all_might_not_block(self) -> None:
        await self._wire.wait_writable()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        try:
            return await self._wire.receive(max_bytes or 65536)
        except WireBroken as error:
            raise self._ended() from error

    async def send_eof(self) -> None:
        self._wire.send_eof()
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        self._wire.close()
        await trio.lowlevel.checkpoint()

    def reset(self) -> None:
        """Break the connection for both sides."""
        self._wire.reset()
        self._wire.close()

    def _ended(self) -> Exception:
        if self._wire.closed:
            return trio.ClosedResourceError("this stream was closed")
        return trio.BrokenResourceError("the connection broke")


class MemoryNet:
    """Who listens on which port."""

    def __init__(self) -> None:
        self._listening: dict[int, tuple[trio.Nursery, Accept]] = {}
        self._ports = itertools.count(1001)
        self.unanswered: set[int] = set()
        """Ports to which connecting takes for ever."""

    def listen(self, nursery: trio.Nursery, accept: Accept, port: int = 0) -> int:
        """Serve `port` (0: any) from now on, each connection in a task of `nursery`; its number."""
        port = port or next(self._ports)
        self._listening[port] = nursery, accept
        return port

    def close(self, port: int) -> None:
        """Connecting to `port` is refused from now on."""
        del self._listening[port]

    def connect_here(self, _host: str, _port: int) -> None:
        """It takes a wait. In place of `tcp.connect_here`."""

    async def connect(self, _host: str, port: int) -> MemoryWire:
        """The caller's end of a new connection. Raises ConnectionRefusedError. In place of `tcp.connect`."""
        await trio.lowlevel.checkpoint()
        if port in self.unanswered:
            await trio.sleep_forever()
        listening = self._listening.get(port)
        if listening is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        nursery, accept = listening
        ours, theirs = memory_pair()
        nursery.start_soon(accept, theirs)
        return ours

    async def open_stream(self, port: int) -> MemoryStream:
        """As `trio.open_tcp_stream`."""
        return MemoryStream(await self.connect("127.0.0.1", port))
