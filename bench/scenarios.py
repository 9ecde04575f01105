"""The scenarios that all fronts can take part in: what is asked of them is one provider that answers."""

from __future__ import annotations

from collections.abc import Mapping

from infermux.bench.load import Load
from infermux.bench.scenario import Scenario
from infermux.bench.scenario_file import shipped

QUICK = 1.0  # seconds of a round


SCENARIOS: Mapping[str, Scenario] = {
    name: each for name, each in shipped().items() if each.is_plain and each.api == "chat"
}
USUAL = ("whole-16", "stream-16", "stream-16-aligned", "streams-1000", "streams-5000", "open-500")


def round_load(scenario: Scenario, *, quick: bool) -> Load:
    """One round of it; a quick one is still as long as its callers take to join."""
    return scenario.load(seconds=max(QUICK, 1.1 * scenario.stagger) if quick else None)
