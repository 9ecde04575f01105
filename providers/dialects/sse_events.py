"""Server-sent events as the streams of chat APIs have them: mostly one event a read, of one or two lines.

Such a read is taken apart by two searches; everything else is `SseParser`'s, by the standard's whole grammar.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..sse import Event, SseParser


class EventReader:
    """The `EventDecoder` of a text stream. The same events as `SseParser` gives, whatever the chunks."""

    __slots__ = ("_between", "_parser")

    def __init__(self) -> None:
        self._parser = SseParser()
        self._between = False  # whether nothing of an event has been kept, nor the stream is at its very beginning

    def feed(self, data: bytes) -> Sequence[Event]:
        """The events that ended with `data`. Raises EventTooLarge."""
        if self._between:
            found = _single(data)
            if found is not None:
                return (found,)
        events = self._parser.feed(data)
        self._between = data.endswith(b"\n\n")
        return events

    def flush(self) -> Sequence[Event]:
        """At the end of the stream: the event whose empty line is missing, if there is one."""
        return self._parser.flush()


def _single(data: bytes) -> Event | None:
    """The one event that `data` is, where it is one of a data line alone, or of a name's and a data line."""
    last = len(data) - 2
    first = data.find(b"\n")
    if data.startswith(b"data: "):
        if first != last or data[last + 1 :] != b"\n" or data.find(b"\r") >= 0:
            return None
        return Event("message", data[6:last])
    if not data.startswith(b"event: ") or not data.startswith(b"data: ", first + 1):
        return None
    if data.find(b"\n", first + 1) != last or data[last + 1 :] != b"\n" or data.find(b"\r") >= 0:
        return None
    return Event(data[7:first].decode("utf-8", "replace") or "message", data[first + 7 : last])
