"""One connection to a mock upstream, read: its requests in turn, and whether the caller left meanwhile."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NoReturn

import httptools
import trio

from tests.mocks.memory_net import MemoryStream
from tests.mocks.openai_rules import Recorded


class Inbox:
    """Reads `stream`; `number` counts connections from 1."""

    def __init__(self, stream: trio.abc.Stream, number: int) -> None:
        self._stream = stream
        self._number = number
        self._parser = httptools.HttpRequestParser(self)
        self._target, self._body = b"", b""
        self._headers: list[tuple[str, str]] = []
        self._waiting: deque[Recorded] = deque()
        self._current: Recorded | None = None
        self._arrived = trio.Event()

    # httptools calls these
    def on_message_begin(self) -> None:
        self._target, self._body, self._headers = b"", b"", []

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        method = self._parser.get_method().decode()
        target = self._target.decode("ascii")
        self._waiting.append(Recorded(method, target, self._headers, self._body, trio.current_time(), self._number))
        self._arrived.set()

    async def serve(self, answer: Callable[[Recorded], Awaitable[None]]) -> None:
        """Answer one request after the other, until the caller leaves: that cancels the answer and is noted in it."""
        try:
            async with trio.open_nursery() as nursery, self._stream:
                nursery.start_soon(self._read, nursery.cancel_scope)
                while True:
                    await self._arrived.wait()
                    self._arrived = trio.Event()
                    while self._waiting:
                        await self._handle(self._waiting.popleft(), answer)
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the caller left, or the script closed the connection

    async def _read(self, scope: trio.CancelScope) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError, httptools.HttpParserError):
            while data := await self._stream.receive_some():
                self._parser.feed_data(data)
        if self._current is not None and self._current.finished_at is None:
            self._current.closed_at = trio.current_time()
        scope.cancel()

    async def _handle(self, request: Recorded, answer: Callable[[Recorded], Awaitable[None]]) -> None:
        self._current = request
        try:
            await answer(request)
        except trio.BrokenResourceError:
            request.closed_at = request.closed_at or trio.current_time()
            raise


async def close(stream: trio.SocketStream | MemoryStream) -> NoReturn:
    """End the connection; raises what ends `Inbox.serve`."""
    await stream.aclose()
    raise trio.ClosedResourceError


def reset(stream: trio.SocketStream | MemoryStream) -> NoReturn:
    """Break the connection for both sides; raises what ends `Inbox.serve`."""
    if isinstance(stream, MemoryStream):
        stream.reset()
    else:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.socket.close()
    raise trio.ClosedResourceError
