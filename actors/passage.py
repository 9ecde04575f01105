"""A stream's way from its provider to its caller while only bytes are on it: no task is woken for them."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final, Protocol

import trio

from infermux.providers.arrivals import Arrivals, Polled

from .alarms import Alarms
from .attempt import Attempt, crashed
from .caller import Caller

SLACK: Final = 0.25
"""Seconds by which silence may be found late, at most."""


class Sink(Protocol):
    """Where a stream goes. `send_now` is False when `flush` must be awaited before more is sent."""

    def send_now(self, data: bytes) -> bool: ...
    async def flush(self) -> None: ...


class Passage:
    """Hands on what comes of one stream as it comes, called by who looks after all that arrives.

    The request's own task is in `wait` meanwhile, until it is needed: the stream is over, which `Attempt.next` tells;
    the sink is to be flushed, which is `is_blocked`; something went wrong on the way, which is `error`; or the stream
    ended before its time, which is `is_cut`: its caller left, its lease was revoked, it was silent for too long, or its
    last moment has come. No cancel scope is needed for that, which thousands of streams would have one each of.
    """

    __slots__ = (
        "_alarms",
        "_arrivals",
        "_attempt",
        "_caller",
        "_descriptor",
        "_heard_at",
        "_sink",
        "_stream",
        "_task",
        "error",
        "is_blocked",
        "is_cut",
        "is_open",
    )

    def __init__(
        self, attempt: Attempt, stream: Polled, sink: Sink, caller: Caller, *, arrivals: Arrivals, alarms: Alarms
    ) -> None:
        self._attempt = attempt
        self._stream = stream
        self._sink = sink
        self._caller = caller
        self._arrivals = arrivals
        self._alarms = alarms
        self._descriptor = -1
        self._task: trio.lowlevel.Task | None = None
        self._heard_at = 0.0
        self.error: Exception | None = None
        self.is_open = self.is_blocked = self.is_cut = False

    def __repr__(self) -> str:
        return f"Passage(descriptor={self._descriptor}, is_open={self.is_open})"

    def begin(self) -> None:
        """Send what was held back, and open. Without any, what has come may be where polling does not tell of it."""
        attempt = self._attempt
        held, attempt.held = attempt.held, b""
        if held:
            self.is_blocked = not self._sink.send_now(held)
            if not self.is_blocked:
                self.open()

    def open(self) -> bool:
        """From now on bytes are handed on; False when there is nothing to wait for, or no way to."""
        descriptor = self._stream.descriptor()
        if descriptor is None or self._stream.over or not self._arrivals.add(descriptor, self._hand_on):
            return False
        self._heard_at = trio.current_time()
        self._descriptor = descriptor
        self.is_open, self.is_blocked = True, False
        self._alarms.add(self, self._look_at())
        self._caller.watch(self)  # this one and the next may cut it at once
        self._attempt.lease.run_in(self)
        return True

    @property
    def is_over(self) -> bool:
        """Whether the stream's end, or what is left until there, is to be had without a wait."""
        return self._stream.over and not (self.is_open or self.is_blocked)

    def close(self) -> None:
        """No more is handed on. Idempotent."""
        if self.is_open:
            self.is_open = False
            self._arrivals.remove(self._descriptor)
            self._alarms.remove(self)

    def wait(self) -> Awaitable[object]:
        """Until the task is needed: it is closed then. Cancelled, it stays open. To be awaited at once, while open."""
        self._task = trio.lowlevel.current_task()
        return trio.lowlevel.wait_task_rescheduled(self._abort)  # noqa: ASYNC105 - a frame less, for as long as it lasts

    def _abort(self, _raise_cancel: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED

    def cancel(self) -> None:
        """Cut it, if there is a reason. The alarm may come before its time: it was set when less had been heard."""
        if not self.is_open:
            return
        lease = self._attempt.lease
        if self._caller.left or lease.revoked is not None or trio.current_time() >= self._silent_at():
            self.is_cut = True
            self._end()
        else:
            self._alarms.add(self, self._look_at())

    def _silent_at(self) -> float:
        attempt = self._attempt
        return min(self._heard_at + attempt.lease.settings.timeouts.idle, attempt.last_moment)

    def _look_at(self) -> float:
        """When it is silent, unless something comes; a little later, so that one look is for many streams."""
        slack = min(SLACK, self._attempt.lease.settings.timeouts.idle / 20)
        return min((self._silent_at() // slack + 1) * slack, self._attempt.last_moment)

    def _hand_on(self, now: float) -> None:
        stream = self._stream
        try:
            data = stream.receive_now()
        except Exception as bug:
            self.error = crashed(self._attempt.lease, bug)
            data = b""
        if data:
            self._heard_at = now
            try:
                self.is_blocked = not self._sink.send_now(data)
            except Exception as error:
                self.error = error
        if self.is_blocked or stream.over or self.error:
            self._end()

    def _end(self) -> None:
        self.close()
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task)
