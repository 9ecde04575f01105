"""Whether a socket that stays registered has something to read, and the one task that waits until it has.

trio arms a descriptor anew for each wait: a call of the system, and some of its own code, each time. `Arrivals`
registers it once, edge-triggered: it is told when something comes, and never that something is there still. So what has
come is remembered here, until a read takes all there is. A stream socket that gives less than it was asked for has
given all (epoll(7), "Questions and answers", 9), unless it has ended: then only reading says so, and it counts as
readable for good.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Final

import outcome
import trio


class _GoOn:
    """What a task is woken with: as `outcome.Value(None)`, which is made anew each time."""

    @staticmethod
    def unwrap() -> None:
        pass


_GO_ON: Final[Any] = _GoOn
# Looked up once: these run for every wait.
_current_task = trio.lowlevel.current_task
_reschedule = trio.lowlevel.reschedule
_wait_task_rescheduled = trio.lowlevel.wait_task_rescheduled


class Readiness:
    """Of one descriptor. `is_here`: something may be there to read. `is_over`: nobody looks after it any more."""

    __slots__ = ("_has_ended", "_task", "is_here", "is_over")

    def __init__(self) -> None:
        self.is_here = self.is_over = self._has_ended = False
        self._task: trio.lowlevel.Task | None = None

    def __repr__(self) -> str:
        state = "over" if self.is_over else "here" if self.is_here else "nothing"
        return f"Readiness({state}{', waited for' if self._task is not None else ''})"

    def arrived(self, *, ended: bool = False) -> None:
        """Something has come, `ended`: the end among it. Who waits is woken."""
        self.is_here = True
        if ended:
            self._has_ended = True
        task = self._task
        if task is not None:
            self._task = None
            _reschedule(task, _GO_ON)

    def emptied(self) -> None:
        """All there was has been read."""
        self.is_here = self._has_ended

    def end(self) -> None:
        """Nobody looks after it any more. Who waits goes on, to wait in another way."""
        self.is_over = True
        self.arrived()

    def interrupt(self) -> None:
        """Whoever waits gets ClosedResourceError."""
        task, self._task = self._task, None
        if task is not None:
            _reschedule(task, outcome.Error(trio.ClosedResourceError("another task closed this socket")))

    def wait(self) -> Awaitable[Any]:
        """To be awaited at once, until something has come, or it is over: a function, as a coroutine is a frame more.

        Raises ClosedResourceError; BusyResourceError: another task waits.
        """
        if self._task is not None:
            raise trio.BusyResourceError("another task is reading from this socket already")
        self._task = _current_task()
        return _wait_task_rescheduled(self._abort)

    def _abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED
