"""What operating it costs: the same infermux with everything on and with all of it off, in turns.

On: `auth.mode: keys`, a key with limits and a budget of its own, budgets, prices, the ledger on SQLite, a line of JSON
per request in a file, and metrics that are scraped each second. Off: none of these.
"""

from __future__ import annotations

import contextlib
import http.client
import sqlite3
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

import attrs

from infermux.bench.callers import MODEL
from infermux.bench.figures import Spread, failure
from infermux.bench.machine import Placement
from infermux.bench.report import aligned
from infermux.bench.rounds import Measurement
from infermux.bench.scenario import Scenario
from infermux.bench.upstream import upstream
from infermux.database.keys import KeyFile
from infermux.database.place import Place
from infermux.database.store import Store
from infermux.keys import Allowance, KeyBudget, new_key

from .fronts import Asks, Command, Front, RunningFront, Site, infermux_config, serve
from .rounds import Bench, Say
from .scenarios import SCENARIOS, round_load

SCRAPE_EVERY = 1.0  # seconds
SETTLES = 0.6  # seconds in which the last rows and lines of a round are written
AT_MOST = 1.4
"""How many times the CPU per request everything may cost."""

SCENARIOS_OPERATED: Mapping[str, Scenario] = {
    f"operated-{name}": attrs.evolve(SCENARIOS[name], name=f"operated-{name}", rounds=9)
    for name in ("whole-16", "stream-16", "stream-16-aligned")
}

_ALLOWS = Allowance(
    models=("bench-*",),
    requests_per_minute=1_000_000_000,
    tokens_per_minute=1_000_000_000_000,
    max_concurrent=10_000,
    budget=KeyBudget(limit_usd=1e6, period="month"),
)
KEY, _STORED = new_key(name="bench", allows=_ALLOWS, now=time.time())


@attrs.frozen(kw_only=True)
class Outcome:
    """All rounds of both. `missing` says why there are none; `rows` are those that the ledger has at the end."""

    scenario: Scenario
    off: tuple[Measurement, ...] = ()
    on: tuple[Measurement, ...] = ()
    rows: int = 0
    missing: str | None = None

    @property
    def failure(self) -> str | None:
        """Why the figures do not count: a request failed, or the ledger has another number of them."""
        if self.missing is not None:
            return self.missing
        if (failed := sum(each.load.failed for each in (*self.off, *self.on))) > 0:
            return f"{failed} requests failed"
        if self.rows < _requests(self.on):
            return f"there are {self.rows} rows in the ledger for {_requests(self.on)} requests"
        return failure(self.off) or failure(self.on)

    @property
    def ratio(self) -> Spread | None:
        """CPU time per request with everything on over that with all of it off, round by round."""
        if self.failure is not None:
            return None
        pairs = zip(_cpu(self.on), _cpu(self.off), strict=True)
        return Spread.of(on / off for on, off in pairs)


def measure(
    scenario: Scenario, *, quick: bool, rounds: int | None, cpus: Placement, scratch: Path, say: Say
) -> Outcome:
    """Both in every round, in turns."""
    missing: dict[str, str] = {}
    scratch = scratch / scenario.name
    scratch.mkdir()  # a ledger of its own
    found: dict[str, list[Measurement]] = {OFF.name: [], ON.name: []}
    with contextlib.ExitStack() as stack:
        mock = stack.enter_context(upstream(scenario.pace, cpus=cpus.others, scratch=scratch))
        bench = Bench(scenario=scenario, mock=mock, cpus=cpus, scratch=scratch, say=say)
        up = [running for front in (OFF, ON) if (running := bench.start(front, stack, missing)) is not None]
        if missing:
            return Outcome(scenario=scenario, missing="; ".join(missing.values()))
        load = round_load(scenario, quick=quick)
        for running in up:
            bench.run(running, attrs.evolve(load, seconds=1.0))
        count = rounds or (3 if quick else scenario.rounds)
        for number in range(count):
            for running in up:
                with FRONTS[running.name].during(running):
                    found[running.name].append(bench.measure(running, load, f"{number + 1}/{count}"))
    rows = _rows(scratch / f"front-{ON.name}")
    return Outcome(scenario=scenario, off=tuple(found[OFF.name]), on=tuple(found[ON.name]), rows=rows)


