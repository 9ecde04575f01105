"""The express lane's `Exchange`: answers written straight to the connection's wire."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import trio

from infermux.errors import InfermuxError, RequestTimeout
from infermux.providers.wire import WireBroken

from .answers import MIN_BODY_RATE, Answer, render_headers, require_length, too_large
from .chunked import ChunkedDecoder
from .errors import error_answer, shape_of
from .exchange import CallerLeft, Head, HeaderLines, Headers
from .framing import ParsedHead

if TYPE_CHECKING:
    from .connection import Connection

# Members of an enum are looked up in Python code, and these at every request.
_NONE: Final = Answer.NONE
_STARTED: Final = Answer.STARTED
_DONE: Final = Answer.DONE

_WRITE_PIECE = 65536
_READ_PIECE = 65536
_BODYLESS = frozenset({204, 304})
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


class ExpressExchange:
    """One request on one connection."""

    __slots__ = (
        "_answer",
        "_body",
        "_connection",
        "_keep",
        "_parsed",
        "_pending",
        "_pieces",
        "_unsent",
        "head",
        "watch",
    )

    def __init__(self, connection: Connection, parsed: ParsedHead, head: Head) -> None:
        self.head = head
        self.watch = connection.watch
        self._connection = connection
        self._parsed = parsed
        self._body: bytes | None = None if parsed.length or parsed.chunked else b""
        self._pieces: BodyPieces | None = None
        self._answer = _NONE
        self._keep = parsed.keep_alive
        self._pending = b""
        self._unsent = b""

    def __repr__(self) -> str:
        return f"ExpressExchange({self.head.method!r} {self.head.path!r}, {self._answer.name})"

    @property
    def left(self) -> bool:
        return self._connection.left

    @property
    def stalled(self) -> bool:
        return self._connection.stalled

    @property
    def shutting_down(self) -> bool:
        return self._connection.lane.shutting_down

    @property
    def answer(self) -> Answer:
        return self._answer

    @property
    def gone(self) -> bool:
        return self._connection.left or self._connection.closed

    @property
    def reusable(self) -> bool:
        """Whether the connection is to serve another request after this one."""
        ended_well = self._keep and self._answer is _DONE and not self._connection.left
        # A head sent before the drain promised to keep the connection; an idle one would hold the drain to its end.
        return ended_well and not self._connection.lane.leaving

    @property
    def body_unread(self) -> bool:
        return self._body is None

    # In.

    async def body(self) -> bytes:
        if self._body is not None:
            if self._parsed.length is None and not self._parsed.chunked:
                require_length(self.head.method)
            return self._body
        length, connection = self._parsed.length, self._connection
        if length is not None and len(connection.buffer) == length <= connection.lane.limits.max_body_bytes:
            body, connection.buffer = connection.buffer, b""  # mostly all of it has come with the head, and no more
        else:
            body = await (self._read_chunked() if self._parsed.chunked else self._read_length())
        self._body = b""  # it is the handler's: a stream may last for minutes after nobody needs it any more
        return body

    async def receive_body(self) -> bytes | None:
        pieces = self._pieces
        if pieces is None:
            if self._body is not None:
                if self._parsed.length is None and not self._parsed.chunked:
                    require_length(self.head.method)
                return None
            pieces = self._pieces = BodyPieces(self._connection, self._parsed)
            if not self._connection.buffer:
                self._ask_for_body()
        data = await pieces.next(self._receive)
        if data is None:
            self._body = b""
        return data

    async def _read_length(self) -> bytes:
        length = self._parsed.length or 0
        limit = self._connection.lane.limits.max_body_bytes
        if length > limit:
            raise too_large(limit)
        connection = self._connection
        if len(connection.buffer) >= length:
            return connection.take(length)
        self._ask_for_body()
        parts = [connection.take(len(connection.buffer))]
        missing = length - len(parts[0])
        connection.expect_body(0)
        while missing:
            parts.append(await self._receive(min(missing, _READ_PIECE)))
            missing -= len(parts[-1])
            connection.expect_body(length - missing)
        connection.expect_nothing()
        return b"".join(parts)

    async def _read_chunked(self) -> bytes:
        connection = self._connection
        decoder = ChunkedDecoder(limit=connection.lane.limits.max_body_bytes)
        data = connection.take(len(connection.buffer))
        if not data:
            self._ask_for_body()
        connection.expect_body(0)
        while not decoder.feed(data):
            connection.expect_body(decoder.received)
            data = await self._receive(_READ_PIECE)
        connection.expect_nothing()
        connection.buffer = decoder.rest
        return decoder.body()

    async def _receive(self, max_bytes: int) -> bytes:
        try:
            data = await self._connection.wire.receive(max_bytes)
        except WireBroken:
            if self._connection.expired:
                self._keep = False
                raise RequestTimeout("The request's body came too slowly.") from None
            data = b""
        if not data:
            self._connection.on_left()
            raise CallerLeft
        return data

    def _ask_for_body(self) -> None:
        if self._parsed.expects_continue:
            self._hand(b"HTTP/1.1 100 Continue\r\n\r\n")

    # Out.

    async def respond(self, status: int, headers: Headers | HeaderLines, body: bytes) -> None:
        framing = b"" if status == 204 else b"content-length: %d\r\n" % len(body)
        head = self._response_head(status, headers, framing)
        self._answer = _DONE
        if status in _BODYLESS or self.head.method == b"HEAD":
            body = b""
        if not self._hand(head + body):
            await self.flush()

    def start(self, status: int, headers: Headers | HeaderLines) -> None:
        if self._parsed.minor == 0:
            self._keep = False
        framing = b"transfer-encoding: chunked\r\n" if self._parsed.minor else b""
        self._pending = self._response_head(status, headers, framing)
        self._answer = _STARTED

    def send_now(self, data: bytes) -> bool:
        if self._answer is not _STARTED:
            raise RuntimeError("send_now is for a started answer")
        if data and self._parsed.minor:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        if self._pending:
            data = self._pending + data
            self._pending = b""
        return self._hand(data)

    async def flush(self) -> None:
        if self._pending:
            self.send_now(b"")
        connection = self._connection
        wire = connection.wire
        try:
            while self._unsent or wire.unsent:
                piece, self._unsent = self._unsent[:_WRITE_PIECE], self._unsent[_WRITE_PIECE:]
                connection.expect_write()
                await wire.send(piece)
        except WireBroken:
            connection.broke()
        connection.expect_nothing()
        if connection.left or connection.broken:
            self._keep = False
            raise CallerLeft

    async def finish(self, trailers: Headers = ()) -> None:
        if self._answer is not _STARTED:
            raise RuntimeError("finish is for a started answer")
        end = b"0\r\n%b\r\n" % render_headers(trailers) if self._parsed.minor else b""
        data = self._pending + end
        self._pending = b""
        self._answer = _DONE
        if not self._hand(data):
            await self.flush()

    def abort(self) -> None:
        self._keep = False
        self._connection.close()

    async def fail(self, error: InfermuxError) -> None:
        if self._answer is _NONE:
            self._keep = self._keep and error.status < 500
            await self.respond(error.status, *error_answer(error, shape_of(self.head.path)))
        elif self._answer is _STARTED:
            self.abort()

    def _hand(self, data: bytes) -> bool:
        if self._unsent:
            self._unsent += data
            return False
        wire = self._connection.wire
        try:
            sent = wire.send_now(data)
        except WireBroken:
            self._connection.broke()
            return False
        if sent < len(data):
            self._unsent = data[sent:]
            return False
        return not wire.unsent

    def _response_head(self, status: int, headers: Headers | HeaderLines, framing: bytes) -> bytes:
        if self._answer is not _NONE:
            raise RuntimeError("the answer has begun already")
        if self._body is None:
            self._keep = self._skip_body() and self._keep
        lane = self._connection.lane
        if lane.leaving:
            self._keep = False
        if not self._keep:
            framing += b"connection: close\r\n"
        elif self._parsed.minor == 0:
            framing += b"connection: keep-alive\r\n"
        lines = headers if isinstance(headers, bytes) else render_headers(headers)
        return b"".join((status_line(status), lane.date_lines(), lines, framing, b"\r\n"))

    def _skip_body(self) -> bool:
        """Drop a body the handler did not ask for, if all of it is here; otherwise it costs the connection."""
        length = self._parsed.length
        if self._pieces is not None or length is None or len(self._connection.buffer) < length:
            return False
        self._body = self._connection.take(length)
        return True


class BodyPieces:
    """A body that is handed on as it comes."""

    __slots__ = ("_allowed", "_connection", "_decoder", "_missing", "_received")

    def __init__(self, connection: Connection, parsed: ParsedHead) -> None:
        """Raises PayloadTooLarge for a length that is over the limit."""
        limits = connection.lane.limits
        self._connection = connection
        self._decoder = ChunkedDecoder(limit=limits.max_body_bytes) if parsed.chunked else None
        self._missing = parsed.length or 0
        self._received = 0
        self._allowed = limits.header_timeout  # seconds of the caller's slowness that are left, but for what came
        if self._missing > limits.max_body_bytes:
            raise too_large(limits.max_body_bytes)

    async def next(self, receive: Callable[[int], Awaitable[bytes]]) -> bytes | None:
        """The next piece; None at the end. `receive` reads from the wire."""
        decoder, connection = self._decoder, self._connection
        if decoder is None:
            if not self._missing:
                return None
            data = connection.take(min(len(connection.buffer), self._missing))
            data = data or await self._wait(receive, min(self._missing, _READ_PIECE))
            self._missing -= len(data)
            return data
        data = b""
        while not data:
            if decoder.ended:
                return None
            raw = connection.take(len(connection.buffer)) or await self._wait(receive, _READ_PIECE)
            if decoder.feed(raw):
                connection.buffer = decoder.rest
            data = decoder.take()
        return data

    async def _wait(self, receive: Callable[[int], Awaitable[bytes]], most: int) -> bytes:
        started = trio.current_time()
        self._connection.expect_piece(self._allowed + self._received / MIN_BODY_RATE)
        data = await receive(most)
        self._connection.expect_nothing()
        self._allowed -= trio.current_time() - started
        self._received += len(data)
        return data


def status_line(status: int) -> bytes:
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
