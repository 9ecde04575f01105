"""A caller that says exactly the bytes it is told to, and reads answers without a client's leniency."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import attrs
import trio

from tests.http._serving import INFERENCE


@attrs.frozen
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


class Caller:
    """One connection."""

    def __init__(self, stream: trio.abc.HalfCloseableStream | trio.SSLStream[trio.SocketStream]) -> None:
        self.stream = stream
        self._buffer = b""

    async def say(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def post(self, body: bytes = b"", *, path: bytes = INFERENCE, headers: bytes = b"") -> None:
        await self.say(
            b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%b\r\n" % (path, len(body), headers) + body
        )

    async def get(self, path: bytes, headers: bytes = b"") -> None:
        await self.say(b"GET %b HTTP/1.1\r\nHost: x\r\n%b\r\n" % (path, headers))

    async def until(self, mark: bytes) -> bytes:
        """What comes, up to and with `mark`. Raises EOFError when it does not come."""
        while mark not in self._buffer:
            if not await self._more():
                raise EOFError(self._buffer)
        data, _, self._buffer = self._buffer.partition(mark)
        return data + mark

    async def exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            if not await self._more():
                raise EOFError(self._buffer)
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        return data

    async def rest(self) -> bytes:
        """All that comes until the other side closes; a reset counts as closing."""
        while await self._more():
            pass
        data, self._buffer = self._buffer, b""
        return data

    async def _more(self) -> bool:
        try:
            data = await self.stream.receive_some()
        except trio.BrokenResourceError:
            return False
        self._buffer += data
        return bool(data)

    async def head(self) -> Reply:
        """A reply's head."""
        first, *lines = (await self.until(b"\r\n\r\n")).decode().splitlines()
        headers = dict(line.lower().split(": ", 1) for line in lines if line)
        return Reply(int(first.split()[1]), headers, b"")

    async def reply(self, *, bodyless: bool = False) -> Reply:
        """A whole reply."""
        head = await self.head()
        if bodyless:
            return head
        if "content-length" in head.headers:
            return attrs.evolve(head, body=await self.exactly(int(head.headers["content-length"])))
        if head.headers.get("transfer-encoding") == "chunked":
            return attrs.evolve(head, body=b"".join(await self.chunks()))
        return attrs.evolve(head, body=await self.rest())

    async def chunks(self) -> list[bytes]:
        """The chunks of a body up to its end."""
        found: list[bytes] = []
        while chunk := await self.chunk():
            found.append(chunk)
        return found

    async def chunk(self) -> bytes:
        size = int(await self.until(b"\r\n"), 16)
        data = await self.exactly(size + 2)
        assert data.endswith(b"\r\n")
        return data[:-2]


@asynccontextmanager
async def calling(port: int, tls: ssl.SSLContext | None = None) -> AsyncGenerator[Caller]:
    """A connection to `port`; whatever is done on it is bounded by five seconds."""
    with trio.fail_after(5):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            if tls is None:
                yield Caller(stream)
            else:
                secured = trio.SSLStream(stream, tls, server_hostname="localhost", https_compatible=True)
                await secured.do_handshake()
                yield Caller(secured)
