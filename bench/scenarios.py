"""The scenarios that all fronts can take part in: what is asked of them is one provider that answers."""

from __future__ import annotations

from collections.abc import Mapping

from infermux.bench.load import Load
from infermux.bench.scenario import Scenario, Server
from infermux.bench.scenario_file import shipped

QUICK = 1.0  # seconds of a round


def _for_all(scenario: Scenario) -> bool:
    plain = Server(
        interval=scenario.server.interval,
        first_token=scenario.server.first_token,
        answer_after=scenario.server.answer_after,
    )
    return scenario.api == "chat" and scenario.server == plain


SCENARIOS: Mapping[str, Scenario] = {name: each for name, each in shipped().items() if _for_all(each)}
USUAL = ("whole-16", "stream-16", "stream-16-aligned", "streams-1000", "open-500")


def round_load(scenario: Scenario, *, quick: bool) -> Load:
    """One round of it."""
    return scenario.load(seconds=QUICK if quick else None)
