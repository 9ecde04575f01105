"""Whether a router that runs for long stays as it was: memory, latency, tasks and descriptors under mixed traffic.

    python -m bench.soak                   # twenty minutes; make soak
    python -m bench.soak --seconds 60      # what continuous integration runs

`infermux serve` is a process of its own; its providers misbehave at random, its callers stream, ask, leave and read
slowly. Exit code 1: something grew, was left, or was passed off as whole.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio

from bench.soak_report import Line, Panel, Sample, Slope, is_flat, percentiles, plot, slope, warm
from bench.soak_world import Load, providers
from bench.tools import ROOT
from infermux.bench.process import Child, running, wait_for_line
from tests.mocks.openai_upstream import OpenAIUpstream

RESULTS = Path(__file__).parent / "results"
EVERY = 0.5  # seconds between two samples
WARM_UP = 1500  # requests: more than the router remembers the decisions of
WARMS_WITHIN = 40.0
SETTLES_WITHIN = 15.0
STARTS_WITHIN = 20.0


@attrs.define(eq=False)
class Router:
    """The process that is watched."""

    child: Child
    port: int

    async def status(self) -> Any:
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        async with stream:
            await stream.send_all(b"GET /_infermux/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            said = b"".join([data async for data in stream])
        return json.loads(said.partition(b"\r\n\r\n")[2])

    @property
    def resident(self) -> float:
        """MiB."""
        fields = Path(f"/proc/{self.child.popen.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    @property
    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.child.popen.pid}/fd"))

    async def sample(self, began: float) -> Sample:
        status = await self.status()
        return Sample(trio.current_time() - began, self.resident, self.descriptors, status["tasks"])


@attrs.frozen(kw_only=True)
class Soaked:
    """What was measured. `left` is what was there at the end and not at the beginning."""

    seconds: float
    samples: Sequence[Sample]
    p99s: Sequence[tuple[float, float]]
    direct: Sequence[tuple[float, float]]  # the same without the router
    seen: dict[str, int]
    left: dict[str, int]

    @property
    def slope(self) -> Slope:
        return slope(self.samples)

    def wrong(self) -> list[str]:
        found = [f"{count} {what} left over" for what, count in self.left.items() if count > 0]
        line = self.slope
        if not line.is_fine(self.seconds):
            found.append(f"memory grows by {line.per_hour:.1f} MiB an hour, at least {line.at_least:.1f}")
        if not is_flat(self.p99s, beside=self.direct, seconds=self.seconds):
            found.append("the 99th percentile rises")
        if self.seen.get("truncated"):
            found.append(f"{self.seen['truncated']} answers ended neither whole nor in an error")
        if self.seen.get("whole", 0) < self.seconds:
            found.append("there was hardly any traffic")
        return found

    def __str__(self) -> str:
        line = self.slope
        seen = ", ".join(f"{count} {what}" for what, count in sorted(self.seen.items()))
        kept = warm(self.samples)
        p99s, direct = ([value * 1000 for _, value in each] for each in (self.p99s, self.direct))
        return "\n".join(
            [
                f"{self.seconds:.0f} s: {seen}",
                f"memory: {kept[0].resident:.1f} MiB after warm-up, {kept[-1].resident:.1f} at the end: "
                f"{line.per_hour:+.2f} MiB an hour (at least {line.at_least:+.2f} with 95 % confidence)",
                f"99th percentile of a whole answer: {p99s[0]:.1f} ms at first, {p99s[-1]:.1f} ms at last "
                f"(without the router {direct[0]:.1f} and {direct[-1]:.1f})",
                f"left over: {', '.join(f'{count} {what}' for what, count in self.left.items())}",
            ]
        )


async def soak(seconds: float, seed: int) -> Soaked:
    """Run all of it."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        async with providers(seed, scratch) as (path, upstreams):
            command = [sys.executable, "-m", "infermux", "serve", "-c", str(path)]
            environment = {"PYTHONPATH": str(ROOT)}
            cpus = frozenset(os.sched_getaffinity(0))
            with running("infermux", command, cpus=cpus, scratch=scratch, env=environment) as child:
                line = await trio.to_thread.run_sync(partial(wait_for_line, child, seconds=STARTS_WITHIN))
                router = Router(child, int(line.partition("127.0.0.1:")[2].split()[0]))
                load, warming = (Load(router.port, upstreams[0].port, each) for each in (seed, seed + 1))
                await _warm(warming)
                return await _measure(router, upstreams, load, seconds)


