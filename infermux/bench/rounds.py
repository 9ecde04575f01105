"""Runs a scenario: all targets are up at once and are measured in turns (A B C, A B C, ...).

So a drift of the machine hits all alike.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import attrs

from . import accounting
from .accounting import Tree
from .load import KEY, Load, LoadResult, Progress, Ran, run_load
from .scenario import Scenario
from .upstream import Upstream


@attrs.frozen(kw_only=True)
class Target:
    """What is measured: a base URL, and whose CPU time and memory that costs, None where it cannot be seen.

    `through`: requests go on to the mock, so they can be counted there. `model` None: the scenario's. `rounds`: it
    takes part in no more than these. `settles`: the seconds after a round in which it still works for its requests; CPU
    time is read after them.
    """

    name: str
    url: str
    key: str | None = attrs.field(default=KEY, repr=False)
    model: str | None = None
    tree: Tree | None = None
    through: bool = True
    settles: float = 0.0
    warm_up_seconds: float = 0.5
    rounds: int | None = None


@attrs.frozen(kw_only=True)
class Measurement:
    """One round of one target. `cpu_ns` of its process tree, None where that is not known; memory in KiB.

    `resident` is the most seen during the round, `peak` since the target started. `reached` counts the requests that
    came through to the mock upstream; `load_busy` and `mock_busy` are the shares of a CPU that the tools used.
    `interrupted`: Ctrl-C ended it before its time.
    """

    target: str
    load: LoadResult
    generator: str
    cpu_ns: int | None
    resident: int
    peak: int
    reached: int | None
    load_busy: float
    mock_busy: float | None
    interrupted: bool = False

    def units(self, unit: str) -> int:
        return self.load.events if unit == "event" else self.load.good

    def cpu_us(self, unit: str) -> float | None:
        """CPU microseconds per request or event."""
        if self.cpu_ns is None or not self.units(unit):
            return None
        return self.cpu_ns / 1000 / self.units(unit)


@attrs.frozen(kw_only=True)
class Outcome:
    """All rounds of a scenario. `missing` maps a target that could not take part to the reason."""

    scenario: Scenario
    measurements: tuple[Measurement, ...]
    missing: dict[str, str] = attrs.field(factory=dict[str, str])
    interrupted: bool = False


class Watcher(Protocol):
    """Who is told how it goes; see `progress`."""

    def going(self, what: str, target: str, progress: Progress, *, share: float) -> None:
        """Ten times a second while a round runs; `share` of its time is over."""
        ...

    def measured(self, what: str, measurement: Measurement, unit: str) -> None:
        """A round has ended."""
        ...


@attrs.frozen(kw_only=True)
class Bench:
    """The surroundings of one scenario. `mock` None: the upstream is not ours."""

    scenario: Scenario
    mock: Upstream | None
    cpus: frozenset[int]
    scratch: Path
    watcher: Watcher
    generator: str | None = None

    def run(self, target: Target, load: Load) -> Ran:
        """A run whose figures are dropped."""
        return run_load(
            _aimed(load, target), target.url, cpus=self.cpus, scratch=self.scratch, generator=self.generator
        )

    def measure(self, target: Target, load: Load, round_name: str) -> Measurement:
        """One round. Requests still under way at the end are waited for, so CPU time and requests belong together."""
        what = f"{self.scenario.name} {round_name}"
        seen = [accounting.Memory()]
        if self.mock is not None:
            self.mock.reset()
        begun, before, mock_before = time.monotonic(), _cpu(target.tree), self._mock_cpu()

        def tick(progress: Progress) -> None:
            seen.append(_memory(target.tree))
            share = min(1.0, (time.monotonic() - begun) / load.seconds)
            self.watcher.going(what, target.name, progress, share=share)

        ran = run_load(
            _aimed(load, target),
            target.url,
            cpus=self.cpus,
            scratch=self.scratch,
            generator=self.generator,
            on_tick=tick,
        )
        seen.append(_memory(target.tree))
        seconds = time.monotonic() - begun
        time.sleep(target.settles)
        measurement = Measurement(
            target=target.name,
            load=ran.result,
            generator=ran.generator,
            cpu_ns=_used(before, _cpu(target.tree)),
            resident=max(memory.resident for memory in seen),
            peak=seen[-1].peak,
            reached=None if self.mock is None or not target.through else self.mock.stats().requests,
            load_busy=ran.result.cpu_ns / 1e9 / max(ran.result.seconds, 1e-9),
            mock_busy=_share(mock_before, self._mock_cpu(), seconds),
            interrupted=ran.interrupted,
        )
        self.watcher.measured(what, measurement, self.scenario.unit)
        return measurement

    def _mock_cpu(self) -> int | None:
        return None if self.mock is None else _cpu(self.mock.child.session)


def in_turns(bench: Bench, targets: Sequence[Target], load: Load, *, count: int) -> tuple[list[Measurement], bool]:
    """Every target in every round, and whether Ctrl-C ended it early. Raises GeneratorFailed."""
    found: list[Measurement] = []
    try:
        for target in targets:
            if target.warm_up_seconds and _warmed_up(bench, target, load).interrupted:
                return found, True
        for number in range(count):
            for target in targets:
                if target.rounds is None or number < target.rounds:
                    found.append(bench.measure(target, load, f"{number + 1}/{count}"))
                    if found[-1].interrupted:
                        return found, True
    except KeyboardInterrupt:
        return found, True
    return found, False


def _warmed_up(bench: Bench, target: Target, load: Load) -> Ran:
    return bench.run(target, bench.scenario.warm_up(load, target.warm_up_seconds))


def _aimed(load: Load, target: Target) -> Load:
    return attrs.evolve(load, key=target.key, model=target.model or load.model)


def _cpu(tree: Tree | None) -> int | None:
    return accounting.cpu_ns(tree) if tree is not None and accounting.AVAILABLE else None


def _used(before: int | None, after: int | None) -> int | None:
    """None also where the processes are not those of before: they were started anew meanwhile."""
    return None if before is None or after is None or after < before else after - before


def _share(before: int | None, after: int | None, seconds: float) -> float | None:
    used = _used(before, after)
    return None if used is None else used / 1e9 / seconds


def _memory(tree: Tree | None) -> accounting.Memory:
    return accounting.Memory() if tree is None else accounting.memory(tree)
