"""Time as the event loop has it: what is to come within 100 ms is not late where the machine was busy with others."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import attrs
import trio

TURN: Final = 0.002  # seconds


@attrs.define(eq=False)
class Unhurried(trio.abc.Clock):
    """A clock for a whole run over sockets: it goes on while the loop sleeps, and by a turn at most where it does not.

    What a process that gets no processor misses of real time, its timeouts do not count. For runs in which nobody
    outside has a clock of his own: router, upstreams and callers are in one loop.
    """

    _now: float = 0.0
    _seen: float = attrs.field(factory=time.perf_counter)
    _sleeps: float = 0.0  # how long the loop is about to sleep

    def start_clock(self) -> None:
        self._seen = time.perf_counter()

    def current_time(self) -> float:
        seen = time.perf_counter()
        self._now += min(seen - self._seen, self._sleeps + TURN)
        self._seen, self._sleeps = seen, 0.0
        return self._now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        # What comes wakes it earlier, and by the time of the next look it has slept no longer than that.
        seconds = max(0.0, deadline - self.current_time())
        self._sleeps = seconds
        return seconds


@asynccontextmanager
async def within(seconds: float) -> AsyncGenerator[None]:
    """Fail where the block takes longer than `seconds` in which the loop had its turns.

    A task beside it sleeps for one turn after the other, however late each ends: while the process gets no processor,
    or another test's takes it, this clock hardly goes on. On a quiet machine it goes a tenth slower than others.
    """
    over = False
    async with trio.open_nursery() as nursery:

        async def count() -> None:
            nonlocal over
            for _ in range(math.ceil(seconds / TURN)):
                await trio.sleep(TURN)
            over = True
            nursery.cancel_scope.cancel()

        nursery.start_soon(count)
        yield
        over = False
        nursery.cancel_scope.cancel()
    assert not over, f"it took longer than {seconds:g} s in which nothing held it up"
