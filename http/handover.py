"""Handing requests that are not inference, and HTTP/2 connections, to hypercorn.

Hypercorn's own `TCPServer` serves them from a stream that replays what was read already. Of HTTP/1.1 it gets one
request at a time: the checked head, written anew, and exactly the body that belongs to it. When hypercorn reports that
request done (`Updated(idle=True)`, sent when it recycles its parser) the connection goes back to the express lane: a
caller that lists models once is not served the dear way for ever. Upgrades and HTTP/2 are hypercorn's to the end.

`TCPServer`, `Lifespan` and `WorkerContext` are undocumented: the version is pinned, and tests/http/test_handover.py
pins what is relied upon. Over plain TCP it wants a stream with `.socket` and without `do_handshake`; under TLS one with
`do_handshake`, `selected_alpn_protocol` and `transport_stream.socket`.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol, cast

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Event, Updated
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState, LifespanState, TaskGroup

from infermux.config.settings import LimitSettings
from infermux.errors import InfermuxError, RateLimited, RequestTimeout
from infermux.providers.wire import WireBroken

from .chunked import ChunkedDecoder
from .connection import IDLE_TIMEOUT, Connection
from .framing import MAX_HEAD_BYTES, ParsedHead
from .http2 import Http2, ServerArguments

AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]

LET_GO = 2.0
"""Seconds for an application to end after hypercorn is done with its connection."""
_PIECE = 65536
_HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"upgrade", b"http2-settings"})
_WEBSOCKET = b"websocket"


class Hypercorn:
    """Serves an ASGI application on connections accepted elsewhere; an `Elsewhere` of the express lane."""

    def __init__(self, app: AsgiApp, limits: LimitSettings) -> None:
        self._app = ASGIWrapper(cast(Any, app))
        self._config = hypercorn_config(limits)
        self._context = WorkerContext(None)
        self._state: LifespanState = {}

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        """The application's lifespan, as hypercorn's worker has it.

        Raises hypercorn's LifespanFailureError and LifespanTimeoutError. Leaving the block by an exception, or by being
        cancelled, cancels the application's lifespan task.
        """
        lifespan = Lifespan(self._app, self._config, self._state)
        async with trio.open_nursery() as nursery:
            await nursery.start(lifespan.handle_lifespan)
            await lifespan.wait_for_startup()
            yield
            await lifespan.wait_for_shutdown()
            nursery.cancel_scope.cancel()

    async def shut_down(self) -> None:
        """Let connections go: idle HTTP/2 ones at once, the others after the answers they are at."""
        await self._context.terminated.set()

    async def answer(self, connection: Connection, head: ParsedHead) -> bool:
        websocket = head.upgrade == _WEBSOCKET and head.method == b"GET" and head.minor == 1 and not head.has_body
        reuse = head.keep_alive and head.minor == 1 and not connection.lane.leaving
        stream = replay_stream(connection, connection.lane.limits)
        stream.replay(render_head(head, reuse=reuse, websocket=websocket))
        if websocket:
            with stream.letting_go:
                await TCPServer(*self._server_arguments(stream))
            return False
        if head.chunked:
            stream.limit_to(_Chunks(connection.lane.limits.max_body_bytes))
        else:
            stream.limit_to(_Length(head.length or 0))
        connection.leave_callback = stream.stop
        try:
            with stream.letting_go:
                await _OneRequest(self._server_arguments(stream))
        finally:
            connection.leave_callback = None
        if stream.finished and reuse:
            return not connection.left and not connection.lane.leaving
        if not connection.closed and (connection.buffer or head.has_body):
            await connection.linger()
        return False

    async def take_http2(self, connection: Connection) -> None:
        def too_many() -> None:
            connection.lane.refused(RateLimited("Too many streams were reset on this connection."), connection.client)

        stream = replay_stream(connection, connection.lane.limits)
        with stream.letting_go:
            await Http2(self._server_arguments(stream), tls=connection.tls, too_many_resets=too_many)

    def _server_arguments(self, stream: ReplayStream) -> ServerArguments:
        return self._app, self._config, self._context, ConnectionState(self._state.copy()), stream


def hypercorn_config(limits: LimitSettings) -> Config:
    """Hypercorn's settings, none left to chance: its defaults drop idle connections after 5 s and log to stderr."""
    config = Config()
    config.accesslog = None
    config.errorlog = logging.getLogger("infermux.hypercorn")
    config.include_server_header = False
    config.keep_alive_timeout = IDLE_TIMEOUT  # HTTP/2 only: HTTP/1.1 waits for its next request in the express lane
    config.keep_alive_max_requests = 1_000_000
    config.h11_max_incomplete_size = 2 * MAX_HEAD_BYTES  # heads are checked before, by our own bound
    config.h2_max_header_list_size = MAX_HEAD_BYTES
    config.max_app_queue_size = 64  # parts of a body that wait for the application
    config.startup_timeout = config.shutdown_timeout = 30.0
    config.read_timeout = None  # the stream's own: it knows whether a body is awaited
    config.websocket_max_message_size = limits.max_body_bytes
    return config


