"""The ASGI binding of `Exchange`: the inference handler under any ASGI server on trio, HTTP/2 included.

ASGI tells that the caller has left only to who waits for it, so each request has a nursery with one task that receives
all messages: the body's parts, then `http.disconnect`. Header and framing rules are the server's here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import trio

from infermux.config.settings import LimitSettings
from infermux.errors import InfermuxError, RequestTimeout
from infermux.providers.transport import Stoppable

from .answers import (
    MIN_BODY_RATE,
    Answer,
    outside_headers,
    render_headers,
    require_length,
    run_handler,
    too_large,
)
from .errors import error_answer, shape_of
from .exchange import CallerLeft, Handler, Head, HeaderLines, Headers, IsInference

SMALL_PART = 64 * 1024
"""Bytes up to which parts of a body are put together: servers hand on chunks as they are, of two bytes, say."""
MOST_UNREAD = 256 * 1024
"""Bytes of a body that is handed on as it comes that are received ahead."""

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]


class AsgiExchange:
    """One request of an ASGI server. `listen` must run beside the handler."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        limits: LimitSettings,
        is_shutting_down: Callable[[], bool],
    ) -> None:
        self.head = head_of(scope)
        self.left = False
        self.stalled = False
        self.answer = Answer.NONE
        self._receive = receive
        self._send = send
        self._limits = limits
        self._is_shutting_down = is_shutting_down
        self._http1 = scope["http_version"] in ("1.0", "1.1")
        self._framed = not self._http1 or any(
            name in (b"content-length", b"transfer-encoding") for name, _ in self.head.headers
        )
        self._parts: list[bytes | bytearray] = []
        self._received = 0
        self._complete = trio.Event()  # no more of the body is to come: it is whole, too long, or the caller left
        self._whole = False
        self._pieces: BodyPieces | None = None  # of a body that is not to be held whole
        self._watched: Stoppable | None = None
        self._start: Message | None = None
        self._unsent: list[bytes] = []
        self._aborted = False

    def __repr__(self) -> str:
        return f"AsgiExchange({self.head.method!r} {self.head.path!r}, {self.answer.name})"

    @property
    def shutting_down(self) -> bool:
        return self._is_shutting_down()

    @property
    def gone(self) -> bool:
        return self.left or self._aborted

    def watch(self, scope: Stoppable | None) -> None:
        self._watched = scope
        if scope is not None and self.left:
            scope.cancel()

    # In.

    async def listen(self) -> None:
        """Receive until the caller leaves."""
        while not self.left:
            if self._pieces is not None:
                await self._pieces.wait_for_room(self._parts)
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._on_left()
            else:
                self._take_part(message)

    def _take_part(self, message: Message) -> None:
        part: bytes = message.get("body", b"")
        self._received += len(part)
        if self._received > self._limits.max_body_bytes:
            self._parts.clear()
            self._complete.set()  # what else comes is dropped; the answer ends it
            if self._pieces is not None:
                self._pieces.arrived.set()
            return
        add_part(self._parts, part)
        if not message.get("more_body", False):
            self._whole = True
            self._complete.set()
        if self._pieces is not None:
            self._pieces.arrived.set()

    def _on_left(self) -> None:
        self.left = True
        self._complete.set()
        if self._pieces is not None:
            self._pieces.arrived.set()
        if self._watched is not None:
            self._watched.cancel()

    async def body(self) -> bytes:
        self._check_length()
        await self._wait_for_body()
        self._check_received()
        if not self._whole:
            raise CallerLeft
        whole = b"".join(self._parts)
        self._parts = [whole]
        return whole

    async def receive_body(self) -> bytes | None:
        if self._pieces is None:
            self._check_length()
            self._pieces = BodyPieces(self._limits.header_timeout)
        pieces = self._pieces
        while not (data := pieces.take(self._parts)) and not self._complete.is_set():
            await pieces.wait()
        self._check_received()
        if not data and not self._whole:
            raise CallerLeft
        return data or None

    def _check_length(self) -> None:
        limit = self._limits.max_body_bytes
        declared = self.head.get(b"content-length")
        if declared is not None and declared.isdigit() and int(declared) > limit:
            raise too_large(limit)
        if not self._framed:
            require_length(self.head.method)

    def _check_received(self) -> None:
        if self._received > self._limits.max_body_bytes:
            raise too_large(self._limits.max_body_bytes)

    async def _wait_for_body(self) -> None:
        deadline = trio.current_time() + self._limits.header_timeout
        while not self._complete.is_set():
            received = self._received
            with trio.CancelScope(deadline=deadline + received / MIN_BODY_RATE):
                await self._complete.wait()
            if not self._complete.is_set() and self._received == received:
                raise RequestTimeout("The request's body came too slowly.")

    # Out.

    async def respond(self, status: int, headers: Headers | HeaderLines, body: bytes) -> None:
        length = [] if status == 204 else [(b"content-length", b"%d" % len(body))]
        self._begin(status, headers, length)
        self.answer = Answer.DONE
        if status not in (204, 304) and self.head.method != b"HEAD":
            self._unsent.append(body)
        await self._deliver(more=False)

    def start(self, status: int, headers: Headers | HeaderLines) -> None:
        self._begin(status, headers, [])
        self.answer = Answer.STARTED

    def _begin(self, status: int, headers: Headers | HeaderLines, framing: list[tuple[bytes, bytes]]) -> None:
        if self.answer is not Answer.NONE:
            raise RuntimeError("the answer has begun already")
        render_headers(headers)  # for its check
        lowered = [(name.lower(), value) for name, value in outside_headers(headers)]
        if self._unread:
            framing = [*framing, (b"connection", b"close")]
        self._start = {"type": "http.response.start", "status": status, "headers": lowered + framing}

    @property
    def _unread(self) -> bool:
        """Whether some of an HTTP/1 body is still to come: hypercorn closes after the answer, and does not say so."""
        return self._http1 and not self._whole and self.head.get(b"content-length") != b"0" and self._framed

    def send_now(self, data: bytes) -> bool:
        if self.answer is not Answer.STARTED:
            raise RuntimeError("send_now is for a started answer")
        if data:
            self._unsent.append(data)
        return False

    async def flush(self) -> None:
        if self._unsent or self._start is not None:
            await self._deliver(more=True)
        elif self.gone:
            raise CallerLeft

    async def finish(self, trailers: Headers = ()) -> None:
        """`trailers` are left out: servers need not know them, they are an extension of ASGI."""
        del trailers
        if self.answer is not Answer.STARTED:
            raise RuntimeError("finish is for a started answer")
        self.answer = Answer.DONE
        await self._deliver(more=False)

    async def _deliver(self, *, more: bool) -> None:
        if self.gone:
            raise CallerLeft
        with trio.move_on_after(self._limits.write_timeout) as scope:
            if self._start is not None:
                start, self._start = self._start, None
                await self._send(start)
            body, self._unsent = b"".join(self._unsent), []
            await self._send({"type": "http.response.body", "body": body, "more_body": more})
        if scope.cancelled_caught:
            self.stalled = True
            self._on_left()
        if self.left and (more or scope.cancelled_caught):
            raise CallerLeft

    def abort(self) -> None:
        """An application that ends without having ended its answer makes hypercorn cut it."""
        self._aborted = True

    async def fail(self, error: InfermuxError) -> None:
        if self.answer is Answer.NONE:
            await self.respond(error.status, *error_answer(error, shape_of(self.head.path)))
        elif self.answer is Answer.STARTED:
            self.abort()


