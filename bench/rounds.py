"""Runs a scenario: all fronts up at once, measured in turns (A B C, A B C, ...).

So a drift of the machine hits all alike.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from . import accounting
from .fronts import Front, RunningFront, started
from .load import Load, LoadResult, run_load
from .machine import Placement
from .process import DidNotStart
from .scenarios import Scenario
from .upstream import Upstream, upstream

Say = Callable[[str], None]


@attrs.frozen(kw_only=True)
class Measurement:
    """One round of one front. `cpu_ns` of the gateway's process tree, None for the upstream itself; memory in KiB.

    `resident` is the most seen during the round, `peak` since the front started. `reached` counts the requests that
    came through to the upstream; `load_busy` and `mock_busy` are the shares of a CPU that the tools used.
    """

    front: str
    load: LoadResult
    cpu_ns: int | None
    resident: int
    peak: int
    reached: int
    load_busy: float
    mock_busy: float

    def units(self, unit: str) -> int:
        return self.load.events if unit == "event" else self.load.good

    def cpu_us(self, unit: str) -> float | None:
        """CPU microseconds per request or event."""
        if self.cpu_ns is None or not self.units(unit):
            return None
        return self.cpu_ns / 1000 / self.units(unit)


@attrs.frozen(kw_only=True)
class Outcome:
    """All rounds of a scenario. `missing` maps a front that could not take part to the reason."""

    scenario: Scenario
    measurements: tuple[Measurement, ...]
    missing: dict[str, str]


def run_scenario(
    scenario: Scenario,
    fronts: Sequence[Front],
    *,
    quick: bool,
    rounds: int | None,
    cpus: Placement,
    scratch: Path,
    say: Say,
) -> Outcome:
    """Every front in every round, in turns. Fronts that cannot start are reported in `missing`."""
    missing: dict[str, str] = {}
    found: list[Measurement] = []
    scratch = scratch / scenario.name
    scratch.mkdir()  # a ledger of its own for those that keep one
    with contextlib.ExitStack() as stack:
        mock = stack.enter_context(upstream(scenario.pace, cpus=cpus.others, scratch=scratch))
        bench = Bench(scenario=scenario, mock=mock, cpus=cpus, scratch=scratch, say=say)
        up = [(front, running) for front in fronts if (running := bench.start(front, stack, missing))]
        for front, running in up:
            bench.warm_up(running, front.warm_up_seconds)
        count = rounds or (min(3, scenario.rounds) if quick else scenario.rounds)
        for number in range(count):
            for front, running in up:
                if front.rounds is None or number < front.rounds:
                    with front.during(running):
                        found.append(bench.measure(running, scenario.round_load(quick=quick), f"{number + 1}/{count}"))
    return Outcome(scenario=scenario, measurements=tuple(found), missing=missing)


@attrs.frozen(kw_only=True)
class Bench:
    """One scenario's mock and surroundings."""

    scenario: Scenario
    mock: Upstream
    cpus: Placement
    scratch: Path
    say: Say

    def start(self, front: Front, stack: contextlib.ExitStack, missing: dict[str, str]) -> RunningFront | None:
        reason = front.missing()
        if reason is None:
            self.say(f"{self.scenario.name}: starting {front.name}")
            try:
                return stack.enter_context(
                    started(front, upstream_port=self.mock.port, cpus=self.cpus.gateway, scratch=self.scratch)
                )
            except DidNotStart as failed:
                reason = str(failed)
        self.say(f"{self.scenario.name}: {front.name} does not take part: {reason}")
        missing[front.name] = reason
        return None

    def warm_up(self, running: RunningFront, seconds: float) -> None:
        self.run(running, self.scenario.warm_up_load(seconds))

    def run(self, running: RunningFront, load: Load) -> None:
        """A run whose figures are dropped."""
        run_load(running.asks.of(load), running.port, cpus=self.cpus.others, scratch=self.scratch)

    def measure(self, running: RunningFront, load: Load, round_name: str) -> Measurement:
        """One round. Requests still under way at the end are waited for, so CPU time and requests belong together."""
        session = running.child.session if running.child else None
        seen = [accounting.Memory()]
        self.mock.reset()
        begun, before, mock_before = time.monotonic(), _cpu(session), _cpu(self.mock.child.session)
        result, load_cpu = run_load(
            running.asks.of(load),
            running.port,
            cpus=self.cpus.others,
            scratch=self.scratch,
            on_tick=lambda: seen.append(_memory(session)),
        )
        seen.append(_memory(session))
        seconds = time.monotonic() - begun
        time.sleep(running.settles)
        measurement = Measurement(
            front=running.name,
            load=result,
            cpu_ns=None if session is None else _cpu(session) - before,
            resident=max(memory.resident for memory in seen),
            peak=seen[-1].peak,
            reached=self.mock.stats().requests,
            load_busy=load_cpu / 1e9 / seconds,
            mock_busy=(_cpu(self.mock.child.session) - mock_before) / 1e9 / seconds,
        )
        self.say(f"{self.scenario.name} {round_name} {_progress(measurement, self.scenario.unit)}")
        return measurement


def _cpu(session: int | None) -> int:
    return 0 if session is None else accounting.cpu_ns(session)


def _memory(session: int | None) -> accounting.Memory:
    return accounting.Memory() if session is None else accounting.memory(session)


def _progress(measurement: Measurement, unit: str) -> str:
    rate = measurement.units(unit) / max(measurement.load.seconds, 1e-9)
    cpu = measurement.cpu_us(unit)
    used = "" if cpu is None else f", {cpu:.1f} µs CPU per {unit}"
    failed = f", {measurement.load.failed} FAILED" if measurement.load.failed else ""
    return f"{measurement.front}: {rate:.0f} {unit}s/s{used}{failed}"
