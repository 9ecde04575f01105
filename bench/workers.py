"""What a second worker brings: throughput and CPU per request of `infermux serve` with one worker and with several.

    python -m bench.workers [--workers 2] [--rounds 9] [--seconds 4] [--connections 16]

Both are started, and take turns under the same load (`whole-16` of the bench, with so many connections per worker and
a load generator for each), so that what the machine does otherwise meets both. Throughput can only be compared where
there are cores for the workers beside the mock upstream and the load generators.

Where there are not, all processes of a router have one core and the mock and the generators another. Processes that
take turns on a core find its caches full of each other's data, whatever they are. So a third takes part: as many
routers as there are workers, each of one process and a port of its own, that know nothing of each other. What these use
for a request beyond one worker is what sharing a core costs; what the workers use beyond these is what being a crew
costs. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs

from infermux.bench.accounting import cpu_ns
from infermux.bench.load import Load, LoadResult, local, run_load
from infermux.bench.machine import Placement, describe, placement, usable_cpus
from infermux.bench.preflight import wait_until_it_answers
from infermux.bench.process import Child, free_port, running
from infermux.bench.upstream import Pace, upstream

from .fronts import Site, infermux_config
from .tools import at_least_one

STARTS_WITHIN = 60.0
WARM_UP = 1.0
MOST_CPU = 1.10
LEAST_GAIN = 1.8
TOOLS = 2  # cores that the mock and the load generators keep busy at the most


@attrs.frozen(kw_only=True)
class Round:
    """One turn: requests a second, CPU microseconds a request of all processes of the routers, failures."""

    rate: float
    cpu_us: float
    failed: int


@attrs.frozen(kw_only=True)
class Routers:
    """Those that run and are under load together: `ports` has one for each load generator."""

    children: tuple[Child, ...]
    ports: tuple[int, ...]

    def turn(self, load: Load, cpus: Placement, scratch: Path) -> Round:
        """Under load for a while, from each generator the whole of it."""
        family = frozenset(child.popen.pid for child in self.children)  # workers have sessions of their own
        before = cpu_ns(family)
        with ThreadPoolExecutor(len(self.ports)) as threads:
            runs = [threads.submit(generate, load, port, cpus, scratch, i) for i, port in enumerate(self.ports)]
            results = [run.result() for run in runs]
        used, good = cpu_ns(family) - before, sum(result.good for result in results)
        return Round(
            rate=good / max(result.seconds for result in results),
            cpu_us=used / 1000 / max(good, 1),
            failed=sum(result.failed for result in results),
        )


def generate(load: Load, port: int, cpus: Placement, scratch: Path, number: int) -> LoadResult:
    """One load generator's run; it has a folder of its own."""
    folder = scratch / f"load-{number}"
    folder.mkdir(exist_ok=True)
    return run_load(load, local(port), cpus=cpus.others, scratch=folder).result


@contextlib.contextmanager
def router(workers: int, upstream_url: str, cpus: Placement, folder: Path) -> Generator[tuple[Child, int]]:
    """One of so many workers, answering; and its port."""
    folder.mkdir()
    site = Site(port=free_port(), upstream=upstream_url, folder=folder)
    config = json.loads(infermux_config(site).read_text()) | {"workers": workers}
    file = folder / "workers.yml"
    file.write_text(json.dumps(config))
    words = [sys.executable, "-P", "-m", "infermux", "serve", "-c", str(file)]
    with running(folder.name, words, cpus=cpus.gateway, scratch=folder) as child:
        wait_until_it_answers(child, Load(), local(site.port), seconds=STARTS_WITHIN)
        yield child, site.port


def is_roomy(workers: int) -> bool:
    """There are cores for all."""
    return (len(usable_cpus()) or os.cpu_count() or 1) >= workers + TOOLS


@attrs.frozen(kw_only=True)
class Found:
    """Rounds of one worker, of `workers`, and of as many routers `apart`: none where there are cores for all."""

    workers: int
    one: list[Round] = attrs.field(factory=list[Round])
    crew: list[Round] = attrs.field(factory=list[Round])
    apart: list[Round] = attrs.field(factory=list[Round])

    def named(self) -> list[tuple[str, list[Round]]]:
        """Those that took part."""
        parts = [
            ("1 worker", self.one),
            (f"{self.workers} workers", self.crew),
            (f"{self.workers} routers", self.apart),
        ]
        return [(name, rounds) for name, rounds in parts if rounds]