async def _measure(router: Router, upstreams: Sequence[OpenAIUpstream], load: Load, seconds: float) -> Soaked:
    before = await _at_rest(router, upstreams)
    samples: list[Sample] = []
    began = trio.current_time()
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(load.run)
            while True:
                await trio.sleep(EVERY)
                samples.append(await router.sample(began))
                router.child.check_alive()
    after = await _settled(router, upstreams, before)
    return Soaked(
        seconds=seconds,
        samples=samples,
        p99s=percentiles(load.times, began, seconds),
        direct=percentiles(load.direct, began, seconds),
        seen=dict(load.seen),
        left={name: after[name] - before[name] for name in before},
    )


async def _warm(load: Load) -> None:
    """Until what is opened once is open, and what keeps the last of something is full."""
    with trio.move_on_after(WARMS_WITHIN):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(load.run)
            while load.seen.total() < WARM_UP:  # noqa: ASYNC110 - callers only count
                await trio.sleep(EVERY)
            nursery.cancel_scope.cancel()


async def _at_rest(router: Router, upstreams: Sequence[OpenAIUpstream]) -> dict[str, int]:
    """Of the router's descriptors those are left out that are connections to upstreams, kept for the next request."""
    status = await router.status()
    kept = sum(upstream.open_connections for upstream in upstreams)
    return {"requests": status["in_flight"], "tasks": status["tasks"], "descriptors": router.descriptors - kept}


async def _settled(router: Router, upstreams: Sequence[OpenAIUpstream], before: dict[str, int]) -> dict[str, int]:
    """As `_at_rest`, once it is as it was before the load, or has had the time for it."""
    deadline = trio.current_time() + SETTLES_WITHIN
    while True:
        after = await _at_rest(router, upstreams)
        if all(after[name] <= before[name] for name in before) or trio.current_time() > deadline:
            return after
        await trio.sleep(0.2)


def curves(found: Soaked) -> str:
    """The plot."""
    line = found.slope
    kept = warm(found.samples)
    fitted = [(kept[0].at, line.start), (kept[-1].at, line.start + line.grown)]
    title = f"{found.seconds / 60:g} minutes of mixed traffic and faults: {line.per_hour:+.2f} MiB an hour"
    resident = [(each.at, each.resident) for each in found.samples]
    memory = [Line("measured", "#4477aa", resident), Line("its slope", "#cc6677", fitted)]
    p99s = [(at, value * 1000) for at, value in found.p99s]
    left = [
        Line("tasks", "#228833", [(each.at, each.tasks) for each in found.samples]),
        Line("descriptors", "#aa3377", [(each.at, each.descriptors) for each in found.samples]),
    ]
    direct = [(at, value * 1000) for at, value in found.direct]
    times = [Line("99th percentile", "#4477aa", p99s), Line("without the router", "#bbbbbb", direct)]
    panels = [
        Panel(name="resident memory, MiB", lines=memory, from_zero=False),
        Panel(name="a whole answer, milliseconds", lines=times),
        Panel(name="open", lines=left),
    ]
    return plot(title, panels, found.seconds)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1200.0, help="default 1200")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plot", type=Path, help="where the curves go; bench/results/soak.svg after ten minutes")
    given = parser.parse_args()
    found = trio.run(soak, given.seconds, given.seed)
    print(found)
    path = given.plot or (RESULTS / "soak.svg" if given.seconds >= 600 else None)
    if path is not None:
        path.write_text(curves(found))
        print(f"the curves are in {path}")
    wrong = found.wrong()
    print("\n".join(f"WRONG: {each}" for each in wrong) or "as it must be")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
