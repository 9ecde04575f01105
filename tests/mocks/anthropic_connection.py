"""One connection to the mock of Anthropic's API: how its requests are answered."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Protocol

import trio

from tests.mocks.anthropic_answers import Reply, continued
from tests.mocks.anthropic_rules import Refusal, refuse
from tests.mocks.inbox import Inbox, close, reset
from tests.mocks.memory_net import MemoryStream
from tests.mocks.openai_rules import Json, Recorded

REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}
LIMITS = (
    "anthropic-ratelimit-requests-limit: 4000",
    "anthropic-ratelimit-requests-remaining: 3999",
    "anthropic-ratelimit-requests-reset: 2026-01-01T00:00:01Z",
    "anthropic-ratelimit-tokens-limit: 400000",
    "anthropic-ratelimit-tokens-remaining: 399000",
    "anthropic-ratelimit-tokens-reset: 2026-01-01T00:00:01Z",
)


class Answering(Protocol):
    """The upstream behind a connection."""

    def came(self, request: Recorded) -> None: ...
    def left(self) -> None: ...
    def check(self, request: Recorded) -> Json | None: ...
    def next_reply(self) -> Reply: ...
    def whole(self, reply: Reply, request: Json) -> bytes: ...
    def events(self, reply: Reply, request: Json) -> Iterable[bytes]: ...


class Connection:
    """`number` counts connections from 1."""

    def __init__(self, upstream: Answering, stream: trio.SocketStream | MemoryStream, number: int) -> None:
        self._upstream = upstream
        self._stream = stream
        self._number = number
        self._answered = 0

    async def serve(self) -> None:
        await Inbox(self._stream, self._number).serve(self._handle)

    async def _handle(self, request: Recorded) -> None:
        self._upstream.came(request)
        try:
            await self._respond(request)
        finally:
            self._upstream.left()

    async def _respond(self, request: Recorded) -> None:
        try:
            answer = self._upstream.check(request)
        except Refusal as refusal:
            await self._send(request, refusal.status, refusal.body())
            return
        if answer is not None:
            await self._send(request, 200, json.dumps(answer).encode())
            return
        reply = self._upstream.next_reply()
        if reply.refuses_prefill and request.json["messages"][-1]["role"] == "assistant":
            said = "This model does not support assistant message prefill. The conversation must end with a user's."
            await self._send(request, 400, refuse(said).body())
            return
        await self._play(request, continued(reply, request.json) if reply.continues else reply)

    async def _play(self, request: Recorded, reply: Reply) -> None:
        await trio.sleep(reply.delay)
        if reply.hang:
            await trio.sleep_forever()
        if reply.reset:
            reset(self._stream)
        if reply.status != 200:
            error = Refusal(reply.status, reply.message or f"scripted {reply.status}").body()
            await self._send(request, reply.status, error if reply.body is None else reply.body, reply)
        elif reply.body is not None:
            await self._send(request, 200, reply.body, reply)
        elif request.json.get("stream") or reply.events is not None:
            await self._send_events(request, reply)
        else:
            await self._send(request, 200, self._upstream.whole(reply, request.json), reply)

    def _head(self, status: int, content_type: str, reply: Reply | None, framing: str) -> bytes:
        self._answered += 1
        lines = [
            f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}",
            f"Content-Type: {content_type}",
            f"request-id: req_mock{self._number}_{self._answered}",
            *LIMITS,
            framing,
        ]
        if reply is not None:
            ours = {name.lower() for name, _ in reply.headers}
            lines = [line for line in lines if line.partition(":")[0].lower() not in ours]
            lines += [f"{name}: {value}" for name, value in reply.headers]
            if not reply.keep_alive:
                lines.append("Connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    async def _send(self, request: Recorded, status: int, body: bytes, reply: Reply | None = None) -> None:
        kind = (reply.content_type if reply else None) or "application/json"
        head = self._head(status, kind, reply, f"Content-Length: {len(body)}")
        cut = None if reply is None else reply.cut_after if reply.reset_after is None else reply.reset_after
        await self._stream.send_all(head + body[:cut])
        if reply is not None and cut is not None and cut < len(body):
            if reply.reset_after is not None:
                await trio.sleep(0.02)  # a reset discards what the other side has not read yet
                reset(self._stream)
            await close(self._stream)
        request.finished_at = trio.current_time()
        if reply is not None and not reply.keep_alive:
            await close(self._stream)

    async def _send_events(self, request: Recorded, reply: Reply) -> None:
        chunked = reply.framing == "chunked"
        framing = "Transfer-Encoding: chunked" if chunked else "Connection: close"
        kind = reply.content_type or "text/event-stream; charset=utf-8"
        await self._stream.send_all(self._head(200, kind, reply, framing))
        made = self._upstream.events(reply, request.json) if reply.events is None else reply.events
        for event in made:
            match event:
                case b"CUT":
                    await close(self._stream)
                case b"RESET":
                    await trio.sleep(0.02)
                    reset(self._stream)
                case b"STALL":
                    await trio.sleep_forever()
                case b"WAIT":
                    await trio.sleep(reply.interval)
                case _:
                    await self._stream.send_all(b"%x\r\n%b\r\n" % (len(event), event) if chunked else event)
        if chunked:
            await self._stream.send_all(b"0\r\n\r\n")
        request.finished_at = trio.current_time()
        if not chunked or not reply.keep_alive:
            await close(self._stream)
