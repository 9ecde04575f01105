"""What budgets have spent, by all routers on one database: each adds what it has, and reads what the others have.

A batch of amounts whose connection broke while it was committed is sent again, and its number keeps it from being added
twice. Amounts only grow within a period, also where the database lost some (a copy of yesterday put in its place): each
row is at least what its writer knows.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple, Protocol

import attrs
import msgspec

from .session import Session
from .store import Store
from .worker import Database

log = logging.getLogger("infermux.budgets")

NANO: Final = 1_000_000_000
MOST_NANO: Final = 2**63 - 1  # a column holds no more
DEAREST: Final = 1_000_000.0  # US dollars; a row that says a request cost more was written for what cannot be
LONGEST: Final = 32 * 86_400  # seconds; more than any period has
KEPT: Final = 100 * 86_400  # seconds; a month and what somebody may want to look up of the one before

LOOK_AHEAD_AFTER: Final = 0.7  # seconds since the last look
GOOD_FOR: Final = 0.25  # seconds
AT_ONCE: Final = 64  # amounts a statement, which looks each of them up among all
OVERLAP: Final = 10.0  # seconds that a transaction may have taken whose rows are looked for

_CLOCKS: Final = {
    "postgresql": "extract(epoch FROM clock_timestamp())::float8",
    "sqlite": "(julianday('now') - 2440587.5) * 86400.0",
}
_MANY: Final = """
WITH added (scope, name, period, start, more, least) AS ({source})
INSERT INTO budgets_spent (scope, name, period, start, amount, changed)
SELECT scope, name, period, start, least, {now} FROM added WHERE true
ON CONFLICT (scope, name, period, start) DO UPDATE SET changed = excluded.changed, amount = (
    SELECT CASE
        WHEN budgets_spent.amount > {most} - more THEN {most}
        WHEN budgets_spent.amount + more < least THEN least
        ELSE budgets_spent.amount + more END
    FROM added
    WHERE (added.name, added.scope, added.period, added.start)
        = (excluded.name, excluded.scope, excluded.period, excluded.start))
"""
_JSON: Final = """
SELECT * FROM json_to_recordset(?)
    AS of_json (scope text, name text, period text, start bigint, more bigint, least bigint)
