"""The plan for many requests a second, computed: `python -m bench.scale --write` renews the table in docs/scale.md.

What is measured and what is assumed are two classes. Nothing of it was run at this size.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs

PAGE = Path(__file__).parents[1] / "docs" / "scale.md"
BEGIN, END = "<!-- plan: begin -->\n", "<!-- plan: end -->\n"
DAY = 86_400


@attrs.frozen(kw_only=True)
class Measured:
    """Figures of one machine. Microseconds of CPU; where each is from stands in docs/scale.md."""

    request_us: float = 400.0  # whole, everything on, at half load
    event_us: float = 125.0  # of a stream whose events come one by one
    process_mib: float = 100.0
    stream_kib: float = 12.0
    row_us: float = 46.0  # the database's
    row_bytes: float = 365.0
    save_us: float = 1275.0  # of twenty budgets, the database's
    look_us: float = 400.0  # at what others have spent
    keys_us: float = 0.275  # a look at the keys, for each that there is
    budget_call_us: float = 180.0  # Redis's, for a budget, and for each process that shares it
    budget_call_process_us: float = 8.9
    limit_call_us: float = 500.0  # Redis's, for a limit that 266 processes share; less with fewer


@attrs.frozen(kw_only=True)
class Assumed:
    """The load, and what is decided."""

    requests: float = 1e6  # a second, all regions
    streamed: float = 0.5
    events: float = 100.0  # of a stream
    stream_seconds: float = 5.0
    whole_seconds: float = 3.0
    utilisation: float = 0.5  # of a core
    cell_requests: float = 20_000.0
    regions: int = 5
    keys: float = 10_000.0  # of a cell
    spare: float = 0.25  # cells more than the load needs
    connections: int = 6  # of a process, to the database, at most
    saves: float = 2.0  # a second and process
    looks: float = 1.0
    key_looks: float = 0.5
    trip: float = 60.0  # requests a round trip to Redis; this and the next by docs/shared-state.md
    budget_calls: float = 2.0  # to Redis, a second and process that spends of it
    budgets: float = 1.0  # that all processes of a cell spend from
    redis_busy: float = 0.5  # of its one core, by budgets
    block: float = 120.0  # requests that a process holds at most, where its limit is large
    known_within: float = 2.0  # seconds until all know what one has spent
    dollar_a_request: float = 0.002


@attrs.frozen(kw_only=True)
class Cell:
    """One cell at its load, and how many there are."""

    busy: float
    processes: int
    in_flight: float
    memory_gib: float
    row_cores: float
    other_cores: float
    gigabytes_a_day: float
    connections: int
    trips: float
    trip_cores: float
    budget_calls: float
    budget_cores: float
    span: int
    redises: int
    redis_cores: float
    blocks: float
    overspent: float
    cells: int


def budget_cores(measured: Measured, assumed: Assumed, processes: float) -> float:
    """Of Redis, for the budgets that so many processes share through it: each call reads what all have."""
    each = measured.budget_call_us + measured.budget_call_process_us * processes
    return assumed.budgets * assumed.budget_calls * processes * each / 1e6


def span(measured: Measured, assumed: Assumed) -> int:
    """The most processes whose budgets keep a Redis no busier than assumed: where `budget_cores` is that much."""
    each, more = measured.budget_call_us, measured.budget_call_process_us
    calls = assumed.redis_busy * 1e6 / (assumed.budgets * assumed.budget_calls)
    return math.floor((math.sqrt(each * each + 4 * more * calls) - each) / (2 * more))


def cell(measured: Measured, assumed: Assumed) -> Cell:
    """All by plain multiplication: nothing here knows of queues."""
    rate, streams = assumed.cell_requests, assumed.cell_requests * assumed.streamed
    busy = (rate * measured.request_us + streams * assumed.events * measured.event_us) / 1e6
    processes = math.ceil(busy / assumed.utilisation)
    open_streams = streams * assumed.stream_seconds
    shared = assumed.saves * measured.save_us + assumed.looks * measured.look_us
    shared += assumed.key_looks * assumed.keys * measured.keys_us
    redises = math.ceil(processes / span(measured, assumed))
    trip_cores = rate / assumed.trip * measured.limit_call_us / 1e6
    return Cell(
        busy=busy,
        processes=processes,
        in_flight=open_streams + (rate - streams) * assumed.whole_seconds,
        memory_gib=(processes * measured.process_mib + open_streams * measured.stream_kib / 1024) / 1024,
        row_cores=rate * measured.row_us / 1e6,
        other_cores=processes * shared / 1e6,
        gigabytes_a_day=rate * measured.row_bytes * DAY / 1e9,
        connections=processes * assumed.connections,
        trips=rate / assumed.trip,
        trip_cores=trip_cores,
        budget_calls=processes * assumed.budgets * assumed.budget_calls,
        budget_cores=budget_cores(measured, assumed, processes),
        span=span(measured, assumed),
        redises=redises,
        redis_cores=trip_cores / redises + budget_cores(measured, assumed, processes / redises),
        blocks=processes * assumed.block,
        overspent=rate * assumed.dollar_a_request * assumed.known_within,
        cells=math.ceil(assumed.requests / rate * (1 + assumed.spare)),
    )


def table(measured: Measured, assumed: Assumed) -> str:
    """In Markdown: a cell, and all of them."""
    return "".join(f"{line}\n" for line in _lines(cell(measured, assumed), assumed))


def _lines(found: Cell, assumed: Assumed) -> Iterator[str]:
    loaded = assumed.requests / assumed.cell_requests  # cells' worth of load: the spare ones share it

    def row(what: str, one: float, all_of_them: float | None) -> str:
        return f"| {what} | {_said(one)} | {'' if all_of_them is None else _said(all_of_them)} |"

    yield f"| | a cell at its full load | {assumed.regions} regions, {found.cells} cells |"
    yield "|---|---|---|"
    yield row("requests a second", assumed.cell_requests, assumed.requests)
    yield row("requests under way", found.in_flight, found.in_flight * loaded)
    yield row("cores busy", found.busy, found.busy * loaded)
    yield row("processes, each with a core", found.processes, found.processes * found.cells)
    yield row("memory of them, GiB", found.memory_gib, found.memory_gib * found.cells)
    yield row("rows a second", assumed.cell_requests, assumed.requests)
    yield row("the database's cores for rows", found.row_cores, found.row_cores * loaded)
    yield row("the same for budgets and keys", found.other_cores, found.other_cores * found.cells)
    yield row("the ledger, GB a day", found.gigabytes_a_day, found.gigabytes_a_day * loaded)
    yield row("connections to the database", found.connections, None)
    yield row("calls of Redis a second for one limit, at most", found.trips, found.trips * loaded)
    yield row("cores of Redis for these", found.trip_cores, None)
    yield row("calls of Redis a second for one budget of all", found.budget_calls, found.budget_calls * found.cells)
    yield row("cores of Redis for these, were it one", found.budget_cores, None)
    yield row("processes that one budget may span, at most", found.span, None)
    yield row("Redis, each with its part of limits and budgets", found.redises, found.redises * found.cells)
    yield row("busy of the core of each, both", found.redis_cores, None)
    yield row("requests in leased blocks, at most", found.blocks, None)
    yield row("dollars beyond a cell's budget, by rows alone", found.overspent, None)


def _said(number: float) -> str:
    if number >= 1e6:
        return f"{number / 1e6:.3g} million"
    return f"{number:,.0f}".replace(",", " ") if number >= 100 else f"{number:.2g}"


def main() -> None:
    text = table(Measured(), Assumed())
    if "--write" in sys.argv:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(before + BEGIN + text + END + rest.partition(END)[2])
    print(text)


if __name__ == "__main__":
    main()
