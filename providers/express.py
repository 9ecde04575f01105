"""The express transport: an HTTP/1.1 keep-alive client with no task, lock, nursery or cancel scope per request.

A request is one write and, when the answer is small, one wait. Connecting is the cold path: there a nursery (trio's
happy eyeballs) and a cancel scope (the time limit) are fine.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from infermux.errors import FailureKind, UpstreamFailure

from .express_connection import Connection, Unanswered
from .express_pool import IdlePool
from .express_response import ExpressResponse
from .tcp import connect, connect_here, is_here
from .tls_wire import TlsWire
from .transport import (
    BODYLESS,
    CONNECTING,
    IDLE_SECONDS,
    Asker,
    Headers,
    Origin,
    RequestTemplate,
    Response,
    Source,
    Stopped,
    check_encoding,
    check_headers,
    check_request,
    fixed_headers,
)
from .trust import http1_context, reason
from .wire import Wire, WireBroken

MAX_IDLE: Final = 1000

Dial = Callable[[Origin], Awaitable[Wire]]


async def dial(origin: Origin, context: ssl.SSLContext | None = None) -> Wire:
    """Connect, and shake hands where the scheme is https. Raises OSError (TLS errors are) or WireBroken."""
    wire = await connect(origin.host, origin.port)
    if not origin.tls:
        return wire
    return await TlsWire.handshake(wire, context or http1_context(), server_hostname=origin.host)


_BY_TCP: Final = dial


class ExpressTransport:
    """See `Transport`. `dial` is how a connection is made: another one in tests and for other kinds of sockets."""

    name = "express"
    stops = True

    def __init__(
        self,
        origin: Origin,
        *,
        connect_timeout: float = 5.0,
        idle_seconds: float = IDLE_SECONDS,
        max_idle: int = MAX_IDLE,
        dial: Dial = dial,
    ) -> None:
        self._origin = origin
        self._connect_timeout = connect_timeout
        self._dial = dial
        self._is_here = dial is _BY_TCP and not origin.tls and is_here(origin.host)
        self._taken_back = self._give_back  # made once: each answer has it for as long as it lasts
        self._pool: IdlePool[Connection] = IdlePool(idle_seconds=idle_seconds, max_idle=max_idle)
        self._now = trio.current_time

    def __repr__(self) -> str:
        return f"ExpressTransport({self._origin}, {self._pool!r})"

    @property
    def idle(self) -> int:
        """Connections waiting for a request."""
        return len(self._pool)

    def template(self, method: bytes, target: bytes, headers: Headers = ()) -> RequestTemplate:
        check_request(method, target)
        check_headers(headers)
        lines = [b"%s %s HTTP/1.1" % (method, target)]
        lines += [b"%s: %s" % header for header in fixed_headers(self._origin, headers)]
        lines += [b"Connection: keep-alive"]
        return RequestTemplate(method, target, tuple(headers), b"\r\n".join(lines) + b"\r\n")

    async def request(self, method: bytes, target: bytes, headers: Headers = (), body: bytes = b"") -> Response:
        return await self.send(self.template(method, target, headers), body)

    async def send(self, template: RequestTemplate, body: bytes | Source = b"", headers: Headers = ()) -> Response:
        head = _head(template, len(body) if isinstance(body, bytes) else body.length, headers)
        connection = self._pool.take(self._now())
        kept = connection is not None
        asker = CONNECTING.get()
        if connection is None:
            connection = await self._connect(asker)
        while True:
            if asker is not None:
                asker.waits_on = connection
            try:
                await connection.exchange(head, body, without_body=template.method == b"HEAD")
                break
            except Unanswered as error:
                connection.close()
                if not kept or not (isinstance(body, bytes) or body.rewind()):
                    raise UpstreamFailure(FailureKind.BROKEN, f"no answer from {self._origin}: {error}") from error
            except BaseException:
                connection.close()
                raise
            # Kept connections may have been closed while the request was on its way (RFC 9112 section 9.3.1).
            kept = False
            connection = await self._connect(asker)
        response = ExpressResponse(connection, self._taken_back)
        encoding = response.get(b"content-encoding")
        if encoding is not None:
            _refuse_encoded(response, encoding)
        return response

    def _give_back(self, connection: Connection) -> None:
        self._pool.give(connection, self._now())

    async def _connect(self, asker: Asker | None) -> Connection:
        self._now = trio.lowlevel.current_clock().current_time  # the same with two calls less
        if self._is_here and (wire := self._connected_here()) is not None:
            return Connection(wire)
        until = trio.current_time() + self._connect_timeout
        with trio.CancelScope(deadline=until) as scope:
            if asker is not None:
                asker.connecting, asker.waits_on = True, scope
            connection = await self._connected()
            if asker is not None:
                asker.connecting = False
            if scope.cancel_called and trio.current_time() < until:  # as it ended: a wait that is over cannot be told
                connection.close()
                raise Stopped
            return connection
        if trio.current_time() < until:
            raise Stopped
        message = f"no connection to {self._origin} within {self._connect_timeout:g} s"
        raise UpstreamFailure(FailureKind.CONNECT_TIMEOUT, message)

    def _connected_here(self) -> Wire | None:
        """Without a wait, and so without what bounds one. None where it would take one."""
        self._check_open()
        try:
            return connect_here(self._origin.host, self._origin.port)
        except OSError as error:
            raise self._no_connection(error) from error

    async def _connected(self) -> Connection:
        self._check_open()
        try:
            return Connection(await self._dial(self._origin))
        except (OSError, WireBroken, UnicodeError) as error:
            raise self._no_connection(error) from error

    def _check_open(self) -> None:
        if self._pool.closed:
            raise UpstreamFailure(FailureKind.CONNECT, f"the transport to {self._origin} was closed")

    def _no_connection(self, error: Exception) -> UpstreamFailure:
        return UpstreamFailure(FailureKind.CONNECT, f"cannot connect to {self._origin}: {reason(error)}")

    def expire(self) -> None:
        """Close the connections that were idle for too long; otherwise that happens with the next request."""
        self._pool.expire(trio.current_time())

    async def aclose(self) -> None:
        self._pool.close()
        await trio.lowlevel.checkpoint()


def _head(template: RequestTemplate, length: int | None, headers: Headers) -> bytes:
    if headers:
        check_headers(headers)
        extra = b"".join([b"%s: %s\r\n" % header for header in headers])
        prefix = template.prefix + extra
    else:
        prefix = template.prefix
    if length is None:
        return prefix + b"Transfer-Encoding: chunked\r\n\r\n"
    if not length and template.method in BODYLESS:
        return prefix + b"\r\n"
    return b"%sContent-Length: %d\r\n\r\n" % (prefix, length)


def _refuse_encoded(response: ExpressResponse, encoding: bytes) -> None:
    try:
        check_encoding(response.status, encoding)
    except UpstreamFailure:
        response.close()
        raise