"""
_CLAIM: Final = """
INSERT INTO budget_writers (writer, batch, at) VALUES (?, ?, {now})
ON CONFLICT (writer) DO UPDATE SET batch = excluded.batch, at = excluded.at
WHERE budget_writers.batch < excluded.batch
"""
_LOOK: Final = "SELECT scope, name, period, start, amount FROM budgets_spent WHERE changed >= ? AND start >= ?"


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


def add(session: Session, batch: Batch) -> bool:
    """Add these amounts; False, and nothing is done, where that batch or a later one of its writer was added before."""
    now = _clock(session)
    if session.change(_CLAIM.format(now=now), (batch.writer, batch.number)) != 1:
        return False
    # In one order everywhere, so that no two wait for each other; what all have in common comes last, and is locked
    # for the shortest time.
    rows = sorted(_once(batch.rows), reverse=True)
    for at in range(0, len(rows), AT_ONCE):
        some = rows[at : at + AT_ONCE]
        source, values = _source(some, postgresql=session.postgresql)
        session.change(_MANY.format(source=source, now=now, most=MOST_NANO), values)
    return True


def _source(rows: Sequence[Added], *, postgresql: bool) -> tuple[str, Sequence[Any]]:
    """The rows as a table, and the values in it. PostgreSQL takes JSON apart itself, as for the ledger."""
    if postgresql:
        return _JSON, (msgspec.json.encode([row._asdict() for row in rows]).decode(),)
    return f"VALUES {', '.join(['(?, ?, ?, ?, ?, ?)'] * len(rows))}", tuple(chain.from_iterable(rows))


def _once(rows: Iterable[Added]) -> Iterable[Added]:
    """A statement changes each row once: two amounts of one purse are one."""
    found: dict[tuple[str, str, str, int], Added] = {}
    for row in rows:
        same = found.get(row[:4])
        more = row.more if same is None else min(row.more + same.more, MOST_NANO)
        least = row.least if same is None else max(row.least, same.least, more)
        found[row[:4]] = row._replace(more=more, least=least)
    return found.values()


def _clock(session: Session) -> str:
    return _CLOCKS["postgresql" if session.postgresql else "sqlite"]


def look(session: Session, since: float) -> Looked:
    """What has changed since the look that told `since`; 0: all of the periods that can be running."""
    now = session.rows(f"SELECT {_clock(session)}")[0][0]
    found = session.rows(_LOOK, (since - OVERLAP, int(now - LONGEST)))
    return Looked([Spent(*row) for row in found], now)


def identity(session: Session) -> str:
    """The name of the database."""
    return str(session.rows("SELECT name FROM identity")[0][0])


def forget(session: Session, before: int) -> None:
    """Drop what was spent in periods that began before that moment, and who has written nothing since."""
    session.change("DELETE FROM budgets_spent WHERE start < ?", (before,))
    session.change("DELETE FROM budget_writers WHERE at < ?", (float(before),))


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


class Company(Protocol):
    """What somebody else has to write."""

    def write(self, session: Session) -> None:
        """Write it, in the thread. Raises DatabaseUnavailable only."""
        ...

    def ended(self, *, kept: bool) -> None:
        """What became of it: called once, in the task, whatever happens. `kept`: the transaction was committed."""
        ...


class _Ahead(NamedTuple):
    """A look since `since` that nobody has asked for yet; `until`, by the monotonic clock, it is one of this moment."""

    since: float
    looked: Looked
    until: float


def _ahead(store: Store, since: float) -> Looked | None:
    """None where that fails, for whatever reason: whoever looks finds out. What was added is committed by then."""
    try:
        return store.read(lambda session: look(session, since))
    except Exception:
        log.debug("could not look ahead", exc_info=True)
        return None


@attrs.define(eq=False)
class DatabaseBudgets:
    """The `BudgetStore` of a running router. Raises DatabaseUnavailable from every call.

    `company` tells what else goes to that database, in the transaction that adds amounts: one costs more than its rows.
    Where it is nearly time to look, that is done with the same wake-up of the thread, for whoever looks next.
    """

    database: Database
    company: Callable[[], Company | None] = lambda: None
    _tidied: bool = False
    _seen: float | None = None  # what the last look told
    _looked: float = 0.0  # when that was, by the monotonic clock
    _ahead: _Ahead | None = None

    async def load(self, terms: Sequence[Term], at: float) -> Sequence[Spent]:
        return await self.database.read(lambda session: load(session, terms, at))

    async def identity(self) -> str:
        return await self.database.read(identity)

    async def look(self, since: float) -> Looked:
        ahead, self._ahead = self._ahead, None
        if ahead is None or ahead.since != since or time.monotonic() > ahead.until:
            looked = await self.database.read(lambda session: look(session, since))
        else:
            looked = ahead.looked
        self._seen, self._looked = looked.at, time.monotonic()
        return looked

    async def add(self, batch: Batch) -> None:
        """Also, once, forget what is long over."""
        oldest = None if self._tidied else max(row.start for row in batch.rows) - KEPT

        company, kept = self.company(), False
        self._ahead = None
        since = self._seen if time.monotonic() > self._looked + LOOK_AHEAD_AFTER else None

        def work(session: Session) -> None:
            if company is not None:
                company.write(session)  # first: nobody else waits for its rows
            if add(session, batch) and oldest is not None:
                forget(session, oldest)

        def turn(store: Store) -> Looked | None:
            store.write(work)
            # In a transaction of its own: what was changed is locked until the end of that one.
            return None if since is None else _ahead(store, since)

        try:
            looked = await self.database.turn(turn)
            self._tidied = kept = True
        finally:
            if company is not None:
                company.ended(kept=kept)
        if since is not None and looked is not None:
            self._ahead = _Ahead(since, looked, time.monotonic() + GOOD_FOR)
