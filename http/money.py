"""What an operator asks about money: the prices that count, and what budgets have left."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from quart_trio import QuartTrio

from infermux.actors.fleet import Fleet
from infermux.providers.prices import priced


def add_money(app: QuartTrio, fleet: Fleet, prefix: str) -> None:
    """`PREFIX/prices` and `PREFIX/budgets`."""

    @app.get(f"{prefix}/prices")
    async def prices() -> dict[str, Any]:
        book = fleet.catalogue.prices
        return {"prices": [row for member in fleet.members.values() for row in priced(book, member.settings)]}

    @app.get(f"{prefix}/budgets")
    async def budgets() -> dict[str, Any]:
        rows = fleet.treasury.statement()
        return {"budgets": [{**row, "since": moment(row["since"]), "until": moment(row["until"])} for row in rows]}


def moment(seconds: float) -> str:
    """Seconds since 1970 as a date and time in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
