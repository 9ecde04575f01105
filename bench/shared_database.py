"""What one PostgreSQL server has to do for each router that shares it: the figures that docs/scale.md computes with.

    python -m bench.shared_database

CPU is that of the server's processes and of this one; a server of the tests' own is started for it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import attrs

from bench.ledger_rows import record
from infermux.actors.ledger import BATCH
from infermux.actors.ledger_rows import entry_of
from infermux.database.budgets import Added, Batch, add, look
from infermux.database.keys import add as add_key
from infermux.database.keys import load, revision
from infermux.database.place import Place
from infermux.database.rows import write_entries
from infermux.database.session import Session
from infermux.database.store import Store
from infermux.keys import Allowance, StoredKey, new_key

TICKS = os.sysconf("SC_CLK_TCK")  # a second, in /proc
DAY = 86_400


@attrs.frozen(kw_only=True)
class Sizes:
    """How much is measured: rows of the ledger, cycles of budgets, keys, and looks at them."""

    rows: int = 20_480
    cycles: int = 400
    keys: int = 10_000
    looks: int = 200
    purses: int = 20


@attrs.frozen(kw_only=True)
class Cost:
    """Microseconds of CPU, a time, of the server and of the router."""

    what: str
    server: float
    router: float

    def __str__(self) -> str:
        return f"| {self.what} | {self.server:.0f} | {self.router:.0f} |"


@attrs.frozen(kw_only=True)
class Measured:
    costs: tuple[Cost, ...]
    bytes_a_row: float

    def __str__(self) -> str:
        lines = ["| what | server, us | router, us |", "|---|---|---|", *map(str, self.costs)]
        return "\n".join([*lines, "", f"a row takes {self.bytes_a_row:.0f} bytes, indexes included"])


def measure(url: str, pids: Callable[[], list[int]], sizes: Sizes) -> Measured:
    """In an empty database at `url`; `pids` are the processes of its server."""
    store = Store(Place.of(url))
    store.write(lambda session: None)
    meter = _Meter(pids)
    costs = (
        meter.cost("a row of the ledger", sizes.rows, lambda: _write_rows(store, sizes.rows)),
        meter.cost(f"keeping {sizes.purses} budgets", sizes.cycles, lambda: _keep_budgets(store, sizes)),
        meter.cost("a look at what others spent", sizes.cycles, lambda: _look_at_budgets(store, sizes)),
        *_of_keys(store, meter, sizes),
    )
    taken = store.read(lambda session: session.rows(_SIZES))[0][0]
    store.close()
    return Measured(costs=costs, bytes_a_row=float(taken) / sizes.rows)


_SIZES = "SELECT sum(pg_total_relation_size(name::regclass)) FROM unnest('{requests,attempts,tags}'::text[]) AS name"


@attrs.frozen
class _Meter:
    pids: Callable[[], list[int]]

    def cost(self, what: str, times: int, work: Callable[[], object]) -> Cost:
        server, router = _server_seconds(self.pids()), time.process_time()
        work()
        used = _server_seconds(self.pids()) - server, time.process_time() - router
        return Cost(what=what, server=used[0] * 1e6 / times, router=used[1] * 1e6 / times)


def _server_seconds(pids: list[int]) -> float:
    """Of processes that live, and of those that they have waited for: fields 14 to 17 of /proc/PID/stat, proc(5)."""
    ticks = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        ticks += sum(map(int, fields[11:15]))
    return ticks / TICKS


def _write_rows(store: Store, rows: int) -> None:
    numbers = iter(range(rows))
    while batch := [entry_of(number, record(number)) for number, _ in zip(numbers, range(BATCH), strict=False)]:
        store.write(partial(write_entries, entries=batch))


def _keep_budgets(store: Store, sizes: Sizes) -> None:
    today = int(time.time()) // DAY * DAY
    for number in range(1, sizes.cycles + 1):
        rows = [Added("caller", f"team-{each}", "day", today, 1000, 1000) for each in range(sizes.purses)]
        store.write(partial(add, batch=Batch(1, number, rows)))


def _look_at_budgets(store: Store, sizes: Sizes) -> None:
    since = 0.0
    for _ in range(sizes.cycles):
        since = store.read(partial(look, since=since)).at


def _of_keys(store: Store, meter: _Meter, sizes: Sizes) -> list[Cost]:
    now = time.time()
    keys = [new_key(name=f"key-{number}", allows=Allowance(), now=now)[1] for number in range(sizes.keys)]
    store.write(partial(_add_keys, keys=keys))
    changed = f"a look whether one of {sizes.keys} keys has changed"
    return [
        meter.cost(changed, sizes.looks, lambda: [store.read(revision) for _ in range(sizes.looks)]),
        meter.cost(f"reading {sizes.keys} keys", 3, lambda: [store.read(load) for _ in range(3)]),
    ]


def _add_keys(session: Session, keys: Sequence[StoredKey]) -> None:
    for key in keys:
        add_key(session, key)


def main() -> None:
    from tests.database._postgresql import cluster

    with cluster() as server:
        print(measure(server.new_database("shared"), server.pids, Sizes()))


if __name__ == "__main__":
    main()
