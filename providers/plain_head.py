"""Heads of answers that are plain: their status and fields, and how long the body is, read line by line.

A provider's answers have mostly the same lines, so those that were read before are not read again. Whatever is not
plain is None, and left to a parser that knows all of HTTP. RFC 9112 is the framing's source.
"""

from __future__ import annotations

import re
from typing import Final

from .transport import HEAD_LIMIT

KEPT_LINES: Final = 1024
"""Lines that are remembered; then all are forgotten."""
LONGEST_KEPT: Final = 256

_STATUS_LINE = re.compile(rb"HTTP/1\.1 (2(?!04)[0-9]{2}|3(?!04)[0-9]{2}|[45][0-9]{2})(?: [\x20-\x7e]*)?")
# Only what is plain: a value without a blank at its end, on one line.
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]++):[ \t]*+([!-~\x80-\xff \t]*(?<![ \t]))")
_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"trailer"})

Field = tuple[bytes, bytes]

_statuses: dict[bytes, int] = {}
_fields: dict[bytes, Field] = {}


PlainHead = tuple[int, list[Field], dict[bytes, bytes], int, int | None]
"""Status; fields in the order they came, with names in lower case; the first of each name; where the body begins, and
how many bytes it has: None, it is chunked."""


def read_plain(data: bytes) -> PlainHead | None:
    """The head that `data` begins with, where all of it is there and plain. Pure, but for what it remembers."""
    end = data.find(b"\r\n\r\n")
    if not 0 < end < HEAD_LIMIT:
        return None
    lines = data[:end].split(b"\r\n")
    status = _statuses.get(lines[0]) or _read_status(lines[0])
    if not status:
        return None
    del lines[0]
    fields: list[Field] = []
    first: dict[bytes, bytes] = {}
    for line in lines:
        field = _fields.get(line) or _read_field(line)
        if field is None:
            return None
        name, value = field
        if name not in first:
            first[name] = value
        elif name in _FRAMING:
            return None
        fields.append(field)
    if first.get(b"connection", b"keep-alive") != b"keep-alive" or b"upgrade" in first or b"trailer" in first:
        return None  # to keep the connection is nothing new in HTTP/1.1
    length, encoding = first.get(b"content-length"), first.get(b"transfer-encoding")
    if length is None:
        if encoding is None or encoding.lower() != b"chunked":
            return None
        return status, fields, first, end + 4, None
    if encoding is not None or not length.isdigit() or len(length) > 10:
        return None
    return status, fields, first, end + 4, int(length)


def _read_status(line: bytes) -> int:
    """0: it is not plain."""
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        return 0
    status = int(match[1])
    if len(line) <= LONGEST_KEPT:
        if len(_statuses) >= KEPT_LINES:
            _statuses.clear()
        _statuses[line] = status
    return status


def _read_field(line: bytes) -> Field | None:
    match = _FIELD.fullmatch(line)
    if match is None:
        return None
    field = match[1].lower(), match[2]
    if len(line) <= LONGEST_KEPT:
        if len(_fields) >= KEPT_LINES:
            _fields.clear()
        _fields[line] = field
    return field
