"""Fronts in turns: each is started, and then measured as `infermux bench` measures (`infermux.bench.rounds`)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from infermux.bench import rounds
from infermux.bench.load import Load, Progress, local
from infermux.bench.machine import Placement
from infermux.bench.process import DidNotStart
from infermux.bench.progress import measured
from infermux.bench.rounds import Measurement, Outcome, Target
from infermux.bench.scenario import Scenario
from infermux.bench.upstream import Upstream, upstream

from .fronts import Front, RunningFront, started
from .scenarios import round_load

Say = Callable[[str], None]


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
        load = round_load(scenario, quick=quick)
        for front, running in up:
            bench.run(running, scenario.warm_up(load, front.warm_up_seconds))
        count = rounds or (min(3, scenario.rounds) if quick else scenario.rounds)
        for number in range(count):
            for front, running in up:
                if front.rounds is None or number < front.rounds:
                    with front.during(running):
                        found.append(bench.measure(running, load, f"{number + 1}/{count}"))
    return Outcome(scenario=scenario, measurements=tuple(found), missing=missing)


def target_of(running: RunningFront, load: Load) -> Target:
    """A target that leaves what is sent as it is."""
    session = None if running.child is None else running.child.session
    return Target(name=running.name, url=local(running.port), key=load.key, tree=session, settles=running.settles)


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

    def run(self, running: RunningFront, load: Load) -> None:
        """A run whose figures are dropped."""
        asked = running.asks.of(load)
        if self._bench().run(target_of(running, asked), asked).interrupted:
            raise KeyboardInterrupt

    def measure(self, running: RunningFront, load: Load, round_name: str) -> Measurement:
        """One round."""
        asked = running.asks.of(load)
        found = self._bench().measure(target_of(running, asked), asked, round_name)
        if found.interrupted:
            raise KeyboardInterrupt
        return found

    def _bench(self) -> rounds.Bench:
        watcher = _Lines(self.say)
        return rounds.Bench(
            scenario=self.scenario, mock=self.mock, cpus=self.cpus.others, scratch=self.scratch, watcher=watcher
        )


@attrs.frozen
class _Lines:
    """A `Watcher` that says what each round came to."""

    say: Say

    def going(self, what: str, target: str, progress: Progress, *, share: float) -> None:
        """Rounds are short."""

    def measured(self, what: str, measurement: Measurement, unit: str) -> None:
        self.say(measured(what, measurement, unit))
