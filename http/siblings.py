"""Workers of one router asking each other: each answers for itself on a Unix socket in a folder that only they enter.

What is asked are the management pages, by HTTP, without a token: whoever reaches the socket is this user. They are
asked all at once, this one as the others, and one that has not answered in time is left out and named.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any, Final

import attrs
import httpx
import msgspec
import trio

ANSWERS_WITHIN: Final = 1.0  # seconds
COMMAND_WITHIN: Final = 15.0  # ... where it does something: a probe takes as long as the provider
import_module("httpcore")  # else httpx imports it with the first request, which would hold the event loop

PASSED_ON: Final = ("content-type", "x-infermux-error", "retry-after", "allow")
BASE: Final = "http://worker"


@attrs.frozen(kw_only=True)
class Told:
    """What the worker at `place` answered."""

    place: int
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        return self.status < 400

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


@attrs.frozen(kw_only=True)
class Siblings:
    """All workers of this router, as one of them sees them: it is the one at `place`.

    `folder` has their sockets, `cookies` is the key that they all seal cookies with, `reload` has all of them reload.
    `commanded` is told what an operator has asked of a provider, and which places have not heard it.
    """

    place: int
    of: int
    folder: str = attrs.field(repr=False)
    cookies: bytes = attrs.field(repr=False)
    reload: Callable[[bool], Awaitable[dict[str, object]]] = attrs.field(repr=False)
    commanded: Callable[[str, str, Sequence[int]], Awaitable[None]] = attrs.field(repr=False)

    def path(self, place: int) -> str:
        """The socket of the worker at `place`."""
        return os.path.join(self.folder, f"{place}.sock")

    def last_page(self, place: int) -> str:
        """The file in which the worker at `place` keeps what it has told of its metrics, see `last_pages`."""
        return os.path.join(self.folder, f"{place}.metrics")

    @asynccontextmanager
    async def client(self, place: int, timeout: float | None) -> AsyncGenerator[httpx.AsyncClient]:
        """Who asks the worker at `place`."""
        transport = httpx.AsyncHTTPTransport(uds=self.path(place), verify=False)  # there is no TLS: nothing to load
        async with httpx.AsyncClient(transport=transport, base_url=BASE, timeout=timeout, trust_env=False) as client:
            yield client

    async def ask_all(
        self, method: str, target: str, *, accept: str = "", within: float = ANSWERS_WITHIN
    ) -> Sequence[Told | None]:
        """The answers of all workers by their places; None where one does not answer within so many seconds."""
        found: list[Told | None] = [None] * self.of

        async def ask(place: int) -> None:
            try:
                async with self.client(place, None) as client:
                    answer = await client.request(method, target, headers={"accept": accept} if accept else {})
            except (httpx.HTTPError, OSError):
                return
            headers = {name: answer.headers[name] for name in PASSED_ON if name in answer.headers}
            found[place] = Told(place=place, status=answer.status_code, headers=headers, body=answer.content)

        with trio.move_on_after(within):
            async with trio.open_nursery() as nursery:
                for place in range(self.of):
                    nursery.start_soon(ask, place)
        return found

    async def stream(self, place: int, target: str) -> AsyncGenerator[bytes]:
        """What the worker at `place` sends without an end, until it ends. Raises httpx.HTTPError, OSError."""
        async with self.client(place, None) as client, client.stream("GET", target) as answer:
            answer.raise_for_status()
            async for piece in answer.aiter_raw():
                yield piece
