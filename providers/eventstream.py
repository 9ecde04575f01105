"""The framing `application/vnd.amazon.eventstream`, without I/O: messages out of bytes cut anywhere, and back.

A message is a prelude (total length, headers' length, CRC-32 of these eight bytes), headers, a payload, and the CRC-32
of everything before it; integers are big-endian. Sources: the event stream specification of Smithy, which has the types
of headers and messages (https://smithy.io/2.0/aws/amazon-eventstream.html), and `botocore.eventstream`.
"""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final

import attrs

from infermux.errors import FailureKind, UpstreamFailure

MESSAGE_LIMIT: Final = 16 * 1024 * 1024
"""Bytes one message may have, its framing included. It is checked with the prelude, before the message is kept."""

HEADERS_LIMIT: Final = 128 * 1024
"""Bytes the headers of one message may have, by the specification."""

_PRELUDE: Final = struct.Struct("!III")
_CRC: Final = struct.Struct("!I")
_LENGTH: Final = struct.Struct("!H")
_CACHED: Final = 512  # bytes of headers that are worth remembering
_SMALLEST: Final = _PRELUDE.size + _CRC.size


class EventStreamCorrupt(UpstreamFailure):
    """The bytes are no event stream: a checksum is wrong, a length impossible or over the bound, a header malformed.

    Where one message ends cannot be told any more, so nothing after it can be read.
    """

    def __init__(self, what: str) -> None:
        super().__init__(FailureKind.MALFORMED, f"the provider's event stream is corrupt: {what}")


@attrs.frozen
class Byte:
    """An integer header of eight bits."""

    value: int


@attrs.frozen
class Short:
    """An integer header of sixteen bits."""

    value: int


@attrs.frozen
class Long:
    """An integer header of sixty-four bits."""

    value: int


@attrs.frozen
class Timestamp:
    """A time header: milliseconds since the epoch."""

    milliseconds: int


HeaderValue = bool | int | bytes | str | uuid.UUID | Byte | Short | Long | Timestamp
"""The ten types of the specification; a plain `int` is the one of thirty-two bits."""


@attrs.frozen(kw_only=True)
class Message:
    """One message. `headers` are in the order they came."""

    headers: Mapping[str, HeaderValue] = attrs.field(factory=dict[str, HeaderValue])
    payload: bytes = b""

    def text(self, name: str) -> str:
        """The string header `name`, "" without one."""
        value = self.headers.get(name)
        return value if isinstance(value, str) else ""

    @property
    def type(self) -> str:
        """`event`, `exception` (one the service's model knows) or `error` (any other)."""
        return self.text(":message-type") or "event"

    @property
    def name(self) -> str:
        """Which event, exception or error it is."""
        kind = self.type
        return self.text(":error-code" if kind == "error" else f":{kind}-type")


class EventStreamSplitter:
    """Cuts a stream of bytes into messages, of which only the prelude is looked at: `decode` does the rest."""

    __slots__ = ("_buffer", "_limit", "_needed")

    def __init__(self, limit: int = MESSAGE_LIMIT) -> None:
        self._buffer = bytearray()
        self._limit = limit
        self._needed = 0  # bytes of the message in the buffer, 0 while its prelude is not whole

    @property
    def pending(self) -> int:
        """Bytes of the message that has not ended: at the end of a stream, any mean that it was cut."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that ended with `data`, whole. Raises EventStreamCorrupt; feed nothing after that.

        Messages before the corrupt one, in the same chunk, are lost with it: their stream has no genuine end.
        """
        buffer = self._buffer
        if buffer:
            buffer += data
            if len(buffer) < (self._needed or _PRELUDE.size):
                return []
            data = bytes(buffer)
            buffer.clear()
        messages: list[bytes] = []
        start, end = 0, len(data)
        while end - start >= _PRELUDE.size:
            self._needed = _total_length(data, start, self._limit)
            if end - start < self._needed:
                break
            messages.append(data[start : start + self._needed])
            start += self._needed
            self._needed = 0
        buffer += data[start:]
        return messages


class EventStreamDecoder:
    """Turns the bytes of a stream into messages."""

    __slots__ = ("_splitter",)

    def __init__(self, limit: int = MESSAGE_LIMIT) -> None:
        self._splitter = EventStreamSplitter(limit)

    @property
    def pending(self) -> int:
        """As `EventStreamSplitter.pending`."""
        return self._splitter.pending

    def feed(self, data: bytes) -> list[Message]:
        """The messages that ended with `data`. Raises EventStreamCorrupt; feed nothing after that."""
        return [decode(message) for message in self._splitter.feed(data)]


def _total_length(data: bytes, start: int, limit: int) -> int:
    total: int
    total, headers, checksum = _PRELUDE.unpack_from(data, start)
    if zlib.crc32(data[start : start + 8]) != checksum:
        raise EventStreamCorrupt("the checksum of a message's prelude is wrong")
    if total > limit:
        raise EventStreamCorrupt(f"one message has {total} bytes, over {limit}")
    if headers > HEADERS_LIMIT or total < _SMALLEST + headers:
        raise EventStreamCorrupt("the lengths in a message's prelude are impossible")
    return total


