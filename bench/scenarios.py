"""The scenarios that put load on a front, as data."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from .load import Load
from .upstream import Pace


@attrs.frozen(kw_only=True)
class Scenario:
    """`unit` is what CPU time is divided by: "request" or "event". `rounds` and `quick_seconds` bound a run."""

    name: str
    title: str
    load: Load
    unit: str = "request"
    pace: Pace = attrs.field(factory=Pace)
    rounds: int = 5
    quick_seconds: float = 1.0

    def round_load(self, *, quick: bool) -> Load:
        return attrs.evolve(self.load, seconds=self.quick_seconds) if quick else self.load

    def warm_up_load(self, seconds: float) -> Load:
        """A run whose figures are dropped: connections opened, code paths taken. A stream of each caller at least."""
        few = min(self.load.connections, 16)
        return attrs.evolve(self.load, connections=few, seconds=max(seconds, 2 * self.load.stagger), rate=0.0)


SCENARIOS: Mapping[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            name="whole-16",
            title="16 connections, 1.5 KB chat, not streamed, closed loop",
            load=Load(connections=16, seconds=3.0),
        ),
        Scenario(
            name="stream-16",
            title="16 callers, streams of 50 tokens 20 ms apart",
            unit="event",
            pace=Pace(tokens=50, interval_ms=20),
            # Callers join over one interval, so that the events of different streams do not fall together: each is
            # a wake-up of the gateway, which is most of what it costs.
            load=Load(stream=True, connections=16, seconds=3.0, stagger=0.02, min_events=50),
        ),
        Scenario(
            name="stream-16-aligned",
            title="the same with all streams in step, so that one wake-up serves many events",
            unit="event",
            pace=Pace(tokens=50, interval_ms=20),
            load=Load(stream=True, connections=16, seconds=3.0, min_events=50),
            rounds=3,
        ),
        Scenario(
            name="streams-1000",
            title="1000 concurrent streams of 40 tokens 100 ms apart",
            unit="event",
            pace=Pace(tokens=40, interval_ms=100),
            load=Load(stream=True, connections=1000, seconds=5.0, stagger=0.5, min_events=40, timeout=20.0),
            rounds=3,
        ),
        Scenario(
            name="open-500",
            title="500 requests a second at a constant rate, open loop",
            load=Load(connections=64, seconds=3.0, rate=500.0),
        ),
    )
}
