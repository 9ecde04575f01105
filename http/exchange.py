"""The seam between the inference handler and the two ways in.

An `Exchange` is one request and its answer. The handler is written once against it; `asgi` and `express` implement it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NewType, Protocol

import msgspec

from infermux.errors import CallerLeft as CallerLeft
from infermux.providers.transport import Stoppable

Headers = Sequence[tuple[bytes, bytes]]


HeaderLines = NewType("HeaderLines", bytes)
"""Header lines as they are written, each with its CRLF: for those who answer often and render once.

Whoever makes them sees to it that no value has a line break in it, and leaves the binding's own headers out. At run
time they are bytes: a binding takes any bytes for such lines, and only the type checker tells them apart.
"""


def pairs_of(lines: HeaderLines) -> list[tuple[bytes, bytes]]:
    """The same as names and values."""
    found = [line.partition(b": ") for line in lines.split(b"\r\n") if line]
    return [(name, value) for name, _, value in found]


RARE = frozenset(
    {
        b"origin",
        b"x-request-id",
        b"traceparent",
        b"x-infermux-caller",
        b"x-infermux-tags",
        b"x-infermux-priority",
        b"x-infermux-strict",
        b"x-infermux-timeout",
        b"openai-beta",
        b"anthropic-beta",
        b"anthropic-version",
    }
)
"""Headers that say more about a request than who sends it: without any of them there is less to look for."""


class Head(msgspec.Struct, eq=False):
    """A request's head. Header names are lower case; `path` is without the query, undecoded; `client` host and port.

    The heads of one connection's requests are mostly the same: they are then one object, so that what was found out of
    it need not be found out again. `passed` and `checked` are for those who do: see `inference` and `admission`.
    `is_plain`: none of the `RARE` headers is there.
    """

    method: bytes
    path: bytes
    query: bytes
    headers: Headers
    client: tuple[str, int] | None = None
    passed: object = None
    checked: Any = None
    is_plain: bool | None = None
    _first: dict[bytes, bytes] | None = None

    def __post_init__(self) -> None:
        if self.is_plain is None:  # else it was found out of another one that has the same headers but for its length
            self.is_plain = self.lacks(RARE)

    def __repr__(self) -> str:
        """Without the query and the headers: callers put keys there."""
        return f"Head({self.method!r}, {self.path!r}, client={self.client!r})"

    def get(self, name: bytes) -> bytes | None:
        """The first value of header `name` (lower case), or None."""
        first = self._first
        if first is None:
            first = self._first = dict(reversed(self.headers))
        return first.get(name)

    def of_length(self, length: bytes) -> Head:
        """The same with another Content-Length."""
        headers = [(name, length if name == b"content-length" else value) for name, value in self.headers]
        return msgspec.structs.replace(self, headers=headers, _first=None)

    def of_client(self, client: tuple[str, int] | None) -> Head:
        """The same from somebody else: what was found out of its lines holds."""
        return msgspec.structs.replace(self, client=client)

    def lacks(self, names: frozenset[bytes]) -> bool:
        """Whether none of these headers (lower case) is there: one look for what requests seldom have."""
        first = self._first
        if first is None:
            first = self._first = dict(reversed(self.headers))
        return names.isdisjoint(first)


class Exchange(Protocol):
    """One request in, one answer out.

    After `start` the answer is a stream: `send_now` any number of times, then `finish`. Head and first body bytes leave
    in one write. The caller's leaving is known as `left`, and cancels the scope given to `watch`.
    """

    @property
    def head(self) -> Head: ...
    @property
    def left(self) -> bool: ...
    @property
    def stalled(self) -> bool:
        """Why it has `left`: it read nothing for `write_timeout`, and was cut."""
        ...

    @property
    def shutting_down(self) -> bool:
        """True once the server drains: why a handler is cancelled when the caller has not left."""
        ...

    async def body(self) -> bytes:
        """The whole body, once. Raises PayloadTooLarge, RequestTimeout (slow body), LengthRequired, CallerLeft."""
        ...

    async def receive_body(self) -> bytes | None:
        """The next bytes of the body as they come, never b""; None at its end. Raises as `body`.

        In place of `body`, for one that is not to be held whole. Only what is waited for here counts as the caller's
        slowness, not the time between two calls.
        """
        ...

    def watch(self, scope: Stoppable | None) -> None:
        """Cancel `scope` when the caller leaves (at once if it has); None: stop watching. Only the last one counts."""
        ...

    async def respond(self, status: int, headers: Headers | HeaderLines, body: bytes) -> None:
        """A whole answer; Content-Length is added. Raises CallerLeft.

        Framing is the binding's, here and in `start`: Content-Length, Transfer-Encoding, Connection, Keep-Alive, Date
        and Server among `headers` are left out. A line break or NUL in a header is a ValueError: nothing was sent.
        `HeaderLines` go out unchecked: who made them answers for both.
        """
        ...

    def start(self, status: int, headers: Headers | HeaderLines) -> None:
        """Begin a streamed answer. Nothing is written yet."""
        ...

    def send_now(self, data: bytes) -> bool:
        """Take `data`; True: all of it was handed to the transport; False: await `flush` before more."""
        ...

    async def flush(self) -> None:
        """Wait until everything taken was written.

        Raises CallerLeft when the caller is gone or reads nothing for `write_timeout`.
        """
        ...

    async def finish(self, trailers: Headers = ()) -> None:
        """End the streamed answer cleanly (framing only: what the dialect needs to end well is the handler's).

        `trailers` are fields after the body (RFC 9110, 6.5). A binding that cannot send any leaves them out.
        """
        ...

    def abort(self) -> None:
        """Cut the connection without ending the answer's framing. Idempotent."""
        ...


Handler = Callable[[Exchange], Awaitable[None]]
"""Answers one request. Whatever it raises but Cancelled and CallerLeft becomes an error answer, or a cut stream."""

IsInference = Callable[[bytes, bytes], bool]
"""Whether a request (method, path without query) is the inference handler's."""
