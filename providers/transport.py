"""The interface between an adapter and its way out, and the choice between the two ways.

A transport belongs to one provider: it has its own connections, shares none, and knows one origin. Adapters prepare a
`RequestTemplate` per endpoint once and send it with a body per request. Both implementations (`express`, `httpx`)
keep the same promises:

- every failure is an `UpstreamFailure`: CONNECT (name, refusal, TLS, proxy), CONNECT_TIMEOUT, BROKEN (a connection
  that died after it stood, be it before the first byte of the answer or in the middle of it), MALFORMED (what came is
  not HTTP, is over a bound, or is encoded in a way that was not asked for);
- there is no time limit but the one for connecting: the others belong to the caller's cancel scope;
- cancelling any call closes the connection it used; it never goes back to the pool;
- no redirect is followed, nothing is decompressed, and header values never appear in an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Final, Protocol
from urllib.parse import urlsplit

import attrs

from infermux import __version__
from infermux.config.settings import ProviderSettings
from infermux.errors import FailureKind, UpstreamFailure

from .proxies import proxy_for

USER_AGENT: Final = f"infermux/{__version__}".encode()

Headers = Sequence[tuple[bytes, bytes]]

BODY_LIMIT: Final = 64 * 1024 * 1024
"""Bytes `Response.read` takes unless told otherwise."""

HEAD_LIMIT: Final = 64 * 1024
"""Bytes a response's head, trailers included, may have."""

IDLE_SECONDS: Final = 55.0
"""How long an idle connection is kept: below the 60 s after which common load balancers close theirs."""

BODYLESS: Final = frozenset({b"GET", b"HEAD", b"DELETE"})
"""Methods whose requests have a Content-Length only if they have a body (RFC 9110 section 8.6)."""

_NOT_A_TOKEN = re.compile(rb"[^!#$%&'*+\-.^_`|~0-9A-Za-z]")
_NOT_A_VALUE = re.compile(rb"[\r\n\0]")
_NOT_A_TARGET = re.compile(rb"[\x00-\x20\x7f-\xff]")


@attrs.frozen
class RequestTemplate:
    """All of a request that does not change: made once by `Transport.template`, sent many times.

    `prefix` is the rendered head (request line and fixed headers, every line ended) where the transport renders it
    itself, b"" where it does not. `headers` may hold a credential: it is not in the repr, nor is `prefix`.
    """

    method: bytes
    target: bytes
    headers: Headers = attrs.field(repr=False)
    prefix: bytes = attrs.field(default=b"", repr=False)


class Stoppable(Protocol):
    """Something that goes on, and is ended by `cancel` at its next wait: a cancel scope, or what does without one."""

    def cancel(self) -> None: ...


class Stopped(Exception):
    """What the asker waited on was cancelled through `Asker.waits_on`. Its connection is closed."""


class Asker(Protocol):
    """Who asked for a request. `connecting` shows whether it is waiting for a connection.

    `waits_on` is set to what has to be cancelled so that the request ends: it then raises `Stopped`. That spares askers
    a cancel scope where the adapter has no waits but those of a transport that does so: its `stops` is true then.
    """

    connecting: bool
    waits_on: Stoppable | None


CONNECTING: Final[ContextVar[Asker | None]] = ContextVar("connecting", default=None)
"""Set by whoever wants to know, before `send`. A transport that does not connect by itself leaves it alone."""


class Source(Protocol):
    """A request's body in pieces, for one that is not to be held whole.

    What `receive` raises ends the request, and comes out of `Transport.send` as it is. `length` is in bytes, None
    where nobody knows it: the body is then chunked.
    """

    @property
    def length(self) -> int | None: ...
    async def receive(self) -> bytes | None:
        """The next bytes, never b""; None at the end."""
        ...

    def rewind(self) -> bool:
        """Begin again, for a connection that died at once; False where what was taken is not there any more."""
        ...


class Response(Protocol):
    """An answer whose head has arrived. Read it with `read` or `receive`; then, whatever happened, `close` it."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Headers:
        """All headers in the order they came; names lower case."""
        ...

    @property
    def content_type(self) -> bytes:
        """The Content-Type as it was sent, b"" without one."""
        ...

    @property
    def framed(self) -> bool:
        """False where only the connection's end marks the body's: such a body cannot be told from a truncated one."""
        ...

    def get(self, name: bytes) -> bytes | None:
        """The first value of header `name` (lower case), or None."""
        ...

    async def read(self, limit: int = BODY_LIMIT) -> bytes:
        """The rest of the body, complete by its framing. Raises BROKEN if truncated, MALFORMED over `limit` bytes."""
        ...

    async def receive(self) -> bytes | None:
        """The next body bytes as they arrived, never b""; None at the end of the framing, and from then on.

        Raises BROKEN when the connection ends before the framing does.
        """
        ...

    def close(self) -> None:
        """Give the connection back if the body was read to its end and it may be kept, drop it otherwise.

        Idempotent, never blocks.
        """
        ...


class Transport(Protocol):
    """One provider's way out. `name` is `express` or `httpx`."""

    @property
    def name(self) -> str: ...
    @property
    def stops(self) -> bool:
        """Whether it tells the asker what to cancel: see `Asker`."""
        ...

    def template(self, method: bytes, target: bytes, headers: Headers = ()) -> RequestTemplate:
        """Prepare a request. `target` is the path and query (origin-form, the base URL's path included).

        Host, User-Agent, Accept-Encoding, Connection and Content-Length are the transport's; `headers` may override
        Host and User-Agent. Raises ValueError for anything that cannot stand in a request's head.
        """
        ...

    async def send(self, template: RequestTemplate, body: bytes | Source = b"", headers: Headers = ()) -> Response:
        """Send `template` with `body` and further `headers`; return when the response's head is here.

        A kept connection that dies before the first byte of an answer is replaced once by a fresh one, if the body can
        be sent again. A refusal that comes before the end of the body ends the sending.
        """
        ...

    async def request(self, method: bytes, target: bytes, headers: Headers = (), body: bytes = b"") -> Response:
        """`send` of a template made for this one request."""
        ...

    async def aclose(self) -> None:
        """Close every idle connection; those in use are closed when given back. Later requests fail with CONNECT."""
        ...


