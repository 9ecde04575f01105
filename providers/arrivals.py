"""What arrives for all the streams that are on their way, handed on where trio's loop would wait: no task is woken.

A task that waits for a socket costs its descriptor armed anew, a pass of the loop and a walk down the task's stack each
time something comes: several times what handing on an event takes. Here each descriptor is registered once, for as long
as its stream lasts, in an epoll of our own. An instrument of trio's waits on it in the loop's place: it calls back for
each descriptor that has something, and lets the loop go on as soon as that has anything to do, which it sees by the
loop's own epoll being registered too. That one is not public: where it is not found, nobody can be added.

Connections that are read by their tasks stay registered here as well (`keep`), so that a wait costs no more than the
task's pause: see `readiness`.
"""

from __future__ import annotations

import logging
import os
import select
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Sized
from contextlib import suppress
from time import perf_counter
from typing import Any, Final

import trio

from .readiness import Readiness

log = logging.getLogger("infermux.providers")

BURST: Final = 64
"""Descriptors that are looked after before the loop gets its turn, if it has something to do."""

# Where there is no epoll nothing is registered, and these are not used.
_DATA: Final[int] = getattr(select, "EPOLLIN", 0)
_KEPT: Final[int] = _DATA | getattr(select, "EPOLLRDHUP", 0) | getattr(select, "EPOLLET", 0)
_ONCE: Final[int] = _DATA | getattr(select, "EPOLLONESHOT", 0)
_RUNNING: Final[trio.lowlevel.RunVar[Arrivals | None]] = trio.lowlevel.RunVar("arrivals", None)

OnArrival = Callable[[float], object]
"""Told the time, on trio's clock. It may wake tasks, in any way."""


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
    """Calls whoever is added each time its descriptor is readable, until it is removed; wakes who waits for one kept.

    What is called must not wait, and must not raise. It is called by the loop itself, between tasks. `run` is to be
    running; otherwise, where another one runs already, and where the system has no epoll or the clock is not the
    system's, nobody can be added and nothing kept.
    """

    __slots__ = ("_calls", "_epoll", "_is_asked", "_kept", "_loop")

    def __init__(self) -> None:
        self._calls: dict[int, OnArrival] = {}
        self._kept: dict[int, Readiness] = {}
        self._epoll: select.epoll | None = None
        self._loop: _Loop | None = None
        self._is_asked = False  # whether it is among trio's instruments

    def __repr__(self) -> str:
        return f"Arrivals({len(self._calls)} streams)"

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, descriptor: int, call: OnArrival) -> bool:
        """Have `call` called when something is there, soon if it is already. False: it will not be."""
        if self._epoll is None:
            return False
        if descriptor in self._kept:
            self._epoll.modify(descriptor, select.EPOLLIN)
        else:
            self._epoll.register(descriptor, select.EPOLLIN)
        self._calls[descriptor] = call
        self._be_asked()
        return True

    def remove(self, descriptor: int) -> None:
        """No call any more; before the descriptor can be another's. Nothing when it is not there."""
        if self._calls.pop(descriptor, None) is None or self._epoll is None:
            return
        kept = self._kept.get(descriptor)
        with suppress(OSError):  # it was closed, by what has found its connection broken
            if kept is None:
                self._epoll.unregister(descriptor)
            else:
                self._epoll.modify(descriptor, _KEPT)  # which tells of what is there already
        self._be_asked()

    def keep(self, descriptor: int) -> Readiness | None:
        """Look after a socket until `drop`, for who reads from it and waits; None: that is not done here.

        Only for streams of TCP: a short read must mean that there is no more.
        """
        if self._epoll is None:
            return None
        self._epoll.register(descriptor, _KEPT)
        kept = self._kept[descriptor] = Readiness()
        self._be_asked()
        return kept

    def drop(self, descriptor: int) -> None:
        """The opposite of `keep`, before the descriptor is closed. Who waits is interrupted, no call of `add` left."""
        kept = self._kept.pop(descriptor, None)
        if kept is None:
            return
        kept.is_over = True
        kept.interrupt()
        self._calls.pop(descriptor, None)
        if self._epoll is not None:
            with suppress(OSError):
                self._epoll.unregister(descriptor)
        self._be_asked()

    def interrupt(self, descriptor: int) -> None:
        """Who waits for it gets ClosedResourceError."""
        kept = self._kept.get(descriptor)
        if kept is not None:
            kept.interrupt()

    async def run(self) -> None:
        """Until cancelled."""
        loop = None if _RUNNING.get() is not None else _Loop.found()
        if loop is None:
            return
        with select.epoll() as epoll, loop:
            epoll.register(loop.descriptor, select.EPOLLIN)
            self._loop, self._epoll = loop, epoll
            _RUNNING.set(self)
            try:
                await trio.sleep_forever()
            finally:
                _RUNNING.set(None)
                for descriptor in list(self._calls):
                    self.remove(descriptor)
                kept, self._kept = self._kept, {}
                for each in kept.values():
                    each.end()
                self._epoll = None
                self._be_asked()

    def be_last(self) -> None:
        """Be asked after the other instruments of trio: they see a step end before this one waits."""
        if self._is_asked:
            trio.lowlevel.remove_instrument(self)
            trio.lowlevel.add_instrument(self)

    def _be_asked(self) -> None:
        """Be an instrument while there is something to look after."""
        wanted = bool(self._calls or self._kept)
        if wanted is self._is_asked:
            return
        self._is_asked = wanted
        if wanted:
            trio.lowlevel.add_instrument(self)
        else:
            trio.lowlevel.remove_instrument(self)

    def before_io_wait(self, timeout: float) -> None:
        """Called by trio when it is about to wait for `timeout` seconds: hand on what comes in its place."""
        if not timeout:
            self._look(0)
            return
        loop = self._loop
        assert loop is not None
        tasks = loop.tasks
        until = perf_counter() + timeout
        while not self._look(timeout):
            timeout = until - perf_counter()
            if tasks or timeout <= 0 or not self._is_asked:
                loop.go_on()  # it would wait for as long as it meant to before
                return

    def _look(self, timeout: float) -> bool:
        """Wait once, and call: whether there is something that the loop waits for."""
        epoll, loop = self._epoll, self._loop
        assert epoll is not None
        assert loop is not None
        loop_is_ready = False
        now = 0.0
        calls = self._calls
        for descriptor, flags in epoll.poll(timeout, BURST):
            call = calls.get(descriptor)
            if call is None:  # who was called before may have removed it
                readiness = self._kept.get(descriptor)
                if readiness is None:
                    loop_is_ready = loop_is_ready or descriptor == loop.descriptor
                else:
                    readiness.arrived(ended=flags != _DATA)
                continue
            now = now or loop.time()
            try:
                call(now)
            except Exception:
                log.exception("what comes of a stream cannot be handed on")
                self.remove(descriptor)
        return loop_is_ready


