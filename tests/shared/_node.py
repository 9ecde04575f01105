"""One node as a process: the limits of one provider, shared, under callers that ask for more than there is.

    python -m tests.shared._node URL BOARD PLACE REQUESTS TOKENS CALLERS PAUSE_MS

What it has admitted is in the file BOARD, eight numbers at its PLACE, written with each admission: so it is known to
the last one when the process is killed.
"""

from __future__ import annotations

import mmap
import random
import struct
import sys
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import trio

from infermux.actors.supervisor import Child, Supervisor
from infermux.actors.supplier import SupplierActor, say_farewell
from infermux.actors.supply import Supply
from infermux.secret import Secret
from infermux.shared.client import Redis

RESERVED: Final = 100
NUMBERS: Final = struct.Struct("8q")


@attrs.define(eq=False)
class Counts:
    """What a node tells of itself."""

    asked: int = 0
    requests: int = 0
    tokens: int = 0
    rounds: int = 0
    degraded: int = 1
    nodes: int = 0
    outages: int = 0
    slowest_us: int = 0


class Node:
    def __init__(self, url: str, board: Path, place: int, requests: int, tokens: int) -> None:
        self.shared = Redis(url=Secret(url))
        self.supply = Supply(prefix="test")
        self.counts = Counts()
        self.place = place * NUMBERS.size
        with board.open("r+b") as file:
            self.board = mmap.mmap(file.fileno(), 0)
        limits = self.supply.of_provider("p", lambda: None)
        self.requests, self.tokens = limits.requests(requests), limits.tokens(tokens)

    def tell(self) -> None:
        NUMBERS.pack_into(self.board, self.place, *attrs.astuple(self.counts))

    async def call(self, pause: float) -> None:
        """Ask again and again; what is admitted takes its time and uses less than was reserved."""
        counts = self.counts
        while True:
            await trio.sleep(random.expovariate(1 / pause))
            now = trio.current_time()
            counts.asked += 1
            if self.requests.can_take(1, now) and self.tokens.take(RESERVED, now):
                self.requests.take(1, now)
                used = random.randint(RESERVED // 2, RESERVED)
                counts.requests += 1
                counts.tokens += used
                self.tell()
                self.tokens.settle(RESERVED, used, trio.current_time())

    async def watch(self) -> None:
        while True:
            numbers = self.supply.numbers
            self.counts.rounds, self.counts.outages = numbers.rounds, numbers.outages
            self.counts.degraded, self.counts.nodes = int(self.supply.is_degraded), self.supply.share.of
            self.counts.slowest_us = max(self.counts.slowest_us, int(numbers.slowest * 1e6))
            self.tell()
            await trio.sleep(0.02)

    async def run(self, callers: int, pause: float) -> None:
        supervisor = Supervisor(intensity=None)
        async with trio.open_nursery() as nursery:
            await nursery.start(supervisor.run)
            actor = partial(SupplierActor, supply=self.supply, shared=self.shared)
            await supervisor.start_child(Child("supplier", actor))
            nursery.start_soon(self.watch)
            await trio.to_thread.run_sync(sys.stdin.readline)  # everybody is there
            async with trio.open_nursery() as calls:
                for _ in range(callers):
                    calls.start_soon(self.call, pause)
                await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
                calls.cancel_scope.cancel()
            await say_farewell(self.supply, self.shared)
            nursery.cancel_scope.cancel()


async def main(url: str, board: str, *numbers: str) -> None:
    place, requests, tokens, callers, pause = map(int, numbers)
    await Node(url, Path(board), place, requests, tokens).run(callers, pause / 1000)


if __name__ == "__main__":
    trio.run(partial(main, sys.argv[1], sys.argv[2], *sys.argv[3:]))
