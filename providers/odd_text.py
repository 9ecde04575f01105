"""Text that is no text, in JSON that is JSON otherwise: bytes that are no UTF-8, and halves of surrogate pairs.

A server that cuts its model's output by bytes or by UTF-16 units splits an emoji over two events, each of which has a
half that means nothing. JSON's grammar allows the escape of a half (RFC 8259, section 8.2), decoders refuse it. What
has no meaning becomes U+FFFD, so that the rest of the event is not lost.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from .dialects.dialect import MalformedEvent, StreamReader
from .dialects.neutral_events import StreamEvent
from .sse import Event

_HIGH: Final = rb"u[dD][89abAB][0-9a-fA-F]{2}"
_LOW: Final = rb"u[dD][c-fC-F][0-9a-fA-F]{2}"
_ESCAPE: Final = re.compile(rb"\\(?:%b\\%b|(%b|%b)|[\s\S])" % (_HIGH, _LOW, _HIGH, _LOW))
_INSTEAD: Final = rb"\ufffd"


def mended(data: bytes) -> bytes:
    """`data` with what is no text in its strings replaced; equal to `data` where there is nothing of the kind."""
    return _ESCAPE.sub(_without_half, data.decode("utf-8", "replace").encode())


def _without_half(escape: re.Match[bytes]) -> bytes:
    return escape[0] if escape[1] is None else _INSTEAD


def read_again(reader: StreamReader, event: Event) -> Sequence[StreamEvent] | None:
    """What `reader` makes of an event that it found malformed, once it is mended; None: it is to be left out."""
    data = mended(event.data)
    if data == event.data:
        return None
    try:
        return reader.feed(event._replace(data=data))
    except MalformedEvent:
        return None