@contextlib.contextmanager
def scraped(running: RunningFront) -> Generator[None]:
    """Ask for the metrics each second, as Prometheus would. Raises what went wrong with that."""
    ended, problems = threading.Event(), list[str]()

    def scrape() -> None:
        while not ended.wait(SCRAPE_EVERY):
            connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=SCRAPE_EVERY)
            # One that is overloaded misses a scrape, here as with Prometheus.
            with contextlib.closing(connection), contextlib.suppress(TimeoutError):
                connection.request("GET", "/_infermux/metrics")
                answer = connection.getresponse()
                if answer.status != 200 or b"infermux_" not in answer.read():
                    problems.append(f"the metrics were answered with {answer.status}")

    thread = threading.Thread(target=scrape, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if problems:
        raise RuntimeError(problems[0])


# The two of them.


def _off(site: Site) -> Command:
    return serve(infermux_config(site))


def _on(site: Site) -> Command:
    database = site.folder / "ledger.db"
    KeyFile(Store(_place(database))).add(_STORED)
    more = {
        "auth": {"mode": "keys"},
        "ledger": {"url": f"sqlite:///{database}"},
        "log": {"level": "info", "format": "json"},
        "budgets": [{"limit_usd": 1e6, "period": "month"}, {"caller": "*", "limit_usd": 1e6, "period": "day"}],
        "pricing": {"mock-0": {MODEL: {"input_per_million": 2.5, "output_per_million": 10.0}}},
    }
    return serve(infermux_config(site, more=more))


OFF = Front(name="off", command=_off, settles=SETTLES)
ON = Front(name="on", command=_on, asks=lambda _: Asks(key=KEY.reveal()), during=scraped, settles=SETTLES)
FRONTS = {front.name: front for front in (OFF, ON)}


def _place(database: Path) -> Place:
    return Place.of(f"sqlite:///{database}")


def _rows(folder: Path) -> int:
    """How many the ledger has: the server has ended."""
    with contextlib.closing(sqlite3.connect(folder / "ledger.db")) as connection:
        return int(connection.execute("SELECT count(*) FROM requests").fetchone()[0])


# Figures.


def _cpu(found: Sequence[Measurement]) -> list[float]:
    """CPU microseconds per request, round by round."""
    return [(each.cpu_ns or 0) / 1000 / each.load.good for each in found]


def markdown(outcome: Outcome) -> str:
    """A table that is also legible as plain text."""
    lines = [f"### {outcome.scenario.name}: {outcome.scenario.title}", ""]
    if outcome.failure is not None:
        return "\n".join([*lines, f"FAIL: {outcome.failure}", ""])
    table = [["", "CPU µs/request", "requests/s", "p50 ms", "p99 ms", "RSS MiB", "requests"]]
    table += [[found[0].target, *_cells(found)] for found in (outcome.off, outcome.on)]
    ratio = outcome.ratio
    assert ratio is not None
    verdict = "" if ratio.median <= AT_MOST else f"; more than the {AT_MOST} it may"
    note = f"- everything on costs {ratio.text(3)} times the CPU of all of it off, round by round{verdict}"
    return "\n".join([*lines, *aligned(table), "", note, f"- rows in the ledger: {outcome.rows}", ""])


def _cells(found: Sequence[Measurement]) -> list[str]:
    spreads = [
        (Spread.of(_cpu(found)), 1),
        (Spread.of(each.load.good / each.load.seconds for each in found), 0),
        (Spread.of(each.load.latency_us.p50 / 1000 for each in found), 2),
        (Spread.of(each.load.latency_us.p99 / 1000 for each in found), 2),
        (Spread.of(each.resident / 1024 for each in found), 1),
    ]
    return [*("-" if spread is None else spread.text(digits) for spread, digits in spreads), str(_requests(found))]


def _requests(found: Sequence[Measurement]) -> int:
    return sum(each.load.requests for each in found)


def as_data(outcome: Outcome) -> Mapping[str, object]:
    """Everything for the JSON file: the figures and every round they come from."""
    return {
        "scenario": outcome.scenario.name,
        "title": outcome.scenario.title,
        "unit": "request",
        "failure": outcome.failure,
        "ratio": None if outcome.ratio is None else attrs.asdict(outcome.ratio),
        "rows": outcome.rows,
        "rounds": [
            {field.name: getattr(each, field.name) for field in attrs.fields(Measurement)}
            for each in (*outcome.off, *outcome.on)
        ],
    }
