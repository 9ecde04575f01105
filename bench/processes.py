"""What a provider process costs the router, beside a provider over HTTP: CPU per request and per event, in one run.

Both adapters run in this process, in turns, against one mock in another that answers the same over either wire. What is
timed is the CPU time of this thread from `send` to the end of the answer: connection, request, answer, and reading it
for usage and finish reason. Routing and the caller's side, which are the same for both, are left out, so the ratio is
above that of a whole request.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs
import msgspec
import trio

from infermux.bench.figures import Spread
from infermux.bench.machine import Placement, pinned
from infermux.bench.report import aligned
from infermux.config.settings import ProviderSettings
from infermux.providers.interface import Adapter, Answer, Call, Endpoint
from infermux.providers.openai import make
from infermux.providers.process.adapter import Process

from .tools import ROOT

CALLERS = 16
GOAL = 2.0
PROMPT = "Some words of a prompt, as many as a short conversation has. " * 24


@attrs.frozen(kw_only=True)
class Way:
    """`tokens` None: whole answers, one after another; else streams of so many, `interval_ms` apart."""

    name: str
    title: str
    unit: str
    tokens: int | None
    interval_ms: float = 20.0


WAYS = (
    Way(name="process-whole-16", title="16 callers, whole answers of 1.5 KB", unit="request", tokens=None),
    Way(name="process-stream-16", title="16 callers, streams of 50 tokens 20 ms apart", unit="event", tokens=50),
)


@attrs.frozen(kw_only=True)
class Cost:
    """CPU microseconds per unit over HTTP and of a process; `ratio` round by round."""

    way: Way
    http: Spread
    process: Spread
    ratio: Spread


@attrs.define(eq=False)
class _Listening:
    """A `Place` that somebody else keeps."""

    path: Path
    generation: int = 1
    settled: bool = False

    def retry(self) -> None:
        """It is never away."""

    async def ready(self) -> Path:
        await trio.lowlevel.checkpoint()
        return self.path

    async def changed(self) -> None:
        await trio.sleep_forever()

    async def run(self) -> None:
        await trio.sleep_forever()

    def statistics(self) -> Mapping[str, object]:
        return {}


def measure(*, rounds: int = 9, seconds: float = 1.5, cpus: Placement) -> list[Cost]:
    """Every way in turns. Runs trio loops of its own."""
    return [_measure(way, rounds, seconds, cpus) for way in WAYS]


def _measure(way: Way, rounds: int, seconds: float, cpus: Placement) -> Cost:
    with _mock(way, cpus) as (port, path), pinned(cpus.gateway):
        found = trio.run(_rounds, way, rounds, seconds, port, path)
    http, process = ([figures[name] for figures in found] for name in ("http", "process"))
    ratios = [own / base for own, base in zip(process, http, strict=True)]
    return Cost(way=way, http=_spread(http), process=_spread(process), ratio=_spread(ratios))


@contextmanager
def _mock(way: Way, cpus: Placement) -> Generator[tuple[int, Path]]:
    command = [sys.executable, "-m", "bench.processes_mock", "--tokens", str(way.tokens or 0)]
    command += ["--interval-ms", str(way.interval_ms)]
    with pinned(cpus.others):
        child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with child:
        assert child.stdout is not None
        assert child.stdin is not None
        port, path = child.stdout.readline().split()
        try:
            yield int(port), Path(path)
        finally:
            child.stdin.close()


async def _rounds(way: Way, rounds: int, seconds: float, port: int, path: Path) -> list[dict[str, float]]:
    http = ProviderSettings(name="http", type="openai", base_url=f"http://127.0.0.1:{port}/v1")
    process = ProviderSettings(name="process", type="process", command=("bench",))
    adapters: dict[str, Adapter] = {"http": make(http, environ={}), "process": Process(process, _Listening(path))}
    for adapter in adapters.values():
        await _one_round(adapter, way, 0.5)
    found = [{name: await _one_round(each, way, seconds) for name, each in adapters.items()} for _ in range(rounds)]
    for adapter in adapters.values():
        await adapter.aclose()
    return found


async def _one_round(adapter: Adapter, way: Way, seconds: float) -> float:
    """CPU microseconds per unit."""
    units = [0] * CALLERS
    call = _call(stream=way.tokens is not None)
    until = trio.current_time() + seconds

    async def caller(number: int) -> None:
        await trio.sleep(number * way.interval_ms / 1000 / CALLERS)  # so that each event is a wake-up
        while trio.current_time() < until:
            units[number] += await _asked(adapter, call)

    before = time.thread_time_ns()
    async with trio.open_nursery() as nursery:
        for number in range(CALLERS):
            nursery.start_soon(caller, number)
    return (time.thread_time_ns() - before) / 1000 / sum(units)


async def _asked(adapter: Adapter, call: Call) -> int:
    """One answer; the events in it, 1 of a whole one. A broken one raises."""
    answer = await adapter.send(call)
    if isinstance(answer, Answer):
        return 1
    events = 0
    try:
        while (data := await answer.receive()) is not None:
            events += data.count(b"\n\n")
    finally:
        answer.close()
    assert answer.usage is not None
    return events


def _call(*, stream: bool) -> Call:
    body = msgspec.json.encode({"model": "bench", "messages": [{"role": "user", "content": PROMPT}], "stream": stream})
    return Call(endpoint=Endpoint.CHAT, body=body, model="bench", requested_model="bench", stream=stream)


def _spread(values: Sequence[float]) -> Spread:
    found = Spread.of(values)
    assert found is not None
    return found


def failed(costs: Sequence[Cost]) -> bool:
    """Whether a process costs more than it may."""
    return any(cost.ratio.median > GOAL for cost in costs)


def markdown(costs: Sequence[Cost]) -> str:
    table = [["scenario", "CPU µs over HTTP", "CPU µs of a process", f"ratio (at most {GOAL:g})"]]
    table += [
        [
            f"{cost.way.name}: {cost.way.title}, per {cost.way.unit}",
            cost.http.text(1),
            cost.process.text(1),
            cost.ratio.text(2),
        ]
        for cost in costs
    ]
    title = "### processes: a provider process beside a provider over HTTP, on the router's side"
    return "\n".join([title, "", *aligned(table), ""])


if __name__ == "__main__":
    from infermux.bench.machine import describe, placement

    measured = measure(cpus=placement())
    print(markdown(measured))
    print(f"load average {describe()['load_average']}")
    sys.exit(failed(measured))
