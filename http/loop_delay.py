"""How late the event loop comes: what every other request waits for too."""

from __future__ import annotations

from collections import deque

import attrs
import trio

LOOK_EVERY = 1.0  # seconds
REMEMBERED = 60.0  # seconds


@attrs.define(eq=False)
class LoopDelay:
    """`run` wakes up at set times for as long as it is let, and notes by how many seconds it was late: `last`."""

    last: float = 0.0
    _seen: deque[tuple[float, float]] = attrs.field(
        factory=lambda: deque[tuple[float, float]](maxlen=int(REMEMBERED / LOOK_EVERY))
    )

    async def run(self) -> None:
        while True:
            due = trio.current_time() + LOOK_EVERY
            await trio.sleep_until(due)
            self.note(trio.current_time(), due)

    def note(self, now: float, due: float) -> None:
        self.last = max(0.0, now - due)
        self._seen.append((now, self.last))

    def longest(self, now: float) -> float:
        """The longest delay of the last minute."""
        return max((delay for at, delay in self._seen if now - at <= REMEMBERED), default=0.0)
