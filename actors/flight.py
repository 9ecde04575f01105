"""A request under way that others, which ask exactly the same, wait for."""

from __future__ import annotations

import math
from typing import Generic, TypeVar

import attrs
import trio

HELD_UP: float = 2.0  # seconds for which a leader's own caller may read nothing of a stream before nobody waits on
LOOK_EVERY: float = 0.5

Found = TypeVar("Found")


@attrs.define(eq=False)
class Flight(Generic[Found]):
    """One leader and those who follow it. `land` once, or `close`; what comes first counts, the rest does nothing.

    `answer` is there when it has landed. `too_large`: it will not land, and who asks the same need not wait for others.
    """

    answer: Found | None = None
    too_large: bool = False
    held_since: float = math.inf
    _ended: trio.Event = attrs.field(factory=trio.Event)

    @property
    def is_over(self) -> bool:
        return self._ended.is_set()

    def land(self, answer: Found) -> None:
        """Here is the answer, for everybody."""
        if not self.is_over:
            self.answer = answer
            self._ended.set()

    def close(self, *, too_large: bool = False) -> None:
        """There will be no answer for the others: it failed, its caller left, or it is too large to be kept."""
        if not self.is_over:
            self.too_large = too_large
            self._ended.set()

    async def over(self) -> None:
        """Return when it is over, or hangs on a caller that reads nothing: then it is closed for everybody."""
        while not self.is_over:
            with trio.move_on_after(LOOK_EVERY):
                await self._ended.wait()
            if trio.current_time() - self.held_since > HELD_UP:
                self.close()
