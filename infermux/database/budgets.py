"""What budgets have spent: written twice a second while they do, read once at a start."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import attrs

from .session import Session
from .worker import Database

NANO: Final = 1_000_000_000
MOST_NANO: Final = 2**63 - 1  # a column holds no more
DEAREST: Final = 1_000_000.0  # US dollars; a row that says a request cost more was written for what cannot be
KEPT: Final = 100 * 86_400  # seconds; a month and what somebody may want to look up of the one before

# Amounts only grow within a period, so a write that is late, or sent twice, does no harm.
_KEEP: Final = """
INSERT INTO budgets_spent (scope, name, period, start, amount) VALUES (?, ?, ?, ?, ?)
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


def save(session: Session, rows: Sequence[Spent]) -> None:
    """Keep these amounts, in the place of smaller ones."""
    session.change_each(_KEEP, rows)


def forget(session: Session, before: int) -> None:
    """Drop what was spent in periods that began before that moment."""
    session.change("DELETE FROM budgets_spent WHERE start < ?", (before,))


def load(session: Session, terms: Sequence[Term], until: float) -> list[Spent]:
    """What was spent in the running periods: the larger of what was kept and of what the ledger adds up to.

    Either may lack what the other has: the last moments before a process was killed, rows that were shed.
    """
    found: dict[tuple[str, str, str, int], int] = {}
    for term in terms:
        for row in (*_kept(session, term), *_ledgered(session, term, until)):
            key = row[:4]
            found[key] = max(found.get(key, 0), row.amount)
    return [Spent(*key, amount) for key, amount in found.items()]


def _kept(session: Session, term: Term) -> Iterator[Spent]:
    question = "SELECT name, amount FROM budgets_spent WHERE scope = ? AND period = ? AND start = ?"
    for name, amount in session.rows(question, (term.scope, term.period, term.start)):
        yield Spent(term.scope, name, term.period, term.start, amount)


def _ledgered(session: Session, term: Term, until: float) -> Iterator[Spent]:
    for name, dollars in _sums(session, term, until):
        if dollars:
            yield Spent(term.scope, name, term.period, term.start, min(round(dollars * NANO), MOST_NANO))


_SUM: Final = "sum(requests.cost) FROM requests"
# Between: what is no number is neither.
_WHEN: Final = "WHERE requests.at >= ? AND requests.at < ? AND requests.cost BETWEEN 0.0 AND ?"
_NAMES: Final = {"caller": "requests.caller", "key": "requests.key", "group": "requests.route_group"}


def _sums(session: Session, term: Term, until: float) -> Iterable[tuple[str, float]]:
    values, name = (term.start, until, DEAREST), _NAMES.get(term.scope)
    if term.scope == "tag":
        tagged = f"{_SUM} JOIN tags ON requests.seq = tags.seq {_WHEN} GROUP BY tags.name, tags.value"
        rows = session.rows(f"SELECT tags.name, tags.value, {tagged}", values)
        return [(f"{tag}={value}", dollars) for tag, value, dollars in rows]
    if name is not None:
        rows = session.rows(f"SELECT {name}, {_SUM} {_WHEN} GROUP BY {name}", values)
    else:
        rows = session.rows(f"SELECT '', {_SUM} {_WHEN}", values)
    return [(name, dollars or 0.0) for name, dollars in rows]


@attrs.define(eq=False)
class DatabaseBudgets:
    """The `BudgetStore` of a running router. Raises DatabaseUnavailable from every call."""

    database: Database
    _tidied: bool = False

    async def load(self, terms: Sequence[Term], at: float) -> Sequence[Spent]:
        return await self.database.read(lambda session: load(session, terms, at))

    async def save(self, rows: Sequence[Spent]) -> None:
        """Also, once, forget what is long over."""
        oldest = None if self._tidied else max(row.start for row in rows) - KEPT

        def work(session: Session) -> None:
            save(session, rows)
            if oldest is not None:
                forget(session, oldest)

        await self.database.write(work)
        self._tidied = True
