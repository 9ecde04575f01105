"""What arrives for all the streams that are on their way, handed on where trio's loop would wait: no task is woken.

A task that waits for a socket costs its descriptor armed anew, a pass of the loop and a walk down the task's stack each
time something comes: several times what handing on an event takes. Here each descriptor is registered once, for as long
as its stream lasts, in an epoll of our own. An instrument of trio's waits on it in the loop's place: it calls back for
each descriptor that has something, and lets the loop go on as soon as that has anything to do, which it sees by the
loop's own epoll being registered too. That one is not public: where it is not found, nobody can be added.
"""

from __future__ import annotations

import logging
import select
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter
from typing import Any, Final

import trio

log = logging.getLogger("infermux.providers")

BURST: Final = 64
"""Descriptors that are looked after before the loop gets its turn, if it has something to do."""

OnArrival = Callable[[float], bool]
"""Told the time, on trio's clock; True: a task was woken."""


class Polled(ABC):
    """What comes by a descriptor of the system, and can be taken without waiting. Its `receive` is as ever."""

    __slots__ = ()

    @abstractmethod
    def descriptor(self) -> int | None:
        """It is readable when `receive_now` has something; None: it cannot be polled, or not any more."""

    @abstractmethod
    def receive_now(self) -> bytes:
        """What has come; b"" when there is nothing to hand on. Look at `over` after each call."""

    @property
    @abstractmethod
    def over(self) -> bool:
        """`receive` has what is left, an end or a failure without a wait, or with a moment's for the framing's end."""


def polled(source: object) -> Polled | None:
    """`source`, where it can be polled."""
    return source if isinstance(source, Polled) else None


class Arrivals(trio.abc.Instrument):
    """Calls whoever is added each time its descriptor is readable, until it is removed.

    What is called must not wait, and must not raise. It is called by the loop itself, between tasks. `run` is to be
    running; otherwise, and where the system has no epoll or the clock is not the system's, nobody can be added.
    """

    __slots__ = ("_calls", "_epoll", "_loop", "_token")

    def __init__(self) -> None:
        self._calls: dict[int, OnArrival] = {}
        self._epoll: select.epoll | None = None
        self._loop = -1  # the descriptor of the loop's own epoll
        self._token: trio.lowlevel.TrioToken | None = None

    def __repr__(self) -> str:
        return f"Arrivals({len(self._calls)} streams)"

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, descriptor: int, call: OnArrival) -> bool:
        """Have `call` called when something is there, soon if it is already. False: it will not be."""
        if self._epoll is None:
            return False
        self._epoll.register(descriptor, select.EPOLLIN)
        if not self._calls:  # as the last of the instruments: the others have seen a step end before this one waits
            trio.lowlevel.add_instrument(self)
        self._calls[descriptor] = call
        return True

    def remove(self, descriptor: int) -> None:
        """No call any more; before the descriptor can be another's. Nothing when it is not there."""
        if self._calls.pop(descriptor, None) is None or self._epoll is None:
            return
        with suppress(OSError):  # it was closed, by what has found its connection broken
            self._epoll.unregister(descriptor)
        if not self._calls:
            trio.lowlevel.remove_instrument(self)

    async def run(self) -> None:
        """Until cancelled."""
        loop = _descriptor_of_loop()
        if loop is None:
            return
        self._token = trio.lowlevel.current_trio_token()
        with select.epoll() as epoll:
            epoll.register(loop, select.EPOLLIN)
            self._loop, self._epoll = loop, epoll
            try:
                await trio.sleep_forever()
            finally:
                for descriptor in list(self._calls):
                    self.remove(descriptor)
                self._epoll = None

    def before_io_wait(self, timeout: float) -> None:
        """Called by trio when it is about to wait for `timeout` seconds: hand on what comes in its place."""
        until = perf_counter() + timeout
        while True:
            loop_is_ready, task_was_woken = self._look(timeout)
            if loop_is_ready or not timeout:
                return
            timeout = until - perf_counter()
            if task_was_woken or timeout <= 0 or not self._calls:
                break
        if self._token is not None:
            self._token.run_sync_soon(_go_on, idempotent=True)  # it would wait for as long as it meant to before

    def _look(self, timeout: float) -> tuple[bool, bool]:
        """Wait once, and call: whether the loop has something to do, and whether a task was woken."""
        assert self._epoll is not None
        loop_is_ready = task_was_woken = False
        found = self._epoll.poll(timeout, BURST)
        now = trio.current_time()
        for descriptor, _ in found:
            if descriptor == self._loop:
                loop_is_ready = True
                continue
            call = self._calls.get(descriptor)
            try:
                if call is not None and call(now):  # who was called before may have removed it
                    task_was_woken = True
            except Exception:
                log.exception("what comes of a stream cannot be handed on")
                self.remove(descriptor)
        return loop_is_ready, task_was_woken


def _go_on() -> None:
    """What wakes the loop is being told to call something."""


def _descriptor_of_loop() -> int | None:
    """Of the epoll that trio waits on, if it does so by the system's clock: a test's own would not go on meanwhile."""
    clock: Any = trio.lowlevel.current_clock()
    if not 0 < clock.deadline_to_sleep_time(clock.current_time() + 1.0) <= 1.0:
        return None
    try:
        from trio._core._run import GLOBAL_RUN_CONTEXT  # pyright: ignore[reportPrivateImportUsage]

        manager: Any = GLOBAL_RUN_CONTEXT.runner.io_manager
        return int(manager._epoll.fileno())
    except (ImportError, AttributeError):
        return None
