"""The framing of requests: which heads are taken, and what they say about the body.

Every head that reaches `infermux serve` passes `check_head` before any other parser sees it, so the rules are the same
on the express lane and in front of hypercorn. The rules are stricter than RFC 9112 where leniency is how requests are
smuggled: what two parsers might read differently is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from infermux.errors import HeadTooLarge, InvalidRequest, UnmetExpectation

MAX_HEAD_BYTES = 32 * 1024
"""Of request line and header fields together; larger ones are answered with 431."""

HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\n"
"""The head-like first half of the HTTP/2 connection preface (RFC 9113, 3.4)."""

_REQUEST_LINE = re.compile(rb"([A-Z][A-Z-]{0,19}) (\*|/[\x21\x22\x24-\x7e]*+) HTTP/1\.([01])\r\n")
# One match is one whole line. Lines that are not a field (obs-fold, blank before the colon, control bytes, bare CR)
# match nowhere, so fewer matches than line ends means that some line is ill-formed.
_FIELD = re.compile(rb"(?m)^([!#$%&'*+\-.^_`|~0-9A-Za-z]++):[ \t]*+([^\x00-\x08\x0a-\x1f\x7f]*+)\r\n")
_HOST = re.compile(rb"(?:[0-9A-Za-z._~%!$&'()*+;=-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_USUAL_TOKENS = {value: frozenset({value}) for value in (b"keep-alive", b"close", b"upgrade")}
_LENGTH_FIELD = re.compile(rb"(?i)\r\ncontent-length:[ \t]*+([0-9]{1,18})(?=\r\n)")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_BAD_LINE_END = re.compile(rb"(?<!\r)\n|\r[^\n]")
_FRAMING = (b"host", b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"expect")


class ParsedHead(msgspec.Struct, eq=False):
    """A checked head. Names are lower case, values without blanks around them.

    `length` is the body's Content-Length, None when there is none; `chunked` excludes it. `connection` has the
    lower-case tokens of the Connection header. `keep_alive` is what version and Connection say together.
    """

    method: bytes
    target: bytes
    minor: int
    headers: Sequence[tuple[bytes, bytes]]
    length: int | None = None
    chunked: bool = False
    connection: frozenset[bytes] = frozenset()
    keep_alive: bool = True
    expects_continue: bool = False
    upgrade: bytes | None = None

    def __repr__(self) -> str:
        """Without the target and the headers: they may hold a key."""
        return f"ParsedHead({self.method!r}, length={self.length}, chunked={self.chunked})"

    @property
    def has_body(self) -> bool:
        return self.chunked or bool(self.length)


def check_head(raw: bytes) -> ParsedHead:
    """Parse `raw`, a request's head up to and with its empty line. Pure.

    Raises InvalidRequest with a sentence about what is wrong, HeadTooLarge above `MAX_HEAD_BYTES`.
    """
    if len(raw) > MAX_HEAD_BYTES:
        raise head_too_large()
    line = _REQUEST_LINE.match(raw)
    if line is None:
        raise InvalidRequest(_what_is_wrong_with_the_line(raw))
    start = line.end()
    fields: list[tuple[bytes, bytes]] = _FIELD.findall(raw, start)
    if len(fields) + 1 != raw.count(b"\n", start) or not raw.endswith(b"\r\n\r\n"):
        raise InvalidRequest(
            "A header line is ill-formed: it must be `Name: value` without control bytes, on one line."
        )
    method, target, minor = line.groups()
    headers = [(name.lower(), value) for name, value in fields]
    if b" \r\n" in raw or b"\t\r\n" in raw:
        headers = [(name, value.rstrip(b" \t")) for name, value in headers]
    head = ParsedHead(method, target, 1 if minor == b"1" else 0, headers)
    _read_framing(head, _framing_fields(headers))
    if target == b"*" and method != b"OPTIONS":
        raise InvalidRequest("The request target `*` is for OPTIONS only.")
    return head


class Again:
    """The last good head of a connection, `raw` as it came. The next one is mostly it, but for its body's length."""

    __slots__ = ("_after", "_before", "parsed", "raw")

    def __init__(self, raw: bytes, parsed: ParsedHead) -> None:
        self.parsed = parsed
        self.raw = raw
        found = _LENGTH_FIELD.search(raw) if parsed.length is not None else None
        self._before, self._after = (raw, b"") if found is None else (raw[: found.start(1)], raw[found.end(1) :])

    def length_of(self, raw: bytes) -> bytes | None:
        """The length in `raw`, where that is all it differs in; None for any other head."""
        before, after = self._before, self._after
        if not (raw.startswith(before) and raw.endswith(after)):
            return None
        length = raw[len(before) : len(raw) - len(after)]
        return length if length.isdigit() and len(length) <= 18 and len(raw) <= MAX_HEAD_BYTES else None