def decode(data: bytes) -> Message:
    """The message in `data`, one that `EventStreamSplitter` cut out. Raises EventStreamCorrupt."""
    (checksum,) = _CRC.unpack_from(data, len(data) - _CRC.size)
    if zlib.crc32(memoryview(data)[: -_CRC.size]) != checksum:
        raise EventStreamCorrupt("the checksum of a message is wrong")
    _, length, _ = _PRELUDE.unpack_from(data)
    end = _PRELUDE.size + length
    block = data[_PRELUDE.size : end]
    try:
        headers = _known_headers(block) if len(block) <= _CACHED else _headers(block)
    except (struct.error, ValueError, IndexError):
        raise EventStreamCorrupt("the headers of a message are malformed") from None
    return Message(headers=headers, payload=data[end : -_CRC.size])


def _headers(data: bytes) -> dict[str, HeaderValue]:
    """Raises struct.error, ValueError or IndexError for bytes that are no headers."""
    headers: dict[str, HeaderValue] = {}
    at = 0
    while at < len(data):
        length = data[at]
        name = _slice(data, at + 1, length).decode()
        at += 1 + length
        kind = data[at]
        if name in headers or kind >= len(_READERS):
            raise ValueError(name)
        headers[name], at = _READERS[kind](data, at + 1)
    return headers


@lru_cache(maxsize=64)
def _known_headers(data: bytes) -> Mapping[str, HeaderValue]:
    """As `_headers`: the events of a stream have the same few blocks of headers again and again."""
    return MappingProxyType(_headers(data))


_Reader = Callable[[bytes, int], tuple[HeaderValue, int]]


def _slice(data: bytes, at: int, length: int) -> bytes:
    found = data[at : at + length]
    if len(found) != length:
        raise ValueError(length)
    return found


def _integer(code: str, make: Callable[[int], HeaderValue]) -> _Reader:
    form = struct.Struct(code)

    def read(data: bytes, at: int) -> tuple[HeaderValue, int]:
        return make(form.unpack_from(data, at)[0]), at + form.size

    return read


def _sized(data: bytes, at: int) -> tuple[bytes, int]:
    (length,) = _LENGTH.unpack_from(data, at)
    at += _LENGTH.size
    return _slice(data, at, length), at + length


def _text(data: bytes, at: int) -> tuple[HeaderValue, int]:
    found, at = _sized(data, at)
    return found.decode(), at


_READERS: Final[tuple[_Reader, ...]] = (
    lambda _, at: (True, at),
    lambda _, at: (False, at),
    _integer("!b", Byte),
    _integer("!h", Short),
    _integer("!i", int),
    _integer("!q", Long),
    _sized,
    _text,
    _integer("!q", Timestamp),
    lambda data, at: (uuid.UUID(bytes=_slice(data, at, 16)), at + 16),
)
"""By type number, from 0."""


def encode(message: Message) -> bytes:
    """The bytes of one message. Raises ValueError for what does not fit: a name over 255 bytes, a value over 65535."""
    headers = b"".join(_encoded(name, value) for name, value in message.headers.items())
    total = _SMALLEST + len(headers) + len(message.payload)
    lengths = struct.pack("!II", total, len(headers))
    body = b"".join((lengths, _CRC.pack(zlib.crc32(lengths)), headers, message.payload))
    return body + _CRC.pack(zlib.crc32(body))


def _encoded(name: str, value: HeaderValue) -> bytes:
    label = name.encode()
    try:
        return struct.pack("!B", len(label)) + label + _encoded_value(value)
    except struct.error as error:
        raise ValueError(f"the header {name[:64]!r} does not fit: {error}") from None


def _encoded_value(value: HeaderValue) -> bytes:
    match value:
        case bool():
            return b"\0" if value else b"\1"
        case Byte():
            return struct.pack("!Bb", 2, value.value)
        case Short():
            return struct.pack("!Bh", 3, value.value)
        case int():
            return struct.pack("!Bi", 4, value)
        case Long():
            return struct.pack("!Bq", 5, value.value)
        case bytes():
            return struct.pack("!BH", 6, len(value)) + value
        case str():
            text = value.encode()
            return struct.pack("!BH", 7, len(text)) + text
        case Timestamp():
            return struct.pack("!Bq", 8, value.milliseconds)
        case uuid.UUID():
            return b"\x09" + value.bytes


def event(name: str, payload: bytes, *, kind: str = "event") -> bytes:
    """The bytes of an event, or of an exception, with a JSON payload."""
    headers: dict[str, HeaderValue] = {
        f":{kind}-type": name,
        ":content-type": "application/json",
        ":message-type": kind,
    }
    return encode(Message(headers=headers, payload=payload))