@attrs.frozen
class Origin:
    """Scheme, host and port of a base URL. `host` is without brackets; `tls` for https."""

    host: str
    port: int
    tls: bool

    @classmethod
    def of(cls, base_url: str) -> Origin:
        """Raises ValueError for a URL that is not absolute http or https. A user name in it is left out."""
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("a base URL is http://HOST or https://HOST, with an optional port and path")
        tls = parts.scheme == "https"
        return cls(parts.hostname, parts.port or (443 if tls else 80), tls)

    @property
    def authority(self) -> str:
        """Host and port as the Host header has them: brackets around IPv6, no default port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.authority}"


def target_of(base_url: str, path: str) -> bytes:
    """The request target for `path` below `base_url`: the base URL's own path and query are kept."""
    parts = urlsplit(base_url)
    below, _, query = path.partition("?")
    joined = parts.path.rstrip("/") + below
    both = "&".join(filter(None, (parts.query, query)))
    return (f"{joined or '/'}?{both}" if both else joined or "/").encode("ascii")


def check_request(method: bytes, target: bytes) -> None:
    """Raise ValueError unless both can stand in a request line."""
    if not method or _NOT_A_TOKEN.search(method) or not target.startswith(b"/") or _NOT_A_TARGET.search(target):
        raise ValueError("not a request method and an absolute path of visible ASCII")


def check_headers(headers: Headers) -> None:
    """Raise ValueError unless every header can stand in a head. The message has the name, never the value."""
    for name, value in headers:
        if not name or _NOT_A_TOKEN.search(name):
            raise ValueError(f"not a header name: {name!r}")
        if _NOT_A_VALUE.search(value):
            raise ValueError(f"line break or NUL in the value of header {name!r}")


def fixed_headers(origin: Origin, headers: Headers) -> list[tuple[bytes, bytes]]:
    """`headers` after the transport's own: Host and User-Agent unless they are given, and Accept-Encoding."""
    given = {name.lower() for name, _ in headers}
    defaults = [(b"Host", origin.authority.encode("idna")), (b"User-Agent", USER_AGENT)]
    own = [header for header in defaults if header[0].lower() not in given]
    return [*own, (b"Accept-Encoding", b"identity"), *headers]


def is_framed(status: int, headers: Headers) -> bool:
    """Whether an HTTP/1 answer says itself where its body ends (RFC 9112 section 6.3)."""
    if status in (204, 304):
        return True
    length = False
    for name, value in headers:
        if name == b"transfer-encoding":
            return value.rpartition(b",")[2].strip().lower() == b"chunked"
        length = length or name == b"content-length"
    return length


def first(headers: Headers, name: bytes) -> bytes | None:
    """The first value of header `name` among `headers` with lower-case names."""
    for key, value in headers:
        if key == name:
            return value
    return None


async def read_some(response: Response, most: int) -> bytes:
    """The first bytes of a body: `most` and what came with them, or what came before the connection broke.

    For bodies of refusals, where the status says more than the rest would have.
    """
    parts: list[bytes] = []
    size = 0
    try:
        while size < most and (data := await response.receive()) is not None:
            parts.append(data)
            size += len(data)
    except UpstreamFailure:
        pass
    return b"".join(parts)


def check_encoding(status: int, encoding: bytes | None) -> None:
    """Refuse an encoded 2xx body: identity was asked for, and the bytes go on to a caller who asked for nothing."""
    if encoding is not None and 200 <= status < 300 and encoding.strip().lower() not in (b"", b"identity"):
        raise UpstreamFailure(
            FailureKind.MALFORMED, "sent an encoded body though identity was asked for", status=status
        )


def too_large(limit: int) -> UpstreamFailure:
    """The failure of a body over `limit` bytes."""
    return UpstreamFailure(FailureKind.MALFORMED, f"the provider's answer is over {limit} bytes")


def choose_transport(settings: ProviderSettings, base_url: str, environ: Mapping[str, str]) -> Transport:
    """The way out for a provider at `base_url`: httpx for HTTP/2, a proxy or custom TLS, express for all else.

    `environ` is looked at for proxies (`HTTP_PROXY` and its kin) unless the settings name one. Nothing is connected,
    so this never blocks. Raises ValueError for a base URL or a proxy that cannot be used.
    """
    # Imported here: both implement this module's interface, and httpx costs tens of milliseconds to import.
    proxy = settings.proxy or proxy_for(base_url, environ)
    if settings.http2 or proxy or settings.tls.ca_file is not None or not settings.tls.verify:
        from .httpx_transport import HttpxTransport

        return HttpxTransport(
            Origin.of(base_url),
            connect_timeout=settings.timeouts.connect,
            http2=settings.http2,
            proxy=proxy,
            ca_file=settings.tls.ca_file,
            verify=settings.tls.verify,
        )
    from .express import ExpressTransport

    return ExpressTransport(Origin.of(base_url), connect_timeout=settings.timeouts.connect)