def check_partial(data: bytes | bytearray, start: int) -> None:
    """Refuse an unfinished head that can never become a good one; `start` is how much of it was looked at before.

    Raises InvalidRequest, HeadTooLarge. Without this a caller with bare line feeds, or one that speaks TLS to a plain
    port, would only be answered when the time for the head is over.
    """
    if len(data) > MAX_HEAD_BYTES:
        raise head_too_large()
    if not 0x41 <= data[0] <= 0x5A:
        raise InvalidRequest("This is not HTTP/1.1: a request starts with a method in capitals.")
    if _BAD_LINE_END.search(data, max(0, start - 1)):
        raise InvalidRequest("Lines end in CR LF; a bare CR or LF is refused.")


def head_too_large() -> HeadTooLarge:
    return HeadTooLarge(f"The request line and headers may have {MAX_HEAD_BYTES} bytes together.")


def _framing_fields(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    seen = dict(headers)
    if len(seen) == len(headers):  # no name twice, as nearly always: a few look-ups instead of a look at each
        return [(name, seen[name]) for name in _FRAMING if name in seen]
    return [pair for pair in headers if pair[0] in _FRAMING]


def _read_framing(head: ParsedHead, framing: list[tuple[bytes, bytes]]) -> None:
    hosts = 0
    for name, value in framing:
        if name == b"host":
            hosts += 1
            _check_host(value)
        elif name == b"content-length":
            _read_length(head, value)
        elif name == b"transfer-encoding":
            _read_transfer_encoding(head, value)
        elif name == b"connection":
            head.connection |= _tokens(value)
        elif name == b"upgrade":
            head.upgrade = value.lower() if head.upgrade is None else b""
        elif name == b"expect":
            _read_expect(head, value)
    if hosts != 1 and (hosts or head.minor):
        raise InvalidRequest("Exactly one Host header is required.")
    if head.chunked and head.length is not None:
        raise InvalidRequest("Content-Length and Transfer-Encoding exclude each other.")
    _read_connection(head)


def _tokens(value: bytes) -> frozenset[bytes]:
    value = value.lower()
    return _USUAL_TOKENS.get(value) or frozenset(token.strip(b" \t") for token in value.split(b","))


def _check_host(value: bytes) -> None:
    if _HOST.fullmatch(value) is None:
        raise InvalidRequest("The Host header is not `name` or `name:port`.")


def _read_length(head: ParsedHead, value: bytes) -> None:
    if head.length is not None:
        raise InvalidRequest("More than one Content-Length.")
    if _LENGTH.fullmatch(value) is None:
        raise InvalidRequest("Content-Length is not a decimal number of at most 18 digits.")
    head.length = int(value)


def _read_transfer_encoding(head: ParsedHead, value: bytes) -> None:
    if head.chunked or value.lower() != b"chunked":
        raise InvalidRequest("The only Transfer-Encoding taken is a single `chunked`.")
    if not head.minor:
        raise InvalidRequest("HTTP/1.0 has no Transfer-Encoding.")
    head.chunked = True


def _read_expect(head: ParsedHead, value: bytes) -> None:
    if value.lower() != b"100-continue":
        raise UnmetExpectation("The only expectation met is `100-continue`.")
    head.expects_continue = head.minor == 1


def _read_connection(head: ParsedHead) -> None:
    tokens = head.connection
    head.keep_alive = b"close" not in tokens and (head.minor == 1 or b"keep-alive" in tokens)
    if head.upgrade is not None and b"upgrade" not in tokens:
        head.upgrade = None


def _what_is_wrong_with_the_line(raw: bytes) -> str:
    line = raw.partition(b"\n")[0]
    parts = line.rstrip(b"\r").split(b" ")
    if len(parts) != 3:
        return "The request line is not `METHOD target HTTP/1.1`."
    method, target, version = parts
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        return "The version is not HTTP/1.1 or HTTP/1.0."
    if not target.startswith(b"/"):
        return "The request target must be a path, starting with `/`."
    if not re.fullmatch(rb"[A-Z][A-Z-]{0,19}", method):
        return "The method is not a word in capitals."
    return "The request target may have visible ASCII characters only, and no fragment."
