"""One HTTP/1.1 keep-alive connection and its parser. RFC 9112 is the framing's source."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import httptools
import trio

from infermux.errors import FailureKind, UpstreamFailure

from .chunks import Chunks, NotChunked
from .plain_head import read_plain
from .transport import HEAD_LIMIT, Headers, Source, Stopped, is_framed
from .wire import Wire, WireBroken

ONE_WRITE: Final = 65536
"""A head and body of together fewer bytes leave in one write; copying more costs more than the second write."""


class Unanswered(Exception):
    """The connection ended before the first byte of an answer. `args[0]` says how."""


class Connection:
    """A wire and what reads it. One exchange at a time: `exchange`, then `advance` until `complete`.

    Plain heads and chunked bodies are read here, which most answers are made of. For all else there is a parser, from
    the first time it is needed on: it takes a kilobyte, and calls back for every part of an answer.
    """

    __slots__ = (
        "_chunks",
        "_closed",
        "_heard",
        "_keep",
        "_parser",
        "_silent",
        "_stopped",
        "_uploading",
        "complete",
        "first",
        "framed",
        "head_done",
        "headers",
        "idle_since",
        "pieces",
        "status",
        "wire",
        "without_body",
    )

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.idle_since = 0.0
        self._stopped = False
        self._closed = False
        self._parser: httptools.HttpResponseParser | None = None
        self._begin(False)

    def __repr__(self) -> str:
        return f"Connection({self.wire!r}, status={self.status}, complete={self.complete})"

    def _begin(self, without_body: bool) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.first: dict[bytes, bytes] | None = None  # of each name, where that is known
        self.pieces: list[bytes] = []
        self.head_done = False
        self.framed = True
        self.complete = False
        self._chunks: Chunks | None = None
        self._keep = False
        self._heard = False
        self._uploading = False
        self._silent = 0
        self.without_body = without_body

    # What the parser reports. A message that follows the answer unasked makes the connection unusable, not the answer.
    def on_message_begin(self) -> None:
        if self.complete:
            self._keep = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.head_done:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self.complete or self._parser is None:
            return
        self.status = self._parser.get_status_code()
        self.head_done = self.status >= 200
        self.framed = self.without_body or is_framed(self.status, self.headers)
        # A HEAD's answer ends here, which the parser cannot be told: what it would take for a body is never waited for.
        self.complete = self.head_done and self.without_body

    def on_body(self, data: bytes) -> None:
        if not self.complete:
            self.pieces.append(data)

    def on_message_complete(self) -> None:
        if self.complete or self._parser is None:
            return
        if self.head_done:
            self.complete = True
            self._keep = self._parser.should_keep_alive()
        else:
            self.headers = []  # an informational answer: the real one follows

    @property
    def reusable(self) -> bool:
        """Whether the next request may go out on this connection."""
        return self.complete and self._keep and not self._uploading

    async def exchange(self, head: bytes, body: bytes | Source, *, without_body: bool) -> None:
        """Send a request and receive the head of its answer. Raises Unanswered, UpstreamFailure, what `body` raises."""
        self._begin(without_body)
        wire = self.wire
        try:
            if not isinstance(body, bytes):
                await self._upload_pieces(head, body)
            elif len(head) + len(body) < ONE_WRITE:
                data = head + body
                sent = wire.send_now(data)
                if sent < len(data) or wire.unsent:
                    await self._upload(memoryview(data)[sent:])
            else:
                await self._upload(memoryview(head), memoryview(body))
        except WireBroken:
            # A server may answer and close without reading all of the request: its answer may be here.
            self._uploading = True
        while not self.head_done:
            await self.advance()

    async def _upload(self, *parts: memoryview) -> None:
        """Send what did not fit at once, while watching for an answer that comes before the request's end.

        A refusal ends the upload; after a 2xx it goes on, unwatched.
        """
        self._uploading = True
        for part in parts:
            await self._upload_part(part)
            if self.status >= 300:
                return
        self._uploading = False

    async def _upload_pieces(self, head: bytes, source: Source) -> None:
        """As `_upload`, for a body that comes in pieces. An early answer is looked for before each of them."""
        self._uploading = True
        chunked = source.length is None
        await self._upload_part(memoryview(head))
        while (piece := await source.receive()) is not None:
            if self.wire.readable() and not self.head_done:
                await self.advance()
            if self.status >= 300:
                return
            await self._upload_part(memoryview(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece))
        if self.status >= 300:
            return
        if chunked:
            await self._upload_part(memoryview(b"0\r\n\r\n"))
        self._uploading = False

    async def _upload_part(self, rest: memoryview) -> None:
        wire = self.wire
        while rest or wire.unsent:
            sent = wire.send_now(rest)
            rest = rest[sent:]
            if sent:
                continue
            if self.head_done:
                await wire.wait_writable()
                continue
            await _either(wire.wait_writable, wire.wait_readable)
            if wire.readable():
                await self.advance()
            if self.status >= 300:
                return

    async def advance(self) -> None:
        """Receive once and parse it. Raises Unanswered, or UpstreamFailure when the answer breaks or is not HTTP."""
        try:
            data = await self.wire.receive()
        except WireBroken as error:
            raise self._torn(error) from error
        self._arrived(data)

    def body_now(self) -> bytes:
        """What has come of the body, without waiting: b"" for nothing. Look at `complete` then. Raises as `advance`."""
        try:
            data = self.wire.take_now()
        except WireBroken as error:
            raise self._torn(error) from error
        if data is None:
            return b""
        pieces = self.pieces
        if self._chunks is not None and data and not pieces:
            piece = self._chunks.whole(data)
            if piece is not None:  # as nearly always, and this is less than half of the way of all others
                self._silent = 0
                return piece
        self._arrived(data)
        return taken(pieces)

    def _torn(self, error: WireBroken) -> Exception:
        if self._stopped:
            return Stopped()
        return broken(str(error)) if self._heard else Unanswered(str(error))

    def _arrived(self, data: bytes) -> None:
        if data:
            chunks = self._chunks
            if chunks is not None:
                piece = chunks.whole(data)
                if piece is None:
                    self._feed_chunks(chunks, data)
                else:
                    self._silent = 0
                    self.pieces.append(piece)
            elif self._heard or self.without_body or not self._is_plain(data):
                self._heard = True
                self._feed(data)
        else:
            self._feed_eof()

    def _is_plain(self, data: bytes) -> bool:
        """Whether `data` is an answer whose length its head tells, or the head of a chunked one; it is read then.

        Whatever is not plain is left to the parser, which has seen nothing of it.
        """
        head = read_plain(data)
        if head is None:
            return False
        status, fields, first, start, length = head
        if length is not None:
            if length != len(data) - start:
                return False
            if length:
                self.pieces.append(data[start:])
            self.complete = self._keep = True
        self.status, self.headers, self.first = status, fields, first
        self.head_done = self._heard = True
        if length is None:
            self._chunks = Chunks()
            if len(data) > start:
                self._feed_chunks(self._chunks, data[start:])
        return True

    def _feed_chunks(self, chunks: Chunks, data: bytes) -> None:
        if self._closed:
            raise broken("the connection was closed")
        if self.complete:
            self._keep = False  # nobody asked for it
            return
        pieces = len(self.pieces)
        try:
            excess = chunks.feed(data, self.pieces)
        except NotChunked as error:
            raise _malformed(f"the provider's answer is not HTTP/1.1: {error}") from error
        if chunks.ended:
            self.complete = True
            self._keep = not excess
        elif len(self.pieces) > pieces:
            self._silent = 0
        else:
            self._count_silent(len(data), head_was_done=True)

    def _feed(self, data: bytes) -> None:
        if self._closed:
            raise broken("the connection was closed")
        if self._parser is None:
            self._parser = httptools.HttpResponseParser(self)
        head_was_done = self.head_done
        pieces = len(self.pieces)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._keep = False
            if not self.complete:
                why = "a switch of protocols" if isinstance(error, httptools.HttpParserUpgrade) else str(error)
                raise _malformed(f"the provider's answer is not HTTP/1.1: {why}") from error
        if len(self.pieces) > pieces and head_was_done:
            self._silent = 0
        elif not self.complete or not head_was_done:
            self._count_silent(len(data), head_was_done)

    def _count_silent(self, arrived: int, head_was_done: bool) -> None:
        """Bound the bytes that are not body: a head, informational answers, trailers, chunk extensions."""
        self._silent += arrived
        if self._silent <= HEAD_LIMIT:
            return
        if self.head_done and not head_was_done and _size(self.headers) <= HEAD_LIMIT:
            self._silent = 0  # it was mostly body
            return
        raise _malformed(f"the head of the provider's answer is over {HEAD_LIMIT} bytes")

    def _feed_eof(self) -> None:
        if not self._heard:
            raise Unanswered("the provider closed the connection")
        if not self.head_done or self.framed:  # a HEAD's answer has ended by now
            raise broken("the provider closed the connection")
        self.complete = True

    def cancel(self) -> None:
        """Close it under whoever waits on it, who gets Stopped."""
        self._stopped = True
        self.close()

    def close(self) -> None:
        self._closed = True
        self._parser = None  # the parser holds this object's methods: a cycle
        self.wire.close()


async def _either(*waits: Callable[[], Awaitable[None]]) -> None:
    """Return when one of `waits` has returned or broken."""

    async def one(wait: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
        try:
            await wait()
        except WireBroken:
            pass  # the next call on the wire says so again, to whoever can handle it
        scope.cancel()

    async with trio.open_nursery() as nursery:
        for wait in waits:
            nursery.start_soon(one, wait, nursery.cancel_scope)


def taken(pieces: list[bytes]) -> bytes:
    """All that was parsed of a body, which are no pieces any more."""
    data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    pieces.clear()
    return data


def _size(headers: Headers) -> int:
    return sum(len(name) + len(value) + 4 for name, value in headers)


def broken(how: str) -> UpstreamFailure:
    """The connection ended in the middle of an answer. `how`: for the reader of the error."""
    return UpstreamFailure(FailureKind.BROKEN, f"broke off its answer: {how}")


def _malformed(what: str) -> UpstreamFailure:
    return UpstreamFailure(FailureKind.MALFORMED, what)
