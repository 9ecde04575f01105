"""The simulated end of a simulation: providers that answer at a pace, with jitter, and fail when they are told to."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import attrs
import trio

from infermux.config.settings import ProviderSettings
from infermux.providers.simulated import Simulated
from infermux.providers.simulated_script import NORMAL, Script, Step, parse_script

from .faults import Fault, Pace

JITTER = 0.25  # sigma of the log-normal factor on each answer's pace: its 99th percentile is 1.8 times its median
TOKENS_PER_EVENT = 32  # of a stream: what is simulated is the router, and events one by one only take longer


class FaultySteps:
    """What each request meets: a fault that is on, else the settings' own script, else a normal answer with jitter."""

    def __init__(self, settings: ProviderSettings, pace: Pace, faults: Sequence[Fault], seed: int) -> None:
        self._script: Script = parse_script(settings.simulate.script)
        self._failure_rate = settings.simulate.failure_rate
        self._pace = pace
        self._faults = tuple(fault for fault in faults if fault.provider == settings.name)
        # Of strings and the like `random` takes a hash of its own, the same in every process.
        self._random = random.Random(f"{seed} {settings.name}")

    def next_step(self, elapsed: float) -> Step:
        step, slow = self._now(self._script.next_step(elapsed))
        if step is NORMAL and self._random.random() < self._failure_rate:
            return Step(status=500, message="a simulated failure (failure_rate)")
        return self._paced(step, slow * math.exp(self._random.gauss(0.0, JITTER)))

    def standing(self, elapsed: float) -> Step:
        step, slow = self._now(self._script.standing(elapsed))
        return self._paced(step, slow)

    def _now(self, step: Step) -> tuple[Step, float]:
        """Faults are told in time of the simulation, not of the provider: one that is added later knows them too."""
        slow = 1.0
        now = trio.current_time()
        for fault in self._faults:
            if fault.is_on(now):
                step, slow = (fault.step, slow) if fault.slow == 1.0 else (step, slow * fault.slow)
        return step, slow

    def _paced(self, step: Step, stretch: float) -> Step:
        first = self._pace.first_token if step.first_token is None else step.first_token
        rate = self._pace.tokens_per_second if step.tokens_per_second is None else step.tokens_per_second
        return attrs.evolve(step, first_token=first * stretch, tokens_per_second=rate / stretch)


def simulated(settings: ProviderSettings, pace: Pace, faults: Sequence[Fault], seed: int) -> Simulated:
    """The adapter that takes the place of a provider's own."""
    steps = FaultySteps(settings, pace, faults, seed)
    return Simulated(settings, steps=steps, tokens_per_event=TOKENS_PER_EVENT)