class _Body(Protocol):
    """Tells which bytes belong to one request's body."""

    @property
    def complete(self) -> bool: ...
    def admit(self, data: bytes) -> int:
        """How many bytes of `data` belong to the body. Raises InfermuxError for ill-formed or too many ones."""
        ...


class _Length:
    def __init__(self, length: int) -> None:
        self._missing = length

    @property
    def complete(self) -> bool:
        return not self._missing

    def admit(self, data: bytes) -> int:
        count = min(len(data), self._missing)
        self._missing -= count
        return count


class _Chunks:
    def __init__(self, limit: int) -> None:
        self._decoder = ChunkedDecoder(limit=limit, keep=False)
        self.complete = False

    def admit(self, data: bytes) -> int:
        self.complete = self._decoder.feed(data)
        return len(data) - len(self._decoder.rest)


class ReplayStream:
    """What hypercorn takes for the accepted stream: first what was read already, then the live wire.

    It does not close the connection of one request, which belongs to the express lane; `aclose` only wakes hypercorn's
    reader. That may also be stuck in handing the body to an application that has ended without wanting it, for ever: so
    hypercorn must run in the scope `letting_go`, which gives it `LET_GO` seconds from `aclose` on.
    """

    def __init__(self, connection: Connection, limits: LimitSettings) -> None:
        self._connection = connection
        self._limits = limits
        self._replay = b""
        self._body: _Body | None = None
        self._stopped = trio.Event()
        self._closing = False
        self.finished = False
        self.letting_go = trio.CancelScope()

    def __repr__(self) -> str:
        return f"ReplayStream({self._connection!r}, finished={self.finished})"

    @property
    def socket(self) -> socket.socket:
        sock = self._connection.sock
        if sock is None:
            raise OSError("hypercorn needs a connection over a socket")
        return sock

    def replay(self, data: bytes) -> None:
        """Give `data` before anything else."""
        self._replay += data

    def limit_to(self, body: _Body) -> None:
        """After the replay give only what belongs to `body`; after that, reading waits for the caller's leaving."""
        self._body = body

    def finish(self) -> None:
        """The request is answered whole: hypercorn lets go, the connection stays open."""
        self.finished = True
        self.stop()

    def stop(self) -> None:
        """End hypercorn's reading: the caller has left, or nothing more is to come."""
        self._stopped.set()

    async def receive_some(self, max_bytes: int = _PIECE) -> bytes:
        if self._replay:
            await trio.lowlevel.checkpoint()
            data, self._replay = self._replay[:max_bytes], self._replay[max_bytes:]
            return data
        if self._body is None:
            return await self._read(max_bytes)
        if self._body.complete:
            await self._stopped.wait()
            raise trio.ClosedResourceError("nothing more belongs to this request")
        return await self._read_body(self._body)

    async def _read_body(self, body: _Body) -> bytes:
        try:
            with trio.fail_after(self._limits.header_timeout):
                data = await self._read(_PIECE)
            belongs = body.admit(data)
        except (trio.TooSlowError, InfermuxError) as error:
            slow = RequestTimeout("The request's body came too slowly.")
            self._connection.lane.refused(error if isinstance(error, InfermuxError) else slow, self._connection.client)
            self._connection.close()
            raise trio.BrokenResourceError(f"the request's body was refused: {error!r}") from error
        self._connection.buffer = data[belongs:] + self._connection.buffer
        return data[:belongs]

    async def _read(self, max_bytes: int) -> bytes:
        connection = self._connection
        if connection.buffer:
            await trio.lowlevel.checkpoint()
            return connection.take(max_bytes)
        try:
            return await connection.wire.receive(max_bytes)
        except WireBroken as error:
            raise trio.BrokenResourceError(str(error)) from error

    async def send_all(self, data: bytes) -> None:
        """Send `data`. Hypercorn shields this without bound, so a caller that stops reading is cut here."""
        for start in range(0, len(data), _PIECE):
            with trio.move_on_after(self._limits.write_timeout) as scope:
                await self._send(data[start : start + _PIECE])
            if scope.cancelled_caught:
                self._connection.broke()
                self._connection.close()
                raise trio.BrokenResourceError("the caller stopped reading")

    async def _send(self, piece: bytes) -> None:
        try:
            await self._connection.wire.send(piece)
        except WireBroken as error:
            self._connection.broke()
            raise trio.BrokenResourceError(str(error)) from error

    async def send_eof(self) -> None:
        """Hypercorn closes by this and then `aclose`, unshielded: being cancelled here would lose the close."""
        if not self.finished and not self._closing:
            self._closing = True
            self._connection.wire.send_eof()
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def aclose(self) -> None:
        self.stop()
        self.letting_go.deadline = min(self.letting_go.deadline, trio.current_time() + LET_GO)
        if self._body is None:
            self._connection.close()
        elif not self._body.complete:
            self._connection.interrupt()  # hypercorn's reader waits on the wire for a body nobody wants any more
        await trio.lowlevel.checkpoint()