def add_part(parts: list[bytes | bytearray], part: bytes) -> None:
    """Keep one more part of a body. Of small ones no object each: that would take twenty times their size."""
    last = parts[-1] if parts else None
    if len(part) >= SMALL_PART:
        parts.append(part)
    elif isinstance(last, bytearray) and len(last) < SMALL_PART:
        last += part
    else:
        parts.append(bytearray(part))


class BodyPieces:
    """A body that is handed on as it comes: between the task that receives it and the one that takes it."""

    def __init__(self, allowed: float) -> None:
        self.arrived = trio.Event()
        self._room = trio.Event()
        self._allowed = allowed  # seconds of the caller's slowness that are left, but for what came
        self._taken = 0

    def take(self, parts: list[bytes | bytearray]) -> bytes:
        """All that is there; b"" for nothing."""
        data = b"".join(parts)
        parts.clear()
        self._taken += len(data)
        self._room.set()
        return data

    async def wait(self) -> None:
        """Return when something came. Raises RequestTimeout."""
        self.arrived = trio.Event()
        started = trio.current_time()
        with trio.move_on_after(self._allowed + self._taken / MIN_BODY_RATE):
            await self.arrived.wait()
        if not self.arrived.is_set():
            raise RequestTimeout("The request's body came too slowly.")
        self._allowed -= trio.current_time() - started

    async def wait_for_room(self, parts: list[bytes | bytearray]) -> None:
        """Return when what is there has been taken, for the most part."""
        while sum(map(len, parts)) >= MOST_UNREAD:
            self._room = trio.Event()
            await self._room.wait()


def head_of(scope: Scope) -> Head:
    raw_path = scope.get("raw_path") or scope["path"].encode()
    path: bytes = raw_path.partition(b"?")[0]
    headers = [(bytes(name).lower(), bytes(value)) for name, value in scope["headers"]]
    client = scope.get("client")
    return Head(
        method=scope["method"].encode(),
        path=path,
        query=scope.get("query_string", b""),
        headers=headers,
        client=(client[0], client[1]) if client else None,
    )


def inference_app(
    handler: Handler,
    is_inference: IsInference,
    fallback: AsgiApp,
    *,
    limits: Callable[[], LimitSettings],
    is_shutting_down: Callable[[], bool] = lambda: False,
) -> AsgiApp:
    """An ASGI application that serves inference by `handler` and everything else, lifespan included, by `fallback`."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            exchange = AsgiExchange(scope, receive, send, limits=limits(), is_shutting_down=is_shutting_down)
            if is_inference(exchange.head.method, exchange.head.path):
                await _answer(handler, exchange)
                return
        await fallback(scope, receive, send)

    return app


async def _answer(handler: Handler, exchange: AsgiExchange) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exchange.listen)
        try:
            await run_handler(handler, exchange)
        except CallerLeft:
            pass
        finally:
            nursery.cancel_scope.cancel()
