"""Time as the event loop has it: what is to come within 100 ms is not late where the machine was busy with others."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

TURN = 0.002  # seconds


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
