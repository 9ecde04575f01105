"""The httpx transport: HTTP/2, proxies and custom TLS, for what those cost.

httpx's pool looks at every connection for every request, so at most 20 idle ones are kept (that bound must stay), and
a provider that needs hundreds of streams at once is better off without it. What httpx does on its own account is off:
redirects, the environment, cookies, decompression, time limits other than for connecting.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

import httpx
import trio

from infermux.errors import FailureKind, UpstreamFailure

from .transport import (
    BODY_LIMIT,
    BODYLESS,
    HEAD_LIMIT,
    IDLE_SECONDS,
    Headers,
    Origin,
    RequestTemplate,
    Response,
    Source,
    check_encoding,
    check_headers,
    check_request,
    first,
    fixed_headers,
    is_framed,
    too_large,
)
from .trust import client_context, reason

MAX_IDLE: Final = 20

# On level DEBUG these write headers, credentials included, to the log, and on INFO a line per request.
for _name in ("httpx", "httpcore", "hpack"):
    logging.getLogger(_name).setLevel(logging.WARNING)


class HttpxTransport:
    """See `Transport`. Raises ValueError for a `proxy` or `ca_file` that cannot be used."""

    name = "httpx"
    stops = False

    def __init__(
        self,
        origin: Origin,
        *,
        connect_timeout: float = 5.0,
        idle_seconds: float = IDLE_SECONDS,
        http2: bool = False,
        proxy: str | None = None,
        ca_file: str | None = None,
        verify: bool = True,
    ) -> None:
        self._origin = origin
        self._connect_timeout = connect_timeout
        self._url = httpx.URL(str(origin))
        self._extensions = {"timeout": httpx.Timeout(None, connect=connect_timeout).as_dict()}
        self._in_use = 0
        self._closed = False
        context = client_context(ca_file=ca_file, verify=verify)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=MAX_IDLE, keepalive_expiry=idle_seconds)
        try:
            self._client = httpx.AsyncClient(
                verify=context, http2=http2, limits=limits, proxy=_proxy(proxy), trust_env=False
            )
        except ImportError as error:
            raise ValueError("a SOCKS proxy needs the package socksio: pip install 'httpx[socks]'") from error

    def __repr__(self) -> str:
        return f"HttpxTransport({self._origin}, in_use={self._in_use}, closed={self._closed})"

    def template(self, method: bytes, target: bytes, headers: Headers = ()) -> RequestTemplate:
        check_request(method, target)
        check_headers(headers)
        return RequestTemplate(method, target, tuple(fixed_headers(self._origin, headers)))

    async def request(self, method: bytes, target: bytes, headers: Headers = (), body: bytes = b"") -> Response:
        return await self.send(self.template(method, target, headers), body)

    async def send(self, template: RequestTemplate, body: bytes | Source = b"", headers: Headers = ()) -> Response:
        check_headers(headers)
        if self._closed:
            raise UpstreamFailure(FailureKind.CONNECT, f"the transport to {self._origin} was closed")
        self._in_use += 1
        try:
            response = await self._send(template, body, headers)
        except BaseException:
            self._leave()
            raise
        return await _checked(HttpxResponse(response, self._leave))

    async def _send(self, template: RequestTemplate, body: bytes | Source, headers: Headers) -> httpx.Response:
        for kept_may_die in (True, False):
            connecting = _Connecting()
            request = httpx.Request(
                template.method.decode(),
                self._url.copy_with(raw_path=template.target),
                headers=[*template.headers, *headers, *_length(template.method, body)],
                stream=_Body(body) if isinstance(body, bytes) else _Pieces(body),
                extensions={**self._extensions, "trace": connecting.trace},
            )
            try:
                return await self._client.send(request, stream=True, follow_redirects=False)
            except httpx.HTTPError as error:
                if kept_may_die and not connecting.seen and _is_unanswered(error) and _begins_again(body):
                    continue
                raise self._failure(error) from None
        raise AssertionError("the second attempt returns or raises")

    def _failure(self, error: httpx.HTTPError) -> UpstreamFailure:
        if isinstance(error, httpx.ConnectTimeout):
            message = f"no connection to {self._origin} within {self._connect_timeout:g} s"
            return UpstreamFailure(FailureKind.CONNECT_TIMEOUT, message)
        if isinstance(error, httpx.ConnectError | httpx.ProxyError | httpx.UnsupportedProtocol):
            message = f"cannot connect to {self._origin}: {_connect_reason(error)}"
            return UpstreamFailure(FailureKind.CONNECT, message)
        return _failure(error)

    def _leave(self) -> None:
        """One response less; the last one of a closed transport closes the client."""
        self._in_use -= 1
        if self._closed and not self._in_use:
            _soon(self._client.aclose)

    async def aclose(self) -> None:
        """See `Transport`; while answers are still being read, idle connections wait for the last of them."""
        self._closed = True
        if not self._in_use:
            await self._client.aclose()
        await trio.lowlevel.checkpoint()


class HttpxResponse:
    """See `Response`. Calls `leave` once, when it is done with its connection."""

    def __init__(self, response: httpx.Response, leave: Callable[[], None]) -> None:
        self.status = response.status_code
        self.headers: Headers = [(name.lower(), value) for name, value in response.headers.raw]
        # A HEAD's answer has no body whatever its head says; HTTP/2 frames everything.
        self.framed = (
            response.http_version == "HTTP/2"
            or response.request.method == "HEAD"
            or is_framed(self.status, self.headers)
        )
        self._chunks: AsyncIterator[bytes] | None = response.aiter_raw()
        self._leave = leave
        self._ended = False

    def __repr__(self) -> str:
        return f"HttpxResponse(status={self.status}, ended={self._ended})"

    def get(self, name: bytes) -> bytes | None:
        return first(self.headers, name)

    @property
    def content_type(self) -> bytes:
        return self.get(b"content-type") or b""

    async def receive(self) -> bytes | None:
        if self._ended:
            return None
        if self._chunks is None:
            raise UpstreamFailure(FailureKind.BROKEN, "broke off its answer: the connection was closed")
        try:
            while not (data := await anext(self._chunks)):
                pass
        except StopAsyncIteration:
            self._ended = True
            self._done()
            return None
        except httpx.HTTPError as error:
            self._done()
            raise _failure(error) from None
        except BaseException:
            self._done()  # httpx closes the connection of a read that was cancelled
            raise
        return data

    async def read(self, limit: int = BODY_LIMIT) -> bytes:
        buffer = bytearray()
        while (data := await self.receive()) is not None:
            buffer += data
            if len(buffer) > limit:
                self.close()
                raise too_large(limit)
        return bytes(buffer)

    def close(self) -> None:
        chunks = self._chunks
        if chunks is not None:
            self._done()
            _soon(lambda: _abandon(chunks))

    def _done(self) -> None:
        if self._chunks is not None:
            self._chunks = None
            self._leave()


def _length(method: bytes, body: bytes | Source) -> Headers:
    if not isinstance(body, bytes):
        # httpcore leaves the second one out where the request goes by HTTP/2.
        length = body.length
        return ((b"Transfer-Encoding", b"chunked") if length is None else (b"Content-Length", b"%d" % length),)
    if not body and method in BODYLESS:
        return ()
    return ((b"Content-Length", b"%d" % len(body)),)


def _begins_again(body: bytes | Source) -> bool:
    return isinstance(body, bytes) or body.rewind()


class _Body(httpx.AsyncByteStream):
    """A request's body in one piece.

    httpx's own is an async generator, which is left to the garbage collector, with a warning, where an early answer
    ends the upload.
    """

    def __init__(self, body: bytes) -> None:
        self._pieces = [body] if body else []

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._pieces:
            raise StopAsyncIteration
        return self._pieces.pop()


class _Pieces(httpx.AsyncByteStream):
    """A request's body from its source."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._source.receive()
        if piece is None:
            raise StopAsyncIteration
        return piece


