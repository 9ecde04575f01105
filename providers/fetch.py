"""Images by address, fetched for providers that take only their bytes, where the settings allow it.

The address is the caller's, so the fetcher is made to be of no use for anything else: it resolves the name itself,
refuses it unless every address is public, connects to an address it has checked (a name that resolves otherwise the
next time does not matter), checks again after every redirect, carries nobody's credentials or cookies, uses no proxy,
and takes images only, within bounds of number, size and time. What it says of a failure tells nothing about networks
that callers cannot see.
"""

from __future__ import annotations

import base64
import ipaddress
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, cast

import attrs
import httpx
import msgspec
import trio

from infermux.errors import InvalidRequest

from .dialects.neutral import Base64, Conversation
from .dialects.turns import image_urls, with_images
from .public_address import Address, is_public, resolve
from .transport import USER_AGENT
from .trust import http1_context

MOST_IMAGES: Final = 20
MOST_BYTES: Final = 20 * 1024 * 1024
"""Of all images of a request together, before base64."""
MOST_REDIRECTS: Final = 3
MOST_SECONDS: Final = 10.0
"""For all images of a request."""
_AT_ONCE: Final = 32
_OF_A_REQUEST: Final = 4
_CONNECT_SECONDS: Final = 3.0  # to one address; a name may have others
_LONGEST_URL: Final = 8192
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_ALONE: Final = httpx.Limits(max_keepalive_connections=0)

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class _Refused(Exception):
    """Why there is no image, in words that follow its place in the request."""


@attrs.define(eq=False)
class _Budget:
    """The bytes that the images of one request may still have."""

    left: int

    def over(self, size: int) -> _Refused | None:
        """Take `size`; the refusal if that was too much."""
        self.left -= size
        if self.left >= 0:
            return None
        return _Refused(f"the images of a request may have {MOST_BYTES // 2**20} MiB together, and these have more")


class ImageFetcher:
    """Fetches the images of requests for one provider. Keeps no connections: there is nothing to close.

    `seconds` bounds the fetching of one request's images; `resolve` gives a name's addresses, `allows` says which of
    them may be connected to.
    """

    def __init__(
        self,
        *,
        seconds: float = MOST_SECONDS,
        resolve: Resolve = resolve,
        allows: Callable[[Address], bool] = is_public,
    ) -> None:
        self._seconds = min(seconds, MOST_SECONDS)
        self._resolve = resolve
        self._allows = allows
        self._limiter = trio.CapacityLimiter(_AT_ONCE)

    def __repr__(self) -> str:
        return f"ImageFetcher(seconds={self._seconds}, fetching={self._limiter.borrowed_tokens})"

    async def fetched(self, conversation: Conversation, body: bytes) -> Conversation:
        """`conversation` with its images at http and https addresses in place of these; others are left.

        `body` is the request it was read from: InvalidRequest for an image that cannot be had names its place there.
        """
        urls = Counter(url for url in image_urls(conversation.turns) if _is_web(url))
        if not urls:
            return conversation
        if urls.total() > MOST_IMAGES:
            what = f"{urls.total()} images by address are more than the {MOST_IMAGES} that are fetched for a request"
            raise InvalidRequest(f"messages: {what}", param="messages")
        images: dict[str, Base64] = {}
        with trio.move_on_after(self._seconds) as scope:
            await self._fetch_all(urls, images, body)
        if scope.cancelled_caught:
            late = next(iter(urls.keys() - images.keys()), "")
            raise _invalid(late, body, f"the image could not be fetched within {self._seconds:g} s")
        return attrs.evolve(conversation, turns=with_images(conversation.turns, images))

    async def _fetch_all(self, urls: Mapping[str, int], images: dict[str, Base64], body: bytes) -> None:
        budget, few = _Budget(MOST_BYTES), trio.CapacityLimiter(_OF_A_REQUEST)
        refused: list[tuple[str, _Refused]] = []

        async def fetch(url: str) -> None:
            try:
                async with few, self._limiter:
                    images[url] = await self._fetch(url, urls[url], budget)
            except _Refused as why:
                refused.append((url, why))
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for url in urls:
                nursery.start_soon(fetch, url)
        if refused:
            url, why = refused[0]
            raise _invalid(url, body, str(why))

    async def _fetch(self, url: str, times: int, budget: _Budget) -> Base64:
        """The image, which stands `times` times in the request."""
        at = _parsed(url)
        for _ in range(1 + MOST_REDIRECTS):
            found = await self._hop(at, times, budget)
            if isinstance(found, Base64):
                return found
            at = found
        raise _Refused(f"the image's address redirects more than {MOST_REDIRECTS} times")

    async def _hop(self, url: httpx.URL, times: int, budget: _Budget) -> Base64 | httpx.URL:
        """The image at `url`, or where it redirects to."""
        port = url.port or (443 if url.scheme == "https" else 80)
        host = url.raw_host.decode("ascii")
        for address in await self._addresses(host, port):
            async with httpx.AsyncHTTPTransport(verify=http1_context(), limits=_ALONE) as transport:
                try:
                    response = await transport.handle_async_request(_request(url, host, address))
                except (httpx.ConnectError, httpx.ConnectTimeout):
                    continue
                except httpx.HTTPError:
                    raise _Refused("the image's server broke off") from None
                try:
                    return await _answer(url, response, times, budget)
                finally:
                    await response.aclose()
        raise _Refused("the image's server could not be connected to")

    async def _addresses(self, host: str, port: int) -> Sequence[Address]:
        """The addresses of `host`, all of them checked. A name with none is told no other than one that is inside."""
        try:
            found = [ipaddress.ip_address(address) for address in await self._resolve(host, port)]
        except (OSError, ValueError):
            found = []
        if not found or not all(self._allows(address) for address in found):
            raise _Refused("the image's host has no public address")
        return found


