"""Decoding chunked request bodies (RFC 9112, 7.1), with the exact place where the message ends. Pure."""

from __future__ import annotations

import enum
import re

from infermux.errors import InvalidRequest, PayloadTooLarge

_MAX_LINE = 4096
_MAX_TRAILERS = 8192
# Extensions are read over, but with the care of header values: what two parsers may take differently is refused.
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")


class _State(enum.Enum):
    SIZE = enum.auto()
    DATA = enum.auto()
    DATA_END = enum.auto()
    TRAILERS = enum.auto()
    DONE = enum.auto()


class ChunkedDecoder:
    """Feed it what comes; `feed` is True at the end, then `body()` is the body and `rest` what came after it."""

    def __init__(self, *, limit: int, keep: bool = True) -> None:
        """`limit`: bytes of body, PayloadTooLarge above. `keep` False: only find the end, keep no body."""
        self.received = 0
        self.rest = b""
        self._limit = limit
        self._keep = keep
        self._parts: list[bytes] = []
        self._buffer = b""
        self._at = 0  # how much of the buffer is decoded; cut off once per feed, since each cut is a copy
        self._state = _State.SIZE
        self._missing = 0
        self._trailers = 0

    @property
    def ended(self) -> bool:
        return self._state is _State.DONE

    def body(self) -> bytes:
        return b"".join(self._parts)

    def take(self) -> bytes:
        """What was decoded since the last time: for bodies that are not kept whole."""
        parts = self._parts
        self._parts = []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def feed(self, data: bytes) -> bool:
        """Decode `data`; True when the message is complete. Raises InvalidRequest, PayloadTooLarge."""
        self._buffer = self._buffer + data if self._buffer else data
        self._at = 0
        decoded = len(self._parts)
        while self._step():
            pass
        if len(self._parts) - decoded > 1:  # chunks may be smaller than what an object for each would take
            self._parts[decoded:] = [b"".join(self._parts[decoded:])]
        self._buffer = self._buffer[self._at :]
        if self._state is not _State.DONE:
            return False
        self.rest = self._buffer
        return True

    def _step(self) -> bool:
        match self._state:
            case _State.SIZE:
                return self._size()
            case _State.DATA:
                return self._data()
            case _State.DATA_END:
                return self._data_end()
            case _State.TRAILERS:
                return self._trailer()
            case _State.DONE:
                return False

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\n", self._at, self._at + _MAX_LINE)
        if end < 0:
            if len(self._buffer) - self._at >= _MAX_LINE:
                raise InvalidRequest("A line of the chunked body is too long.")
            return None
        line = self._buffer[self._at : end + 1]
        if not line.endswith(b"\r\n"):
            raise InvalidRequest("A line of the chunked body ends in a bare LF.")
        self._at = end + 1
        return line[:-2]

    def _size(self) -> bool:
        line = self._line()
        if line is None:
            return False
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            raise InvalidRequest("A chunk size of the body is not a hexadecimal number.")
        self._missing = int(match[1], 16)
        if self.received + self._missing > self._limit:
            raise PayloadTooLarge(f"The body is larger than {self._limit} bytes.")
        self._state = _State.DATA if self._missing else _State.TRAILERS
        return True

    def _data(self) -> bool:
        piece = self._buffer[self._at : self._at + self._missing]
        if not piece:
            return False
        if self._keep:
            self._parts.append(piece)
        self._at += len(piece)
        self._missing -= len(piece)
        self.received += len(piece)
        if not self._missing:
            self._state = _State.DATA_END
        return True

    def _data_end(self) -> bool:
        if len(self._buffer) - self._at < 2:
            return False
        if not self._buffer.startswith(b"\r\n", self._at):
            raise InvalidRequest("A chunk of the body is longer than it says.")
        self._at += 2
        self._state = _State.SIZE
        return True

    def _trailer(self) -> bool:
        line = self._line()
        if line is None:
            return False
        if not line:
            self._state = _State.DONE
            return False
        self._trailers += len(line)
        if self._trailers > _MAX_TRAILERS or _TRAILER.fullmatch(line) is None:
            raise InvalidRequest("A trailer of the chunked body is ill-formed or too long.")
        return True
