"""Bytes into lines, whatever the chunks they come in. Pure."""

from __future__ import annotations

from .messages import LINE_LIMIT


class LineTooLong(Exception):
    """A line is over the limit; what was kept of it is dropped."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"a line of more than {limit} bytes")


class LineBuffer:
    """`feed` returns the lines that ended, without their ends. A line in many pieces is copied once."""

    __slots__ = ("_held", "_limit", "_size")

    def __init__(self, limit: int = LINE_LIMIT) -> None:
        self._limit = limit
        self._held: list[bytes] = []
        self._size = 0

    @property
    def pending(self) -> int:
        """Bytes of a line that has not ended."""
        return self._size

    def feed(self, data: bytes) -> list[bytes]:
        """Raises LineTooLong."""
        lines = data.split(b"\n")
        rest = lines.pop()
        if lines and self._held:
            self._held.append(lines[0])
            lines[0] = b"".join(self._held)
            self._held.clear()
            self._size = 0
        if rest:
            self._held.append(rest)
            self._size += len(rest)
        if self._size > self._limit or max(map(len, lines), default=0) > self._limit:
            self._held.clear()
            self._size = 0
            raise LineTooLong(self._limit)
        return lines
