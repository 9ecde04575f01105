"""The answer to one `invoke`, as the `Response` that streams are made of: chunks in, server-sent events out.

The chunks that came together go on together. Whatever ends the answer otherwise than by `end` closes the connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from infermux.errors import FailureKind, UpstreamFailure

from ..transport import BODY_LIMIT, Headers, too_large
from .failures import failure_of, not_carried
from .link import Link
from .messages import BROKEN_JSON, Chunk, End, Error, Said, Started, read_said

_SHOWN: Final = 80  # bytes of a line that is no message, for whoever looks for the reason
_BRACE: Final = ord("{")


class _Typed(msgspec.Struct):
    type: str


_types: Final = msgspec.json.Decoder(_Typed)

Framing = Callable[[bytes], bytes]


def unnamed(data: bytes) -> bytes:
    """An event of chat completions and completions."""
    return b"data: %b\n\n" % data


def named(data: bytes) -> bytes:
    """An event of messages and responses: its name is its type."""
    try:
        name = _types.decode(data).type
    except BROKEN_JSON:
        return unnamed(data)
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data) if name.isidentifier() or "." in name else unnamed(data)


class Answering:
    """A request that was taken. See `transport.Response`; `end` is the process's last word, once it has come."""

    __slots__ = (
        "_failure",
        "_frame",
        "_give_back",
        "_lines",
        "_link",
        "_secrets",
        "content_type",
        "dropped",
        "end",
        "first",
    )  # fmt: skip

    status = 200
    headers: Headers = ()
    framed = True

    def __init__(
        self, link: Link, give_back: Callable[[Link], None], *, stream: bool, frame: Framing, secrets: tuple[str, ...]
    ) -> None:
        """Owns `link` from now on, until it is given back or closed."""
        self._link: Link | None = link
        self._give_back = give_back
        self._frame = frame
        self._secrets = secrets
        self._lines: list[bytes] = []
        self._failure: UpstreamFailure | None = None
        self.content_type = b"text/event-stream" if stream else b"application/json"
        self.dropped: tuple[str, ...] = ()
        self.end: End | None = None
        self.first = b""  # the first chunk

    def __repr__(self) -> str:
        return f"Answering({self._link!r}, end={self.end!r})"

    def get(self, name: bytes) -> bytes | None:
        del name
        return None

    async def begin(self) -> None:
        """Return when the request was taken. Raises Gone, UpstreamFailure, NotCarried."""
        link = self._held()
        try:
            lines = await link.receive()
            message = self._read(link, lines[0])
            if isinstance(message, Error):
                self._finish(link, lines[1:])
                raise not_carried(message, secrets=self._secrets) or failure_of(message, secrets=self._secrets)
            if not isinstance(message, Started):
                raise link.malformed(f"answered an invoke with {_name(message)!r} in place of 'started'")
        except BaseException:
            self.close()
            raise
        self.dropped = message.dropped
        self._lines = lines[1:]

    async def receive(self) -> bytes | None:
        """The events of the chunks that came; None after `end`."""
        found = await self.chunks()
        if found is None:
            return None
        frame = self._frame
        return frame(found[0]) if len(found) == 1 else b"".join(map(frame, found))

    async def chunks(self) -> list[bytes] | None:
        """The data of the chunks that came, at least one; None after `end`. Raises UpstreamFailure."""
        while self.end is None:
            if self._failure is not None:
                raise self._failure
            link = self._held()
            try:
                lines, self._lines = self._lines or await link.receive(), []
                found = self._take(link, lines)
            except BaseException:  # cancellation too: what was received is lost, so is the connection
                self.close()
                raise
            if found:
                return found
        return None

    def _take(self, link: Link, lines: list[bytes]) -> list[bytes]:
        found: list[bytes] = []
        for at, line in enumerate(lines):
            message = self._read(link, line)
            if type(message) is Chunk:
                data = bytes(message.data)
                if not self.first:
                    self.first = data
                if data[0] != _BRACE:
                    raise link.malformed("sent a chunk whose data is no object")
                found.append(data)
                continue
            if isinstance(message, End):
                self.end = message
            elif isinstance(message, Error):
                self._fail(failure_of(message, secrets=self._secrets), bool(found))
            else:
                raise link.malformed(f"said {_name(message)!r} in the middle of an answer")
            self._finish(link, lines[at + 1 :])
            break
        return found

    def _fail(self, failure: UpstreamFailure, later: bool) -> None:
        """What came before an error is passed on first."""
        if not later:
            raise failure
        self._failure = failure

    def _finish(self, link: Link, rest: list[bytes]) -> None:
        """The request is over: the connection can carry another, if nothing else was said on it."""
        self._link = None
        link.reusable = not rest and not link.pending
        self._give_back(link)

    def _read(self, link: Link, line: bytes) -> Said:
        try:
            return read_said(line)
        except BROKEN_JSON as error:
            raise link.malformed(f"sent a line that is no message of the protocol: {error}{_shown(line)}") from None

    def _held(self) -> Link:
        if self._link is None:
            raise UpstreamFailure(FailureKind.BROKEN, "the connection was closed")
        return self._link

    async def read(self, limit: int = BODY_LIMIT) -> bytes:
        """All of the answer's chunks, one after another."""
        parts: list[bytes] = []
        size = 0
        while (found := await self.chunks()) is not None:
            parts += found
            size += sum(map(len, found))
            if size > limit:
                self.close()
                raise too_large(limit)
        return b"".join(parts)

    def close(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()


def _name(message: Said) -> str:
    return str(message.__struct_config__.tag)


def _shown(line: bytes) -> str:
    """The beginning of what is no JSON by intention, such as a banner. Anything else may be a model's words."""
    if line.lstrip().startswith((b"{", b"[", b'"')):
        return ""
    return f": {line[:_SHOWN].decode('utf-8', 'backslashreplace')!r}"
