"""How many rows a second the ledger takes, and what it does to the event loop meanwhile. In-process, whole rounds.

Records are told as fast as they can be; a round ends when the last one is written. Every tenth has tags, every tenth
two attempts, so there are 1.3 rows of the tables for each.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs
import trio
import trio.lowlevel

from infermux.actors.identity import Identity
from infermux.actors.journal import Journal
from infermux.actors.kit import supervise
from infermux.actors.ledger import Books, open_ledger
from infermux.actors.record import Record, Tried
from infermux.bench.figures import Spread
from infermux.bench.report import aligned
from infermux.database.place import Place
from infermux.database.worker import Database
from infermux.providers.interface import Usage

ROWS = 20_000  # a round: fewer than the ledger keeps waiting before it sheds any
AT_ONCE = 200  # told between two steps of the loop
NEEDED = 5_000
"""Rows a second that it must take."""
TICK = 0.001  # seconds between two looks at how late the loop comes


@attrs.frozen(kw_only=True)
class Found:
    """One database. CPU is the process's, milliseconds are how late the loop came while rows were written."""

    database: str
    failure: str | None = None
    per_second: Spread | None = None
    cpu_us: Spread | None = None
    late_p99_ms: Spread | None = None
    late_max_ms: Spread | None = None


@attrs.frozen(kw_only=True)
class Round:
    seconds: float
    cpu: float
    late: Sequence[float]


def measure(*, rounds: int, scratch: Path) -> list[Found]:
    """SQLite in a file, and PostgreSQL of this machine's packages."""
    found = [of("SQLite", f"sqlite:///{scratch / 'rows.db'}", rounds)]
    with _postgresql() as url:
        missing = Found(database="PostgreSQL", failure="not installed (Debian: apt-get install postgresql)")
        found.append(missing if url is None else of("PostgreSQL", url, rounds))
    return found


@contextmanager
def _postgresql() -> Generator[str | None]:
    """The URL of an empty database, None where there is no server to start."""
    from tests.conftest import which
    from tests.database._postgresql import cluster

    if which("initdb") is None:
        yield None
        return
    with cluster() as server:
        yield server.new_database("rows")


def of(name: str, url: str, rounds: int) -> Found:
    try:
        measured = trio.run(_rounds, url, rounds)
    except RuntimeError as wrong:
        return Found(database=name, failure=str(wrong))
    return Found(
        database=name,
        per_second=Spread.of(ROWS / each.seconds for each in measured),
        cpu_us=Spread.of(each.cpu * 1e6 / ROWS for each in measured),
        late_p99_ms=Spread.of(statistics.quantiles(each.late, n=100)[98] * 1000 for each in measured),
        late_max_ms=Spread.of(max(each.late) * 1000 for each in measured),
    )


async def _rounds(url: str, rounds: int) -> list[Round]:
    journal = Journal()
    async with (
        supervise() as supervisor,
        open_ledger(supervisor, journal, Database.at(Place.of(url))) as books,
    ):
        journal.tell(record(0))
        await _written(books, 1)
        return [await _round(journal, books) for _ in range(rounds)]


async def _round(journal: Journal, books: Books) -> Round:
    records = [record(number) for number in range(ROWS)]
    until = books.ledger.written + ROWS
    late: list[float] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_look, late)
        since, cpu = time.perf_counter(), time.process_time()
        for number, each in enumerate(records):
            journal.tell(each)
            if number % AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
        await _written(books, until)
        measured = Round(seconds=time.perf_counter() - since, cpu=time.process_time() - cpu, late=late)
        nursery.cancel_scope.cancel()
    return measured


async def _written(books: Books, until: int) -> None:
    """Return when the ledger has written so many. RuntimeError where it does not come to that."""
    ledger = books.ledger
    with trio.move_on_after(60):
        while ledger.written < until:
            if ledger.shed or ledger.refused:
                break
            await trio.sleep(TICK)
        else:
            return
    raise RuntimeError(f"{until} rows were not written: {ledger.statistics()}")


async def _look(late: list[float]) -> None:
    while True:
        due = trio.current_time() + TICK
        await trio.sleep_until(due)
        late.append(trio.current_time() - due)


def record(number: int) -> Record:
    usage = Usage(prompt_tokens=380, completion_tokens=120, cached_tokens=256)
    answered = Tried(
        provider="openai", model="gpt-4o-mini", started=0.001, ended=0.9, status=200, usage=usage, cost=1e-4
    )
    failed = Tried(provider="azure", model="gpt-4o-mini", started=0.0, ended=0.001, outcome="connect")
    return Record(
        id=f"req-3f9ad0c1b2e4-{number:x}",
        at=time.time(),
        who=Identity(caller="search", key="abcdefghijkl", tags={} if number % 10 else {"team": "search"}),
        endpoint="chat",
        stream=number % 2 == 0,
        requested="gpt-4o-mini",
        group="fast",
        strategy="round_robin",
        provider="openai",
        model="gpt-4o-mini",
        attempts=(answered,) if number % 10 else (failed, answered),
        usage=usage,
        cost=1e-4,
        latency=0.9,
        overhead=0.0004,
    )


def markdown(found: Sequence[Found]) -> str:
    """A table that is also legible as plain text."""
    table = [["database", "rows/s", "CPU µs/row", "loop late p99 ms", "loop late max ms"]]
    for each in found:
        spreads = [(each.per_second, 0), (each.cpu_us, 1), (each.late_p99_ms, 1), (each.late_max_ms, 1)]
        cells = ["-" if spread is None else spread.text(digits) for spread, digits in spreads]
        table.append([each.database, *(cells if each.failure is None else ["FAIL", "", "", ""])])
    notes = [f"- {each.database}: FAIL, {each.failure}" for each in found if each.failure is not None]
    slow = [each.database for each in found if each.per_second is not None and each.per_second.median < NEEDED]
    notes += [f"- {name} takes fewer than the {NEEDED} rows a second it must" for name in slow]
    title = f"### ledger: rounds of {ROWS} requests, told as fast as they can be"
    return "\n".join([title, "", *aligned(table), "", *notes, *([""] if notes else [])])