def running() -> Arrivals | None:
    """What looks after arrivals in this run of trio."""
    return _RUNNING.get()


class _Loop:
    """The epoll that trio waits on. `go_on` ends its next wait at once; within a `with` block.

    `tasks` are those that are to run next: while the loop is about to wait, those that were woken since. `time` is
    `trio.current_time` without the way there, which is longer than what it does.
    """

    __slots__ = ("_bell", "_epoll", "descriptor", "tasks", "time")

    def __init__(self, epoll: select.epoll, tasks: Sized) -> None:
        self._epoll = epoll
        self.tasks = tasks
        self.time = trio.lowlevel.current_clock().current_time
        self._bell = -1
        self.descriptor = epoll.fileno()

    @classmethod
    def found(cls) -> _Loop | None:
        """None: there is none that is known, or a clock of tests, which would not go on meanwhile."""
        clock: Any = trio.lowlevel.current_clock()
        if not 0 < clock.deadline_to_sleep_time(clock.current_time() + 1.0) <= 1.0:
            return None
        try:
            from trio._core._run import GLOBAL_RUN_CONTEXT  # pyright: ignore[reportPrivateImportUsage]

            runner: Any = GLOBAL_RUN_CONTEXT.runner
            manager = runner.io_manager
            # What it does not know of it forgets, where it looks for who waits in a dictionary that makes an entry.
            return cls(manager._epoll, runner.runq) if isinstance(manager._registered, defaultdict) else None
        except (ImportError, AttributeError):
            return None

    def __enter__(self) -> None:
        self._bell = os.eventfd(1)  # is never read, so always readable
        self._epoll.register(self._bell, 0)

    def __exit__(self, *_: object) -> None:
        with suppress(OSError, ValueError):
            self._epoll.unregister(self._bell)
        os.close(self._bell)

    def go_on(self) -> None:
        self._epoll.modify(self._bell, _ONCE)
