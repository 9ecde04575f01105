"""The time limits of attempts that do without a cancel scope: one task for all of them.

To begin an attempt and to end it touches a dictionary and nothing else. The task sleeps until the first limit that it
knows of is over, finds that attempt gone, mostly, and looks through those that run then: that is once in the length of
a time limit, not once a request.
"""

from __future__ import annotations

import math

import attrs
import trio

from infermux.providers.transport import Stoppable


@attrs.define(eq=False)
class Alarms:
    """`add` has something cancelled at a time on trio's clock, unless `remove` comes before. `run` is its task."""

    _limits: dict[Stoppable, float] = attrs.field(factory=dict[Stoppable, float])
    _looks_at: float = math.inf
    _sooner: trio.Event = attrs.field(factory=trio.Event)

    def __len__(self) -> int:
        return len(self._limits)

    def add(self, what: Stoppable, at: float) -> None:
        """Cancel `what` at that time."""
        self._limits[what] = at
        if at < self._looks_at:
            self._sooner.set()

    def remove(self, what: Stoppable) -> None:
        """It has ended."""
        del self._limits[what]

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._sooner = trio.Event()
            self._looks_at = min(self._limits.values(), default=math.inf)
            with trio.CancelScope(deadline=self._looks_at):
                await self._sooner.wait()
            now = trio.current_time()
            for what in [what for what, at in self._limits.items() if at <= now]:
                self._limits[what] = math.inf  # before it is told: it may ask for another time
                what.cancel()
