"""A request to the inference handler without a server: its answer in memory, its caller able to leave, on any clock."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import trio

from infermux.errors import CallerLeft
from infermux.http.exchange import Exchange, Head, HeaderLines, Headers, pairs_of
from infermux.providers.transport import Stoppable

CHAT = "/v1/chat/completions"


class MemoryExchange(Exchange):
    """One request with `body`; `status`, `headers` and `chunks` are what was answered, `whole` not streamed.

    `stuck`: for so many seconds the caller reads nothing of its answer; `slow`: its body takes so long.
    """

    def __init__(self, body: Any, path: str = CHAT, headers: Mapping[str, str] | None = None) -> None:
        sent = [(b"host", b"localhost")]
        sent += [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        self._head = Head(b"POST", path.encode(), b"", sent)
        self._body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._left = False
        self._scope: Stoppable | None = None
        self.shutting = False
        self.status = 0
        self.headers: dict[str, str] = {}
        self.chunks: list[bytes] = []
        self.whole = False
        self.ended = False
        self.stuck = 0.0
        self.slow = 0.0

    @property
    def head(self) -> Head:
        return self._head

    @property
    def left(self) -> bool:
        return self._left

    @property
    def stalled(self) -> bool:
        return False

    @property
    def shutting_down(self) -> bool:
        return self.shutting

    @property
    def data(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def cache(self) -> str | None:
        return self.headers.get("x-infermux-cache")

    def leave(self) -> None:
        self._left = True
        if self._scope is not None:
            self._scope.cancel()

    async def body(self) -> bytes:
        await trio.sleep(self.slow)
        return self._body

    async def receive_body(self) -> bytes | None:
        return None

    def watch(self, scope: Stoppable | None) -> None:
        self._scope = scope
        if scope is not None and self._left:
            scope.cancel()

    async def respond(self, status: int, headers: Headers | HeaderLines, body: bytes) -> None:
        self._begin(status, headers)
        await trio.sleep(self.stuck)
        self.chunks, self.whole, self.ended = [body], True, True

    def start(self, status: int, headers: Headers | HeaderLines) -> None:
        self._begin(status, headers)

    def send_now(self, data: bytes) -> bool:
        self.chunks.append(data)
        return not self.stuck

    async def flush(self) -> None:
        stuck, self.stuck = self.stuck, 0.0
        await trio.sleep(stuck)
        if self._left:
            raise CallerLeft

    async def finish(self, trailers: Headers = ()) -> None:
        del trailers
        await self.flush()
        self.ended = True

    def abort(self) -> None:
        self._left = True

    def _begin(self, status: int, headers: Headers | HeaderLines) -> None:
        assert not self.status, "one answer, and it began already"
        pairs = pairs_of(headers) if isinstance(headers, bytes) else headers
        self.status = status
        self.headers = {name.decode(): value.decode() for name, value in pairs}
        assert len(self.headers) == len(pairs), "each header once"
