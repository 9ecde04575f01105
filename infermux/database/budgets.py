"""What budgets have spent: written twice a second while they do, read once at a start."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import attrs

from .worker import Database

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

NANO: Final = 1_000_000_000
MOST_NANO: Final = 2**63 - 1  # a column holds no more
DEAREST: Final = 1_000_000.0  # US dollars; a row that says a request cost more was written for what cannot be
KEPT: Final = 100 * 86_400  # seconds; a month and what somebody may want to look up of the one before

# Amounts only grow within a period, so a write that is late, or sent twice, does no harm.
_KEEP: Final = """
INSERT INTO budgets_spent (scope, name, period, start, amount) VALUES (:scope, :name, :period, :start, :amount)
ON CONFLICT (scope, name, period, start) DO UPDATE SET amount = excluded.amount
WHERE budgets_spent.amount < excluded.amount
"""


class Spent(NamedTuple):
    """One purse in one period: `start` in seconds since 1970, `amount` in nano-dollars."""

    scope: str
    name: str
    period: str
    start: int
    amount: int


class Term(NamedTuple):
    """A scope of budgets and the period that is running."""

    scope: str
    period: str
    start: int


def save(connection: Connection, rows: Sequence[Spent]) -> None:
    """Keep these amounts, in the place of smaller ones."""
    from sqlalchemy import text

    connection.execute(text(_KEEP), [row._asdict() for row in rows])


def forget(connection: Connection, before: int) -> None:
    """Drop what was spent in periods that began before that moment."""
    from sqlalchemy import delete

    from .tables import BUDGETS_SPENT

    connection.execute(delete(BUDGETS_SPENT).where(BUDGETS_SPENT.c.start < before))


def load(connection: Connection, terms: Sequence[Term], until: float) -> list[Spent]:
    """What was spent in the running periods: the larger of what was kept and of what the ledger adds up to.

    Either may lack what the other has: the last moments before a process was killed, rows that were shed.
    """
    found: dict[tuple[str, str, str, int], int] = {}
    for term in terms:
        for row in (*_kept(connection, term), *_ledgered(connection, term, until)):
            key = row[:4]
            found[key] = max(found.get(key, 0), row.amount)
    return [Spent(*key, amount) for key, amount in found.items()]


def _kept(connection: Connection, term: Term) -> Iterator[Spent]:
    from sqlalchemy import select

    from .tables import BUDGETS_SPENT as KEPT_ROWS

    columns = KEPT_ROWS.c
    same = (columns.scope == term.scope) & (columns.period == term.period) & (columns.start == term.start)
    for name, amount in connection.execute(select(columns.name, columns.amount).where(same)):
        yield Spent(term.scope, name, term.period, term.start, amount)


def _ledgered(connection: Connection, term: Term, until: float) -> Iterator[Spent]:
    for name, dollars in _sums(connection, term, until):
        if dollars:
            yield Spent(term.scope, name, term.period, term.start, min(round(dollars * NANO), MOST_NANO))


def _sums(connection: Connection, term: Term, until: float) -> Iterable[tuple[str, float]]:
    from sqlalchemy import func, literal, select

    from .tables import REQUESTS, TAGS

    columns = REQUESTS.c
    total = func.sum(columns.cost)
    # Between: what is no number is neither.
    when = (columns.at >= term.start) & (columns.at < until) & columns.cost.between(0.0, DEAREST)
    match term.scope:
        case "tag":
            names = (TAGS.c.name, TAGS.c.value)
            tagged = select(*names, total).join(REQUESTS, columns.seq == TAGS.c.seq).where(when).group_by(*names)
            return [(f"{name}={value}", dollars) for name, value, dollars in connection.execute(tagged)]
        case "caller" | "key" | "group":
            column = columns["route_group" if term.scope == "group" else term.scope]
            rows = connection.execute(select(column, total).where(when).group_by(column))
        case _:
            rows = connection.execute(select(literal(""), total).where(when))
    return [(name, dollars or 0.0) for name, dollars in rows]


@attrs.define(eq=False)
class DatabaseBudgets:
    """The `BudgetStore` of a running router. Raises DatabaseUnavailable from every call."""

    database: Database
    _tidied: bool = False

    async def load(self, terms: Sequence[Term], at: float) -> Sequence[Spent]:
        return await self.database.read(lambda connection: load(connection, terms, at))

    async def save(self, rows: Sequence[Spent]) -> None:
        """Also, once, forget what is long over."""
        oldest = None if self._tidied else max(row.start for row in rows) - KEPT

        def work(connection: Connection) -> None:
            save(connection, rows)
            if oldest is not None:
                forget(connection, oldest)

        await self.database.write(work)
        self._tidied = True
