"""The long form: four nodes under 400 callers while Redis and nodes meet every fault, with the figures as a table.

    python -m tests.shared.run [--seconds 10]

Each phase lasts so many seconds. It fails where more is admitted than the limit and the blocks allow, or, after a
phase, not all but 2 % of it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from tests.shared._nodes import Nodes, nodes

REQUESTS = 6000  # a minute
TOKENS = 450_000  # each request uses 75 on average: both limits are scarce
CALLERS = 100  # of each of four nodes
PAUSE = 0.4


def main() -> None:
    parser = argparse.ArgumentParser(description="Limits shared by nodes under faults, the long form.")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each phase (10)")
    seconds: float = parser.parse_args().seconds
    with nodes(4, requests=REQUESTS, tokens=TOKENS, callers=CALLERS, pause=PAUSE) as running:
        print(f"{'phase':<28}{'admitted':>10}{'of allowed':>12}{'most over':>12}{'requests a round trip':>24}")
        for name, phase in phases(running, seconds):
            before = totals(running)
            running.highest.clear()
            phase()
            running.until_together()
            running.until_used_up()
            asked, rounds = (now - was for now, was in zip(totals(running), before, strict=True))
            admitted = sum(each.requests for each in running.counts())
            over = max(running.highest.values())
            print(
                f"{name:<28}{admitted:>10}{running.ratio():>12.4f}{100 * over:>10.2f} %{asked / max(rounds, 1):>24.1f}"
            )
        running.end()


def totals(running: Nodes) -> tuple[int, int]:
    counts = running.counts()
    return sum(each.asked for each in counts), sum(each.rounds for each in counts)


def phases(running: Nodes, seconds: float) -> list[tuple[str, Callable[[], None]]]:
    redis = running.redis

    def killed() -> None:
        redis.kill()
        running.until_degraded()
        running.during(seconds)
        redis.start()

    def paused() -> None:
        redis.pause()
        running.during(seconds)
        redis.resume()

    def flushed() -> None:
        redis.ask("FLUSHALL")
        running.during(seconds)

    def node_killed() -> None:
        running.kill(min(running.processes))
        running.begin(running.add())
        running.during(seconds)

    def all_at_once() -> None:
        redis.pause()
        running.kill(min(running.processes))
        running.during(seconds / 2)
        redis.kill()
        redis.start()
        running.begin(running.add())

    return [
        ("nothing", lambda: running.during(seconds)),
        ("Redis killed", killed),
        ("Redis paused (SIGSTOP)", paused),
        ("Redis flushed", flushed),
        ("a node killed", node_killed),
        ("all of that", all_at_once),
    ]


if __name__ == "__main__":
    main()