def measure(workers: int, *, rounds: int, load: Load, scratch: Path) -> Found:
    """In turns."""
    roomy = is_roomy(workers)
    cpus = Placement(gateway=frozenset(), others=frozenset()) if roomy else placement()
    found = Found(workers=workers)
    with contextlib.ExitStack() as stack:
        mock = stack.enter_context(upstream(Pace(), cpus=cpus.others, scratch=scratch))

        def started(of: int, name: str) -> tuple[Child, int]:
            return stack.enter_context(router(of, mock.base_url, cpus, scratch / name))

        one, crew = started(1, "one"), started(workers, "crew")
        parts = [
            (found.one, Routers(children=one[:1], ports=one[1:])),
            (found.crew, Routers(children=crew[:1], ports=crew[1:] * workers)),
        ]
        if not roomy:
            children, ports = zip(*(started(1, f"apart-{number}") for number in range(workers)), strict=True)
            parts.append((found.apart, Routers(children=children, ports=ports)))
        for _, routers in parts:
            routers.turn(attrs.evolve(load, seconds=WARM_UP), cpus, scratch)
        for number in range(rounds):
            for into, routers in parts if number % 2 == 0 else reversed(parts):
                into.append(routers.turn(load, cpus, scratch))
    return found


@attrs.frozen
class Times:
    """How many times, round by round: `low` and `high` are the quartiles, as single rounds may be anything."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, many: Sequence[float], few: Sequence[float]) -> Times:
        ratios = [a / b for a, b in zip(many, few, strict=True)]
        return cls(*(statistics.quantiles(ratios, method="inclusive") if len(ratios) > 1 else ratios * 3))

    def __str__(self) -> str:
        return f"{self.median:.2f} times (half of the rounds: {self.low:.2f} to {self.high:.2f})"


def report(found: Found) -> tuple[list[str], bool]:
    """Lines for people, and whether the goals are met as far as this machine can show."""
    lines = ["| | requests/s | CPU us/request | failed |", "|---|---|---|---|"]
    for name, rounds in found.named():
        rate, used = (statistics.median(values) for values in zip(*((r.rate, r.cpu_us) for r in rounds), strict=True))
        lines.append(f"| {name} | {rate:.0f} | {used:.1f} | {sum(each.failed for each in rounds)} |")
    one, crew, apart = ([each.cpu_us for each in rounds] for rounds in (found.one, found.crew, found.apart))
    gain = Times.of([each.rate for each in found.crew], [each.rate for each in found.one])
    cpu, name, goal = Times.of(crew, one), f"{found.workers} workers", f", goal {MOST_CPU:.2f} at most"
    met = not any(each.failed for _, rounds in found.named() for each in rounds)
    lines.append("")
    if not apart:
        lines.append(f"throughput of {name} to one's: {gain}, goal {LEAST_GAIN}")
        lines.append(f"CPU per request of {name} to one's: {cpu}{goal}")
        return lines, met and cpu.median <= MOST_CPU and gain.median >= LEAST_GAIN
    ours = Times.of(crew, apart)
    lines += [
        f"CPU per request of {name} to one's, which has the core to itself: {cpu}",
        f"of {found.workers} routers apart to one's, which is what sharing a core costs: {Times.of(apart, one)}",
        f"of {name} to {found.workers} routers apart, which is what being a crew costs: {ours}{goal}",
        f"throughput {gain}, which says nothing here: too few cores for {name} beside mock and load",
    ]
    return lines, met and ours.median <= MOST_CPU


def main(words: Sequence[str] | None = None) -> int:
    """Exit code 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=at_least_one, default=2)
    parser.add_argument("--rounds", type=at_least_one, default=9)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--connections", type=at_least_one, default=16, help="of each load generator")
    given = parser.parse_args(words)
    load = Load(connections=given.connections, seconds=given.seconds)
    with tempfile.TemporaryDirectory(prefix="infermux-bench-") as scratch:
        found = measure(given.workers, rounds=given.rounds, load=load, scratch=Path(scratch))
    lines, met = report(found)
    print(*(f"{name}: {value}" for name, value in describe().items()), "", *lines, sep="\n")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
