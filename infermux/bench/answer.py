"""One HTTP/1.1 answer as it arrives, verified as `c/response.h` does: status, framing, whole body, end of a stream."""

from __future__ import annotations

import enum

import httptools

_DATA = b"data:"
_KEPT = 64  # of how a line begins
_FRAMED = frozenset({b"content-length", b"transfer-encoding"})


class Wrong(enum.Enum):
    """Why an answer does not count. The values are the names in a result."""

    CONNECT = "connect"
    TIMEOUT = "timeout"
    STATUS = "status"
    CLOSED = "closed"
    FRAMING = "framing"
    INCOMPLETE = "incomplete"


class Events:
    """Counts lines that begin with `data:`, and knows whether the last of them was one that ends a stream.

    `last` is how their data begins, without spaces; several such beginnings are divided by |.
    """

    __slots__ = ("_last", "_line", "count", "done", "last_byte")

    def __init__(self, last: bytes) -> None:
        self._last = tuple(last.split(b"|"))
        self._line = b""
        self.count = 0
        self.done = False
        self.last_byte = b""

    def take(self, data: bytes) -> None:
        """The next bytes of the body."""
        stripped = data.rstrip(b"\r\n ")
        if stripped:
            self.last_byte = stripped[-1:]
        *lines, rest = data.split(b"\n")
        for part in lines:
            self._end_line(self._line + _begun(part))
            self._line = b""
        if len(self._line) < _KEPT:
            self._line += _begun(rest)

    def _end_line(self, line: bytes) -> None:
        if line.startswith(_DATA):
            self.count += 1
            self.done = line.startswith(self._last, len(_DATA))


def _begun(part: bytes) -> bytes:
    """Without spaces: some servers write them into their JSON."""
    return part[:_KEPT].replace(b" ", b"")


class Answer:
    """Fed with bytes until `complete` or a problem. The methods named on_* are httptools'."""

    __slots__ = (
        "_in_chunk",
        "_parser",
        "_read_head",
        "bytes",
        "chunks",
        "complete",
        "events",
        "head",
        "keep_alive",
        "surplus",
        "until_close",
    )

    def __init__(self, last: bytes) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.events = Events(last)
        self.complete = self.keep_alive = self.surplus = self._read_head = self._in_chunk = False
        self.until_close = True
        self.bytes = self.chunks = 0
        self.head = b""

    @property
    def status(self) -> int:
        return self._parser.get_status_code() if self.head else 0

    def take(self, data: bytes) -> bool:
        """False: this is no HTTP, or there is more than one answer."""
        if not self.complete and len(self.head) < 512:
            self.head += data[: 512 - len(self.head)]
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            return False
        return not self.surplus

    def right(self, *, stream: bool, least: int) -> Wrong | None:
        """What is wrong with an answer that is complete."""
        if self.status != 200:
            return Wrong.STATUS
        if stream:
            return None if self.events.done and self.events.count >= least else Wrong.INCOMPLETE
        return None if self.events.last_byte == b"}" else Wrong.INCOMPLETE

    def closed(self) -> bool:
        """The connection ended; whether that is how this answer says that it is whole."""
        self.complete = self.until_close and self._read_head
        return self.complete

    def on_message_begin(self) -> None:
        self.surplus = self.complete

    def on_header(self, name: bytes, value: bytes) -> None:
        del value
        if name.lower() in _FRAMED:
            self.until_close = False

    def on_headers_complete(self) -> None:
        self._read_head = True

    def on_body(self, data: bytes) -> None:
        self.bytes += len(data)
        self._in_chunk = True
        self.events.take(data)

    def on_chunk_complete(self) -> None:
        self.chunks += self._in_chunk  # the last one, which ends the body, is empty
        self._in_chunk = False

    def on_message_complete(self) -> None:
        self.complete = True
        self.keep_alive = bool(self._parser.should_keep_alive())
