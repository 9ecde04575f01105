"""A chunked body as it comes (RFC 9112, section 7.1). Pure.

Servers of models send an event a chunk, and most chunks come whole and alone: `whole` is for these. What is no chunk is
refused as llhttp does in its strict mode, since two readers of the same bytes must agree on their end.
"""

from __future__ import annotations

import re
from typing import Final

_LONGEST_LINE: Final = 16384
_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_HEX: Final = rb"[0-9A-Fa-f]{1,15}"
_QUOTED: Final = rb'"[\t\x20!\x23-\x5b\x5d-\x7e]*'  # up to its end
_EXTENSIONS: Final = rb"(?:;" + _TOKEN + rb"+(?:=(?:" + _TOKEN + rb"+|" + _QUOTED + rb'"))?)*'
_SIZE: Final = re.compile(rb"(" + _HEX + rb")" + _EXTENSIONS + rb"\r\n")
_EXTENSION_BEGUN: Final = rb";(?:" + _TOKEN + rb"+(?:=(?:" + _TOKEN + rb"*|" + _QUOTED + rb'"?))?)?'
_SIZE_BEGUN: Final = re.compile(_HEX + _EXTENSIONS + rb"(?:\r|" + _EXTENSION_BEGUN + rb")?")
_TRAILER: Final = re.compile(_TOKEN + rb"+:[\t\x20-\x7e\x80-\xff]*\r\n")
_TRAILER_BEGUN: Final = re.compile(_TOKEN + rb"*(?:(?<=.):[\t\x20-\x7e\x80-\xff]*)?\r?")


_MOST_BEGINNINGS: Final = 4096
_beginnings: dict[int, bytes] = {}


class NotChunked(Exception):
    """What came is no chunked body. `args[0]` says what is wrong with it."""


class Chunks:
    """Feed it what comes. `ended`: the body is whole, and nothing more is to be fed."""

    __slots__ = ("_begun", "_is_between", "_last", "_missing", "ended")

    def __init__(self) -> None:
        self._begun = b""  # of a line
        self._missing = 0  # bytes of a chunk, and of the line end after it
        self._last = False
        self._is_between = True  # two chunks
        self.ended = False

    def whole(self, data: bytes) -> bytes | None:
        """The body in `data`, where that is one chunk from its size to its line end. None: `feed` it."""
        if not self._is_between:
            return None
        # How long it is says how a chunk of that length begins, but for capitals and zeros, which `feed` knows too.
        length = len(data)
        begins = _beginnings.get(length) or _beginning(length)
        if data.startswith(begins) and data[-2:] == b"\r\n" and begins:
            return data[len(begins) : -2]
        return None

    def feed(self, data: bytes, pieces: list[bytes]) -> int:
        """Add what `data` has of the body to `pieces`. How many bytes at the end of `data` are not the body's any more.

        Raises NotChunked; what was found before is among the pieces.
        """
        if self._begun:
            data, self._begun = self._begun + data, b""
        at, end = 0, len(data)
        while at < end and not self.ended:
            if self._missing:
                at = self._more(data, at, pieces)
            elif self._last:
                at = self._trailer(data, at)
            else:
                at = self._chunk(data, at, pieces)
        self._is_between = not (self._begun or self._missing or self._last)
        return end - at

    def _chunk(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        line = _SIZE.match(data, at)
        if line is None:
            return self._wait_for_line(data, at, _SIZE_BEGUN, "a chunk does not begin with its size")
        start = line.end()
        size = int(line[1], 16)
        if not size:
            self._last = True
            return start
        stop = start + size
        if data.startswith(b"\r\n", stop):
            pieces.append(data[start:stop])
            return stop + 2
        self._missing = size + 2
        return start

    def _more(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        """Of a chunk that did not come whole, or does not end where it should."""
        missing = self._missing
        piece = data[at : at + missing]
        self._missing -= len(piece)
        of_body = missing - 2
        if of_body > 0:
            pieces.append(piece[:of_body])
        line_end = piece[max(of_body, 0) :]
        if line_end and not b"\r\n"[2 - min(missing, 2) :].startswith(line_end):
            raise NotChunked("a chunk is longer than it says")
        return at + len(piece)

    def _trailer(self, data: bytes, at: int) -> int:
        if data.startswith(b"\r\n", at):
            self.ended = True
            return at + 2
        line = _TRAILER.match(data, at)
        if line is None:
            return self._wait_for_line(data, at, _TRAILER_BEGUN, "a trailer is ill-formed")
        return line.end()

    def _wait_for_line(self, data: bytes, at: int, begun: re.Pattern[bytes], otherwise: str) -> int:
        if len(data) - at > _LONGEST_LINE or begun.fullmatch(data, at) is None:
            raise NotChunked(otherwise)
        self._begun = data[at:]
        return len(data)


def _beginning(length: int) -> bytes:
    """The size line of the only chunk in so many bytes; b"" where there is none of that length."""
    for digits in range(1, 9):
        size = length - digits - 4
        line = b"%x\r\n" % max(size, 0)
        if size > 0 and len(line) == digits + 2:
            if len(_beginnings) < _MOST_BEGINNINGS:
                _beginnings[length] = line
            return line
    return b""
