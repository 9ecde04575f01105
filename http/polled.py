"""The pages that machines ask for again and again: health, readiness, metrics.

Each is made by one function, whichever way it is asked for: by a route of quart, or straight by the express lane, see
`direct`. What is asked with anything odd about it, and whoever is to be refused, goes by the route.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import attrs
import msgspec
from quart import Response, request
from quart_trio import QuartTrio

from infermux.errors import InfermuxError

from .exchange import Head

JSON: Final = "application/json"
METRICS: Final = "/metrics"


@attrs.frozen
class Page:
    """A page as it is now."""

    body: bytes
    content_type: str = JSON
    status: int = 200


Make = Callable[[str], Awaitable[Page]]
"""Makes a page for a request with this Accept header, "" where there is none."""


def json_page(said: Mapping[str, object], status: int = 200) -> Page:
    """`said` as quart would answer with it."""
    return Page(msgspec.json.encode(said) + b"\n", status=status)


@attrs.frozen(kw_only=True)
class Polled:
    """Pages by their paths. `check` raises InfermuxError unless this request may see a page; `exempt` are for all."""

    pages: Mapping[bytes, Make]
    exempt: frozenset[bytes]
    check: Callable[[Head], None]

    def find(self, head: Head) -> Make | None:
        """Who makes what is asked for; None where that is no such page, or is to be refused."""
        make = self.pages.get(head.path)
        if make is None or head.query or head.method not in (b"GET", b"HEAD"):
            return None
        if head.path not in self.exempt:
            try:
                self.check(head)
            except InfermuxError:
                return None
        return make


def add_polled(app: QuartTrio, pages: Mapping[bytes, Make]) -> None:
    """Serve them by routes as well."""
    for path, make in pages.items():
        app.add_url_rule(path.decode(), f"polled {path.decode()}", _view(make), methods=["GET"])


def _view(make: Make) -> Callable[[], Awaitable[Response]]:
    async def view() -> Response:
        page = await make(request.headers.get("Accept", ""))
        return Response(page.body, status=page.status, content_type=page.content_type)

    return view