async def _checked(response: HttpxResponse) -> HttpxResponse:
    size = sum(len(name) + len(value) + 4 for name, value in response.headers)
    try:
        if response.status == 101 or size > HEAD_LIMIT:
            what = "switched protocols unasked" if response.status == 101 else f"has a head over {HEAD_LIMIT} bytes"
            raise UpstreamFailure(FailureKind.MALFORMED, f"the provider's answer {what}")
        check_encoding(response.status, response.get(b"content-encoding"))
    except UpstreamFailure:
        response.close()
        raise
    return response


class _Connecting:
    """Notes whether a request made a connection. httpx tells it by httpcore's trace extension."""

    seen = False

    async def trace(self, event: str, info: object) -> None:
        if event.startswith("connection.connect_"):
            self.seen = True


async def _abandon(chunks: AsyncIterator[bytes]) -> None:
    """Close the connection under a body that is not read to its end.

    httpx only does that by awaiting. A read that is cancelled unwinds all of its nested generators in order; closing
    the outermost would leave the inner ones to the garbage collector.
    """
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            async for _ in chunks:
                pass
        except httpx.HTTPError:
            pass


def _soon(close: Callable[[], Awaitable[None]]) -> None:
    """Run the async `close` soon, in a task of trio's own: what is called here must not wait."""
    try:
        trio.lowlevel.spawn_system_task(close)
    except RuntimeError:
        pass  # trio is not running any more, so neither is the connection's other side waited for


def _proxy(url: str | None) -> httpx.Proxy | None:
    if url is None:
        return None
    try:
        if not urlsplit(url).hostname:
            raise ValueError("no host")
        return httpx.Proxy(url)
    except (ValueError, httpx.InvalidURL):
        # Without the URL: it may hold a password.
        raise ValueError("a proxy is http://HOST:PORT, https://... or socks5://...") from None


def _is_unanswered(error: httpx.HTTPError) -> bool:
    if isinstance(error, httpx.RemoteProtocolError):
        return "without sending a response" in str(error)
    return isinstance(error, httpx.ReadError | httpx.WriteError)


def _failure(error: httpx.HTTPError) -> UpstreamFailure:
    """BROKEN, or MALFORMED where h11 found what it read not to be HTTP: without its words, which may quote headers."""
    if isinstance(error, httpx.RemoteProtocolError):
        text = str(error)
        if not any(sign in text for sign in ("disconnected", "peer closed", "ConnectionTerminated", "StreamReset")):
            return UpstreamFailure(FailureKind.MALFORMED, "the provider's answer is not HTTP")
    return UpstreamFailure(FailureKind.BROKEN, "broke off its answer: it closed the connection")


def _connect_reason(error: httpx.HTTPError) -> str:
    """From the cause nearest to the socket: httpx and httpcore wrap it once each."""
    if isinstance(error, httpx.ProxyError):
        return f"the proxy answered {error}"
    inner: BaseException = error
    while (cause := inner.__cause__ or inner.__context__) is not None:
        inner = cause
        if isinstance(inner, OSError):
            break
    return reason(inner)
