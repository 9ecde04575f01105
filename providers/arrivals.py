"""One epoll for all the streams that are on their way: bytes are handed on without waking a task for each.

A task that waits for a socket costs its descriptor armed anew, a switch of tasks and a walk down its stack, each time
something has come: several times what handing on an event takes. Here a descriptor is registered once for as long as
its stream lasts, a single task waits for all of them, and calls back, without waiting, for each that has something.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Final, Protocol, runtime_checkable

import trio

BURST: Final = 64
"""Descriptors that are looked after before other tasks get their turn."""


OnArrival = Callable[[float], None]
"""Is told the time, on trio's clock."""


@runtime_checkable
class Polled(Protocol):
    """What comes by a descriptor of the system, and can be taken without waiting."""

    def descriptor(self) -> int | None:
        """It is readable when `receive_now` has something; None: it cannot be polled, or not any more."""
        ...

    def receive_now(self) -> bytes:
        """What has come; b"" when there is nothing to hand on. Look at `over` after each call."""
        ...

    @property
    def over(self) -> bool:
        """Nothing more is to be waited for: `receive` has an end to tell, or a failure."""
        ...


def polled(source: object) -> Polled | None:
    """`source`, where it can be polled."""
    return source if isinstance(source, Polled) else None


class Arrivals:
    """Calls whoever is added each time its descriptor is readable, until it is removed.

    What is called must not wait, and must not raise. `run` is its task; while that does not run, or where the system
    has no epoll, nobody can be added.
    """

    __slots__ = ("_calls", "_epoll")

    def __init__(self) -> None:
        self._epoll: select.epoll | None = None
        self._calls: dict[int, OnArrival] = {}

    def __repr__(self) -> str:
        return f"Arrivals({len(self._calls)} streams)"

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, descriptor: int, call: OnArrival) -> bool:
        """Have `call` called when something is there, at once if it is already. False: it will not be."""
        if self._epoll is None:
            return False
        self._epoll.register(descriptor, select.EPOLLIN)
        self._calls[descriptor] = call
        return True

    def remove(self, descriptor: int) -> None:
        """No call any more; before the descriptor is closed. Nothing when it is not there."""
        if self._calls.pop(descriptor, None) is not None and self._epoll is not None:
            self._epoll.unregister(descriptor)

    async def run(self) -> None:
        """Until cancelled."""
        if not hasattr(select, "epoll"):
            return
        with select.epoll() as epoll:
            self._epoll = epoll
            try:
                await self._run(epoll)
            finally:
                self._epoll = None
                self._calls.clear()

    async def _run(self, epoll: select.epoll) -> None:
        descriptor, poll, calls = epoll.fileno(), epoll.poll, self._calls
        while True:
            await trio.lowlevel.wait_readable(descriptor)
            now = trio.current_time()
            for found, _ in poll(0, BURST):
                call = calls.get(found)
                if call is not None:  # one that was called before may have removed it
                    call(now)
