"""The long form: four nodes under 400 callers while Redis, PostgreSQL and nodes meet every fault, as a table.

    python -m tests.shared.run [--seconds 10]

Each fault lasts so many seconds, and has a row. A row fails where more is admitted than its limits and the blocks
allow, where more than 2 % of a limit are missing, where its budget is overspent, not spent, or refuses somebody while
much of it is free, or where the ledger, PostgreSQL, Redis and the nodes do not agree on what was spent. Runs of the
full length are written down.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Final

from tests.database._postgresql import Cluster, cluster
from tests.shared._board import Says
from tests.shared._books import Books
from tests.shared._nodes import Nodes, nodes
from tests.shared._rows import Row, ends, full_load, heading, write

REQUESTS: Final = 3000  # a minute
TOKENS: Final = 225_000  # each request uses 75 on average
CALLERS: Final = 100  # of each of four nodes
PAUSE: Final = 0.4
SECONDS: Final = 10.0
BUDGET: Final = 1_200_000  # micro-dollars a second that a fault lasts: a little more than is asked for


def main() -> None:
    parser = argparse.ArgumentParser(description="Limits and budgets shared by nodes under faults, the long form.")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"of each fault ({SECONDS:.0f})")
    seconds: float = parser.parse_args().seconds
    with cluster() as database:
        rows, failure = campaign(database, seconds)
    if failure is None and seconds >= SECONDS:
        write(rows, seconds)
    sys.exit(failure)


def campaign(database: Cluster, seconds: float) -> tuple[list[Row], str | None]:
    """The rows, each printed when it is there, and what has failed."""
    rows: list[Row] = []
    url = database.new_database("shared")
    budget = round(BUDGET * seconds)
    running_nodes = nodes(
        4, requests=REQUESTS, tokens=TOKENS, callers=CALLERS, pause=PAUSE, budget=budget, database=url
    )
    with running_nodes as running:
        books = Books(url, running)
        print(heading(), flush=True)
        for number, (name, phase) in enumerate(phases(running, database, seconds)):
            running.board.says[Says.ROW] = number
            if number:
                running.new_window()
            began = time.monotonic()
            try:
                phase()
                rows.append(ends(name, running, books, began))
            except AssertionError as failed:
                return rows, f"FAILED in row {name!r}: {failed}"
            print(rows[-1], flush=True)
        try:
            row = full_load(running, max(2.0, seconds / 2))
        except AssertionError as failed:
            return rows, f"FAILED in row 'full load': {failed}"
        print(row, flush=True)
        rows.append(row)
        running.end()
    return rows, None


def phases(running: Nodes, database: Cluster, seconds: float) -> list[tuple[str, Callable[[], None]]]:
    redis = running.redis

    def killed() -> None:
        running.shaken = True
        redis.kill()
        running.until_degraded()
        running.during(seconds)
        redis.start()

    def restarted() -> None:
        running.shaken = True
        redis.kill()
        redis.start()
        running.during(seconds)

    def paused() -> None:
        running.shaken = True
        redis.pause()
        running.during(seconds)
        redis.resume()

    def flushed() -> None:
        running.shaken = True
        redis.ask("FLUSHALL")
        running.during(seconds)

    def nodes_killed() -> None:
        for _ in range(2):
            running.kill(min(running.processes))
            running.during(seconds / 4)
            running.begin(running.add())
            running.during(seconds / 4)

    def database_restarted() -> None:
        database.stop()
        running.during(seconds / 2)
        database.start()
        running.during(seconds / 2)

    def all_at_once() -> None:
        running.shaken = True
        redis.pause()
        running.kill(min(running.processes))
        running.during(seconds / 2)
        redis.kill()
        database.kill()
        redis.start()
        database.start()
        running.begin(running.add())
        running.during(seconds / 2)

    return [
        ("nothing", lambda: running.during(seconds)),
        ("Redis killed", killed),
        ("Redis restarted", restarted),
        ("Redis paused (SIGSTOP)", paused),
        ("Redis flushed", flushed),
        ("two nodes killed (-9)", nodes_killed),
        ("PostgreSQL restarted", database_restarted),
        ("all of that", all_at_once),
    ]


if __name__ == "__main__":
    main()
