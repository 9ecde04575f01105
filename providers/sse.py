"""Server-sent events without I/O, by the WHATWG standard's grammar (HTML, section 9.2.6, interpreting an event stream).

`EventSplitter` is for streams that pass through: it cuts the bytes where events end and changes none. `SseParser` is
for streams that are read. Both take chunks cut anywhere, with LF, CR or CRLF as line ends.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from infermux.errors import FailureKind, UpstreamFailure

EVENT_LIMIT: Final = 16 * 1024 * 1024
"""Bytes one event may have: what no limit of ours would otherwise bound is the memory a missing blank line takes."""

_BOM: Final = b"\xef\xbb\xbf"
_OVERLAP: Final = 3
"""The longest end of an event, LF CR LF, may begin this many bytes less one before a chunk's start."""


class EventTooLarge(UpstreamFailure):
    """An event is over the limit; what was kept of it is dropped."""

    def __init__(self, limit: int) -> None:
        super().__init__(FailureKind.MALFORMED, f"one event of the provider's stream is over {limit} bytes")


class Event(NamedTuple):
    """One dispatched event. `event` is "message" where the stream names none; `data` has its lines joined by LF."""

    event: str
    data: bytes


class EventSplitter:
    """Cuts a stream of bytes after whole events. The results, joined, are the input.

    `tail` has the pieces of the event that has not ended; it is not to be changed.
    """

    __slots__ = ("_limit", "_size", "tail")

    def __init__(self, limit: int = EVENT_LIMIT) -> None:
        self._limit = limit
        self.tail: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> bytes:
        """The longest run of whole events that ends in `data`, b"" while there is none. Raises EventTooLarge.

        A chunk that ends where an event does is returned as it is. LF CR at the very end is not taken for the end of
        an event yet: the LF of a CRLF may follow.
        """
        if not self.tail:
            if data.endswith(b"\n\n"):
                return data
            cut = _last_end(data)
            if cut:
                self._keep(data[cut:])
                return data[:cut]
            self._keep(data)
            return b""
        return self._feed_tail(data)

    def _feed_tail(self, data: bytes) -> bytes:
        before = self.tail[-1][-_OVERLAP:]
        if len(before) < _OVERLAP and len(self.tail) > 1:
            before = b"".join(self.tail)[-_OVERLAP:]
        # The overlap holds no whole end, but for CR LF-less ones that only `data` decides: a cut of 0 is before `data`.
        cut = _last_end(before + data) - len(before)
        if cut < 0:
            self._keep(data)
            return b""
        whole = b"".join((*self.tail, data[:cut]))
        self.tail.clear()
        self._size = 0
        self._keep(data[cut:])
        return whole

    def _keep(self, data: bytes) -> None:
        if not data:
            return
        self.tail.append(data)
        self._size += len(data)
        if self._size > self._limit:
            self.tail.clear()
            self._size = 0
            raise EventTooLarge(self._limit)

    @property
    def pending(self) -> int:
        """Bytes of the event that has not ended."""
        return self._size

    def flush(self) -> bytes:
        """At the end of the stream: what is left, an event without its end."""
        rest = b"".join(self.tail)
        self.tail.clear()
        self._size = 0
        return rest


def _last_end(data: bytes) -> int:
    """The index after the last end of an event (a line end and an empty line), 0 where there is none."""
    end = data.rfind(b"\n\n") + 2
    if end == 1:
        end = 0
    if b"\r" not in data:
        return end
    end = max(end, data.rfind(b"\n\r\n") + 3 if b"\n\r\n" in data else 0)
    return max(end, _last_end_by_cr(data, b"\r\r"), _last_end_by_cr(data, b"\n\r"))


def _last_end_by_cr(data: bytes, mark: bytes) -> int:
    """As `_last_end`, for empty lines that end with CR (or with CRLF, whose LF then belongs to it)."""
    at = data.rfind(mark)
    if at < 0:
        return 0
    end = at + 2
    if data[end : end + 1] == b"\n":
        return end + 1
    if end == len(data) and mark == b"\n\r":
        return _last_end_by_cr(data[:-1], mark)
    return end


class SseParser:
    """Turns the bytes of a stream into events; `last_id` is the last event ID the stream set."""

    __slots__ = ("_splitter", "_started", "last_id")

    def __init__(self, limit: int = EVENT_LIMIT) -> None:
        self._splitter = EventSplitter(limit)
        self._started = False
        self.last_id = ""

    def feed(self, data: bytes) -> list[Event]:
        """The events that ended with `data`. Raises EventTooLarge."""
        block = self._splitter.feed(data)
        return self._parse(block) if block else []

    def flush(self) -> list[Event]:
        """At the end of the stream: the event whose empty line is missing, if there is one.

        The standard would drop it; servers that forget the last line end are common enough to be read.
        """
        return self._parse(self._splitter.flush())

    def _parse(self, block: bytes) -> list[Event]:
        if not self._started and block:
            self._started = True
            block = block.removeprefix(_BOM)
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        events: list[Event] = []
        for text in block.split(b"\n\n"):
            if text.startswith(b"data: ") and b"\n" not in text:
                events.append(Event("message", text[6:]))
            elif text:
                self._parse_event(text, events)
        return events

    def _parse_event(self, text: bytes, events: list[Event]) -> None:
        name = ""
        lines: list[bytes] = []
        for line in text.split(b"\n"):
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"data":
                lines.append(value)
            elif field == b"event":
                name = value.decode("utf-8", "replace")
            elif field == b"id" and b"\0" not in value:
                self.last_id = value.decode("utf-8", "replace")
        if lines:
            events.append(Event(name or "message", b"\n".join(lines)))
