"""What a second worker brings: throughput and CPU per request of `infermux serve` with one worker and with several.

    python -m bench.workers [--workers 2] [--rounds 9] [--seconds 4] [--connections 32]

Both are started, and take turns under the same load (`whole-16` of the bench, with so many connections per worker), so
that what the machine does otherwise meets both. Throughput can only be compared where there are cores for the workers
beside the mock upstream and the load generator. Where there are not, all processes of a router have one core and the
mock and the generator another, and CPU per request is what is left to see. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

import attrs

from infermux.bench.accounting import cpu_ns
from infermux.bench.figures import Spread
from infermux.bench.load import Load, local, run_load
from infermux.bench.machine import Placement, describe, placement, usable_cpus
from infermux.bench.preflight import wait_until_it_answers
from infermux.bench.process import Child, free_port, running
from infermux.bench.upstream import Pace, upstream

from .fronts import Site, infermux_config

STARTS_WITHIN = 60.0
WARM_UP = 1.0
MOST_CPU = 1.10
LEAST_GAIN = 1.8
TOOLS = 2  # cores that the mock and the load generator keep busy at the most


@attrs.frozen(kw_only=True)
class Round:
    """One router's turn: requests a second, CPU microseconds a request of all its processes, failures."""

    rate: float
    cpu_us: float
    failed: int


@attrs.frozen(kw_only=True)
class Router:
    """One that runs, with so many workers."""

    workers: int
    port: int
    child: Child

    def turn(self, load: Load, cpus: Placement, scratch: Path) -> Round:
        """Under load for a while."""
        load = attrs.evolve(load, connections=load.connections * self.workers)
        family = frozenset({self.child.popen.pid})  # workers have sessions of their own
        before = cpu_ns(family)
        result = run_load(load, local(self.port), cpus=cpus.others, scratch=scratch).result
        used = cpu_ns(family) - before
        return Round(rate=result.good / result.seconds, cpu_us=used / 1000 / max(result.good, 1), failed=result.failed)


@contextlib.contextmanager
def router(workers: int, upstream_url: str, cpus: Placement, scratch: Path) -> Generator[Router]:
    """Started, and answering."""
    folder = scratch / f"workers-{workers}"
    folder.mkdir()
    site = Site(port=free_port(), upstream=upstream_url, folder=folder)
    config = json.loads(infermux_config(site).read_text()) | {"workers": workers}
    file = folder / "workers.yml"
    file.write_text(json.dumps(config))
    words = [sys.executable, "-P", "-m", "infermux", "serve", "-c", str(file)]
    with running(f"infermux-{workers}", words, cpus=cpus.gateway, scratch=folder) as child:
        wait_until_it_answers(child, Load(), local(site.port), seconds=STARTS_WITHIN)
        yield Router(workers=workers, port=site.port, child=child)


def placed(workers: int) -> Placement:
    """Anywhere, where there is room for all; else as the bench does it."""
    return Placement(gateway=frozenset(), others=frozenset()) if cores() >= workers + TOOLS else placement()


def cores() -> int:
    """Those that this process may use."""
    return len(usable_cpus()) or os.cpu_count() or 1


def measure(workers: int, *, rounds: int, load: Load, scratch: Path) -> dict[int, list[Round]]:
    """Rounds of one worker and of `workers`, in turns."""
    cpus = placed(workers)
    found: dict[int, list[Round]] = {1: [], workers: []}
    with contextlib.ExitStack() as stack:
        mock = stack.enter_context(upstream(Pace(), cpus=cpus.others, scratch=scratch))
        routers = [stack.enter_context(router(count, mock.base_url, cpus, scratch)) for count in found]
        for each in routers:
            each.turn(attrs.evolve(load, seconds=WARM_UP), cpus, scratch)
        for number in range(rounds):
            for each in routers if number % 2 == 0 else reversed(routers):
                found[each.workers].append(each.turn(load, cpus, scratch))
    return found


def report(found: dict[int, list[Round]]) -> tuple[list[str], bool]:
    """Lines for people, and whether the goals are met as far as this machine can show."""
    one, many = found[1], found[max(found)]
    gain, cpu = (
        Spread.of([b.rate / a.rate for a, b in zip(one, many, strict=True)]),
        Spread.of([b.cpu_us / a.cpu_us for a, b in zip(one, many, strict=True)]),
    )
    assert gain is not None, "there were rounds"
    assert cpu is not None, "there were rounds"
    lines = ["| workers | requests/s | CPU us/request | failed |", "|---|---|---|---|"]
    for workers, rounds in found.items():
        rate, used = Spread.of([each.rate for each in rounds]), Spread.of([each.cpu_us for each in rounds])
        assert rate is not None, "there were rounds"
        assert used is not None, "there were rounds"
        lines.append(f"| {workers} | {rate.median:.0f} | {used.median:.1f} | {sum(each.failed for each in rounds)} |")
    lines.append(f"\nthroughput {gain.median:.2f} times ({gain.low:.2f} to {gain.high:.2f}), goal {LEAST_GAIN}")
    lines.append(f"CPU per request {cpu.median:.2f} times ({cpu.low:.2f} to {cpu.high:.2f}), goal {MOST_CPU} at most")
    roomy = cores() >= max(found) + TOOLS
    if not roomy:
        lines.append(f"{cores()} cores are too few to see the throughput of {max(found)} workers beside mock and load")
    met = cpu.median <= MOST_CPU and (not roomy or gain.median >= LEAST_GAIN) and not any(each.failed for each in many)
    return lines, met


def main() -> int:
    """Exit code 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--connections", type=int, default=16)
    given = parser.parse_args()
    load = Load(connections=given.connections, seconds=given.seconds)
    with tempfile.TemporaryDirectory(prefix="infermux-bench-") as scratch:
        found = measure(given.workers, rounds=given.rounds, load=load, scratch=Path(scratch))
    lines, met = report(found)
    print(*(f"{name}: {value}" for name, value in describe().items()), "", *lines, sep="\n")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
