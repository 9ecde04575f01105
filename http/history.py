"""How the providers did in the last ten minutes, in steps of five seconds: what the dashboard draws."""

from __future__ import annotations

from collections import deque
from typing import Any

import attrs
import trio

from infermux.actors.fleet import Fleet
from infermux.actors.record import Record, Tried

STEP = 5.0
STEPS = 120


class Step:
    """The attempts of one provider that ended within one step."""

    __slots__ = ("failed", "first", "firsts", "latency", "number", "ok")

    def __init__(self, number: int) -> None:
        self.number = number
        self.ok = self.failed = self.firsts = 0
        self.latency = self.first = 0.0

    def note(self, tried: Tried) -> None:
        if tried.outcome != "ok":
            self.failed += 1
            return
        self.ok += 1
        self.latency += tried.ended - tried.started
        if tried.first_token is not None:
            self.firsts += 1
            self.first += tried.first_token - tried.started

    def shown(self) -> list[float | None]:
        """Its number, attempts that went well and that failed, average seconds of an answer and to its first token."""
        latency = round(self.latency / self.ok, 4) if self.ok else None
        first = round(self.first / self.firsts, 4) if self.firsts else None
        return [self.number, self.ok, self.failed, latency, first]


@attrs.define(eq=False)
class History:
    """A listener of the journal: `note` is called for each record. Attempts that were given up say nothing."""

    fleet: Fleet
    _steps: dict[str, deque[Step]] = attrs.field(factory=dict[str, "deque[Step]"])

    def note(self, record: Record) -> None:
        number = int(self.fleet.now() / STEP)
        for tried in record.attempts:
            if tried.outcome != "cancelled":
                self._step(tried.provider, number).note(tried)

    def _step(self, provider: str, number: int) -> Step:
        steps = self._steps.get(provider)
        if steps is None:
            self._forget()
            steps = self._steps[provider] = deque(maxlen=STEPS)
        if not steps or steps[-1].number != number:
            steps.append(Step(number))
        return steps[-1]

    def _forget(self) -> None:
        """Providers that are gone, before another one comes."""
        for name in self._steps.keys() - self.fleet.members.keys():
            del self._steps[name]

    def shown(self, last: int = STEPS) -> dict[str, Any]:
        """Of each provider the steps in which something ended, among the `last` ones; `now` is the one under way."""
        now = int(trio.current_time() / STEP)
        return {
            "seconds": STEP,
            "steps": STEPS,
            "now": now,
            "providers": {
                name: [step.shown() for step in self._steps.get(name, ()) if now - step.number < last]
                for name in self.fleet.members
            },
        }
