"""What budgets have spent, by all routers on one database: each adds what it has, and reads what the others have.

A batch of amounts whose connection broke while it was committed is sent again, and its number keeps it from being added
twice. Amounts only grow within a period, also where the database lost some (a copy of yesterday put in its place): each
row is at least what its writer knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import attrs
import msgspec

from .worker import Database

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

NANO: Final = 1_000_000_000
MOST_NANO: Final = 2**63 - 1  # a column holds no more
DEAREST: Final = 1_000_000.0  # US dollars; a row that says a request cost more was written for what cannot be
LONGEST: Final = 32 * 86_400  # seconds; more than any period has
KEPT: Final = 100 * 86_400  # seconds; a month and what somebody may want to look up of the one before

OVERLAP: Final = 10.0  # seconds that a transaction may have taken whose rows are looked for

_CLOCKS: Final = {
    "postgresql": "extract(epoch FROM clock_timestamp())::float8",
    "sqlite": "(julianday('now') - 2440587.5) * 86400.0",
}
_ADD: Final = """
INSERT INTO budgets_spent (scope, name, period, start, amount, changed)
VALUES (:scope, :name, :period, :start, :least, {now})
ON CONFLICT (scope, name, period, start) DO UPDATE SET changed = excluded.changed, amount = CASE
    WHEN budgets_spent.amount > :most - :more THEN :most
    WHEN budgets_spent.amount + :more < :least THEN :least
    ELSE budgets_spent.amount + :more END
"""
_CLAIM: Final = """
INSERT INTO budget_writers (writer, batch, at) VALUES (:writer, :batch, {now})
ON CONFLICT (writer) DO UPDATE SET batch = excluded.batch, at = excluded.at
WHERE budget_writers.batch < excluded.batch
"""


class Spent(NamedTuple):
    """One purse in one period: `start` in seconds since 1970, `amount` in nano-dollars."""

    scope: str
    name: str
    period: str
    start: int
    amount: int


class Added(NamedTuple):
    """`more` nano-dollars were spent of one purse; with them it is at least `least`."""

    scope: str
    name: str
    period: str
    start: int
    more: int
    least: int


class Batch(msgspec.Struct, frozen=True, eq=False):
    """What `writer`, a number drawn by chance, adds at once. Its batches are numbered from 1 and come in that order."""

    writer: int
    number: int
    rows: Sequence[Added]


class Looked(NamedTuple):
    """Amounts that have changed, as they are now. `at` is where the next look begins."""

    rows: Sequence[Spent]
    at: float


class Term(NamedTuple):
    """A scope of budgets and the period that is running."""

    scope: str
    period: str
    start: int


def add(connection: Connection, batch: Batch) -> bool:
    """Add these amounts; False, and nothing is done, where that batch or a later one of its writer was added before."""
    from sqlalchemy import text

    now = _CLOCKS[connection.dialect.name]
    claim = {"writer": batch.writer, "batch": batch.number}
    if connection.execute(text(_CLAIM.format(now=now)), claim).rowcount != 1:
        return False
    # In one order everywhere, so that no two wait for each other; what all have in common comes last, and is locked
    # for the shortest time.
    rows = [{**row._asdict(), "most": MOST_NANO} for row in sorted(batch.rows, reverse=True)]
    if rows:
        connection.execute(text(_ADD.format(now=now)), rows)
    return True


def look(connection: Connection, since: float) -> Looked:
    """What has changed since the look that told `since`; 0: all of the periods that can be running."""
    from sqlalchemy import select, text

    from .tables import BUDGETS_SPENT

    now = connection.execute(text(f"SELECT {_CLOCKS[connection.dialect.name]}")).scalar_one()
    columns = BUDGETS_SPENT.c
    wanted = (columns.scope, columns.name, columns.period, columns.start, columns.amount)
    found = connection.execute(
        select(*wanted).where(columns.changed >= since - OVERLAP, columns.start >= now - LONGEST)
    )
    return Looked([Spent(*row) for row in found], now)


def forget(connection: Connection, before: int) -> None:
    """Drop what was spent in periods that began before that moment, and who has written nothing since."""
    from sqlalchemy import delete

    from .tables import BUDGET_WRITERS, BUDGETS_SPENT

    connection.execute(delete(BUDGETS_SPENT).where(BUDGETS_SPENT.c.start < before))
    connection.execute(delete(BUDGET_WRITERS).where(BUDGET_WRITERS.c.at < before))


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

    async def look(self, since: float) -> Looked:
        return await self.database.read(lambda connection: look(connection, since))

    async def add(self, batch: Batch) -> None:
        """Also, once, forget what is long over."""
        oldest = None if self._tidied else max(row.start for row in batch.rows) - KEPT

        def work(connection: Connection) -> None:
            if add(connection, batch) and oldest is not None:
                forget(connection, oldest)

        await self.database.write(work)
        self._tidied = True