class TlsReplayStream(ReplayStream):
    """The same for a connection under TLS, whose handshake is over."""

    def __init__(self, connection: Connection, limits: LimitSettings, alpn: str | None) -> None:
        super().__init__(connection, limits)
        self._alpn = alpn

    @property
    def transport_stream(self) -> ReplayStream:
        return self

    async def do_handshake(self) -> None:
        await trio.lowlevel.checkpoint()

    def selected_alpn_protocol(self) -> str | None:
        return self._alpn


def replay_stream(connection: Connection, limits: LimitSettings) -> ReplayStream:
    if connection.tls:
        return TlsReplayStream(connection, limits, connection.alpn)
    return ReplayStream(connection, limits)


def render_head(head: ParsedHead, *, reuse: bool, websocket: bool) -> bytes:
    """The head as hypercorn gets it: the checked fields, in one spelling, and hop-by-hop fields of our own."""
    lines = [b"%b %b HTTP/1.%d\r\n" % (head.method, head.target, head.minor)]
    lines += [b"%b: %b\r\n" % pair for pair in head.headers if pair[0] not in _HOP_BY_HOP]
    if websocket:
        lines.append(b"connection: upgrade\r\nupgrade: websocket\r\n")
    elif not reuse:
        lines.append(b"connection: close\r\n")
    return b"".join([*lines, b"\r\n"])


class _NoTask:
    """In place of hypercorn's idle timer, which would be restarted for each request: here nothing idles."""

    async def restart(self, task_group: TaskGroup, action: Callable[[], Awaitable[None]]) -> None:
        pass

    async def stop(self) -> None:
        pass


class _OneRequest(TCPServer):
    """Hypercorn's connection handling for one request: then the stream's `finish` is called instead of idling."""

    def __init__(self, arguments: ServerArguments) -> None:
        super().__init__(*arguments)
        self.idle_task = cast(Any, _NoTask())
        self._on_finished = arguments[-1].finish

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, Updated):
            if event.idle:
                self._on_finished()
            return
        await super().protocol_send(event)
