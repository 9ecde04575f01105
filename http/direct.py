"""Polled pages straight from the express lane: a scrape by hypercorn and quart is six times as dear as the page."""

from __future__ import annotations

import logging

from infermux.errors import CallerLeft

from .answers import Answer
from .connection import Connection, Elsewhere
from .exchange import Head
from .express import ExpressExchange
from .framing import ParsedHead
from .polled import Page, Polled

log = logging.getLogger("infermux.http")


class Direct:
    """An `Elsewhere` that answers what is polled, while all is well; whatever else there is to say, `rest` says."""

    def __init__(self, polled: Polled, rest: Elsewhere) -> None:
        self._polled = polled
        self._rest = rest

    async def answer(self, connection: Connection, head: ParsedHead) -> bool:
        path, _, query = head.target.partition(b"?")
        if path not in self._polled.pages or head.has_body or head.upgrade is not None:
            return await self._rest.answer(connection, head)
        asked = Head(head.method, path, query, head.headers, connection.client)
        page = await self._made(asked)
        if page is None:
            return await self._rest.answer(connection, head)
        return await _answered(connection, head, asked, page)

    async def take_http2(self, connection: Connection) -> None:
        await self._rest.take_http2(connection)

    async def _made(self, head: Head) -> Page | None:
        """None for what is not to be answered here. What goes wrong does so again elsewhere, and is told there."""
        make = self._polled.find(head)
        if make is None:
            return None
        try:
            page = await make((head.get(b"accept") or b"").decode("latin-1"))
        except Exception:
            log.debug("a polled page could not be made", exc_info=True)
            return None
        return page if page.status == 200 else None


async def _answered(connection: Connection, parsed: ParsedHead, head: Head, page: Page) -> bool:
    """True when the connection can go on with the next request."""
    exchange = ExpressExchange(connection, parsed, head)
    try:
        await exchange.respond(page.status, [(b"content-type", page.content_type.encode())], page.body)
    except CallerLeft:
        return False
    if exchange.reusable:
        return True
    if exchange.answer is Answer.DONE and connection.buffer:
        await connection.linger()
    return False
