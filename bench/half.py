"""The scenario `open-half`: a constant rate of half of what LiteLLM's proxy holds on this machine, measured first.

So all peers are asked at a rate that none of them has difficulty with, and what is left is what each adds.
"""

from __future__ import annotations

from pathlib import Path

import attrs

from infermux.bench.machine import Placement
from infermux.bench.scenario import Scenario

from .peers import litellm
from .report import rows
from .rounds import Say, run_scenario
from .scenarios import SCENARIOS

NAME = "open-half"
WITHOUT = 40.0
"""Requests a second where LiteLLM cannot be measured: about half of what it held elsewhere."""
_SECONDS = 4.0


def scenario(*, cpus: Placement, scratch: Path, say: Say) -> Scenario:
    """Asks LiteLLM alone, in a closed loop, for a few seconds."""
    closed = attrs.evolve(SCENARIOS["whole-16"], name=f"{NAME}-rate", seconds=_SECONDS)
    outcome = run_scenario(closed, [litellm.FRONT], quick=False, rounds=1, cpus=cpus, scratch=scratch, say=say)
    held = next((row.requests_per_second.median for row in rows(outcome) if row.requests_per_second is not None), None)
    return at(held)


def at(held: float | None) -> Scenario:
    """At half of `held` requests a second; None: LiteLLM did not take part."""
    rate = WITHOUT if held is None else max(1.0, round(held / 2, 1))
    of = "LiteLLM was not there to be measured" if held is None else f"half of the {held:.0f} that LiteLLM held"
    return Scenario(
        name=NAME,
        title=f"{rate:g} requests a second at a constant rate ({of}), open loop",
        callers=64,
        seconds=5.0,
        rate=rate,
    )