def _is_web(url: str) -> bool:
    return url[:8].lower().startswith(("http://", "https://"))


def _parsed(url: str, base: httpx.URL | None = None) -> httpx.URL:
    if len(url) > _LONGEST_URL:
        raise _Refused("the image's address is too long")
    try:
        found = base.join(url) if base is not None else httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        raise _Refused("the image's address is no URL") from None
    if found.scheme not in ("http", "https") or not found.raw_host:
        raise _Refused("the image's address is, or redirects to, none of http or https")
    if found.port is not None and not 0 < found.port < 65536:
        raise _Refused("the image's address is no URL")
    if found.userinfo:
        raise _Refused("the image's address has a user name in it, which would be sent to its server")
    return found


def _request(url: httpx.URL, host: str, address: Address) -> httpx.Request:
    """A request that goes to `address`, and for everything else to the host: its name is in Host and TLS checks it."""
    headers = [
        (b"Host", url.netloc),
        (b"User-Agent", USER_AGENT),
        (b"Accept", b"image/*"),
        (b"Accept-Encoding", b"identity"),
        (b"Connection", b"close"),
    ]
    extensions = {"sni_hostname": host.rstrip("."), "timeout": {"connect": _CONNECT_SECONDS}}
    return httpx.Request("GET", url.copy_with(host=str(address)), headers=headers, extensions=extensions)


async def _answer(url: httpx.URL, response: httpx.Response, times: int, budget: _Budget) -> Base64 | httpx.URL:
    location = response.headers.get("location")
    if response.status_code in _REDIRECTS and location:
        return _parsed(location, url)
    if response.status_code != 200:
        raise _Refused(f"the image's server answered with status {response.status_code}")
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not kind.startswith("image/"):
        raise _Refused("the image's address has something that is no image")
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise _Refused("the image's server compresses what was asked for as it is")
    length = response.headers.get("content-length", "")
    told = int(length[:20]) if length.isdecimal() else 0
    if told * times > budget.left and (refused := budget.over(told * times)) is not None:
        raise refused
    return Base64(data=await _read(response, times, budget), media_type=kind)


async def _read(response: httpx.Response, times: int, budget: _Budget) -> str:
    """The body in base64. One that is too long is left by cancelling its reading: httpx's generators, one in another,
    are only unwound in order that way."""
    parts: list[bytes] = []
    refused: _Refused | None = None
    try:
        with trio.CancelScope() as scope:
            async for part in response.aiter_raw():
                if refused is None:
                    refused = budget.over(len(part) * times)
                    parts.append(part)
                if refused is not None:
                    scope.cancel()
    except httpx.HTTPError:
        raise _Refused("the image's server broke off") from None
    if refused is not None:
        raise refused
    if not parts:
        raise _Refused("the image is empty")
    return base64.b64encode(b"".join(parts)).decode("ascii")


def _invalid(url: str, body: bytes, why: str) -> InvalidRequest:
    place = _place(msgspec.json.decode(body), url) or "messages"
    return InvalidRequest(f"{place}: {why}", param=place)


def _place(request: object, url: str) -> str | None:
    """Where in the request `url` stands first, as a path such as `messages[0].content[1].image_url.url`."""
    waiting: list[tuple[str, object]] = [("", request)]  # a loop: what JSON may nest is more than calls may
    while waiting:
        path, value = waiting.pop()
        if value == url:
            return path
        inner: list[tuple[str, object]] = []
        if isinstance(value, dict):
            members = cast("dict[str, object]", value)
            inner = [(f"{path}.{name}" if path else name, member) for name, member in members.items()]
        elif isinstance(value, list):
            inner = [(f"{path}[{index}]", member) for index, member in enumerate(cast("list[object]", value))]
        waiting += reversed(inner)
    return None
