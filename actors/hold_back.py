"""How long start-up events are held back: those who hold too long are told, without a timer of their own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import attrs
import trio

HELD_EVENTS = 64  # start-up chunks held back before the commit point, and ...
HELD_BYTES = 256 * 1024  # ... their bytes, and ...
HELD_SECONDS = 2.0  # ... for so long


@attrs.define(eq=False)
class HoldBack:
    """Calls whoever is added `HELD_SECONDS` later, in the order they came. `run` is its task.

    What is called must not raise or wait. It is called in any case: whether it still matters is for it to know.
    """

    _waiting: deque[tuple[float, Callable[[], None]]] = attrs.field(factory=deque[tuple[float, Callable[[], None]]])
    _came: trio.Event = attrs.field(factory=trio.Event)

    def add(self, call: Callable[[], None]) -> None:
        """Have `call` called in two seconds."""
        self._waiting.append((trio.current_time() + HELD_SECONDS, call))
        self._came.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            if not self._waiting:
                self._came = trio.Event()
                await self._came.wait()
            at, call = self._waiting[0]
            await trio.sleep_until(at)
            self._waiting.popleft()
            call()
