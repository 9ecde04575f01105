"""What requests have cost, by the running router: `GET /_infermux/costs`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec
from quart import Response, request
from quart_trio import QuartTrio

from infermux.actors.ledger import Books
from infermux.costs import CostQuery, Costs
from infermux.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

PATH = "/_infermux/costs"
FRESH_WITHIN = 2.0  # seconds waited for rows that are not written yet; then the answer is as old as the database


def add_costs(app: QuartTrio, books: Books | None) -> None:
    """The page, as JSON or CSV."""

    @app.get(PATH)
    async def costs() -> Response:
        if books is None:
            raise NotFound("there is no ledger: ledger.url is null")
        query, as_csv = _query(), _wants_csv()
        await books.flush(FRESH_WITHIN)
        found = await books.database.ask(lambda connection: _ask(connection, query))
        if as_csv:
            return Response(found.as_csv(), content_type="text/csv; charset=utf-8; header=present")
        return Response(msgspec.json.encode(found.as_json()), content_type="application/json")


def _ask(connection: Connection, query: CostQuery) -> Costs:
    # Imported in the worker thread, where it holds up nobody.
    from infermux.database.costs import costs

    return costs(connection, query)


def _query() -> CostQuery:
    given = {name: request.args.get(name, "") for name in ("group_by", "since", "until")}
    return CostQuery.of(**given, now=time.time())


def _wants_csv() -> bool:
    named = request.args.get("format", "")
    if named not in ("", "json", "csv"):
        raise InvalidRequest("format must be json or csv", param="format")
    best = request.accept_mimetypes.best_match(["application/json", "text/csv"], default="application/json")
    return named == "csv" or (not named and best == "text/csv")
