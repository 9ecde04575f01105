"""An upstream of bare sockets on loopback that does exactly what a test's script says, in the test's own trio loop."""

from __future__ import annotations

import os
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable

import trio

from infermux.providers.transport import Origin


class Peer:
    """The upstream's end of one connection. `number` counts connections from 0."""

    def __init__(
        self, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream], sock: object, number: int
    ) -> None:
        self.stream = stream
        self.number = number
        self._sock = sock
        self._buffer = b""

    async def request(self) -> tuple[bytes, bytes] | None:
        """The next request's head and body; None when the client has closed."""
        while b"\r\n\r\n" not in self._buffer:
            if not await self._more():
                return None
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        while len(self._buffer) < length:
            if not await self._more():
                return None
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return head, body

    async def _more(self) -> bool:
        try:
            data = await self.stream.receive_some(65536)
        except trio.BrokenResourceError:
            return False
        self._buffer += data
        return bool(data)

    async def send(self, data: bytes) -> None:
        """Send; a client that has gone is not the script's error."""
        try:
            await self.stream.send_all(data)
        except trio.BrokenResourceError:
            pass

    async def left(self) -> None:
        """Wait until the client has closed its side."""
        while await self._more():
            pass

    def reset(self) -> None:
        """Close so that the client gets a reset."""
        sock = self._sock
        assert isinstance(sock, trio.socket.SocketType)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()


Script = Callable[[Peer], Awaitable[None]]


class Upstream:
    """A listening script. `requests` are the heads and bodies that `answering` scripts got."""

    def __init__(self, origin: Origin, script: Script, context: ssl.SSLContext | None) -> None:
        self.origin = origin
        self.connections = 0
        self.requests: list[tuple[bytes, bytes]] = []
        self._script = script
        self._context = context

    async def serve(self, stream: trio.SocketStream) -> None:
        number, self.connections = self.connections, self.connections + 1
        wrapped: trio.SocketStream | trio.SSLStream[trio.SocketStream] = stream
        if self._context is not None:
            wrapped = trio.SSLStream(stream, self._context, server_side=True, https_compatible=True)
            try:
                await wrapped.do_handshake()
            except trio.BrokenResourceError:
                return
        await self._script(Peer(wrapped, stream.socket, number))


async def upstream(
    nursery: trio.Nursery, script: Script, *, context: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> Upstream:
    """Serve `script` in `nursery`, one task per connection, which is closed when the script returns."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    serving = Upstream(Origin(host, port, context is not None), script, context)
    nursery.start_soon(trio.serve_listeners, serving.serve, listeners)
    return serving


def answering(*answers: bytes) -> Script:
    """A script that gives every connection these answers in turn, the last one again and again."""

    async def script(peer: Peer) -> None:
        count = 0
        while await peer.request() is not None:
            await peer.send(answers[min(count, len(answers) - 1)])
            count += 1

    return script


def ok(body: bytes, *headers: bytes) -> bytes:
    """A 200 with Content-Length."""
    lines = [b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))
