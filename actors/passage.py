"""A stream's way from its provider to its caller while only bytes are on it: no task is woken for them."""

from __future__ import annotations

from typing import Protocol

import outcome
import trio

from infermux.providers.arrivals import Arrivals, Polled

from .attempt import Attempt, crashed


class Sink(Protocol):
    """Where a stream goes. `send_now` is False when `flush` must be awaited before more is sent."""

    def send_now(self, data: bytes) -> bool: ...
    async def flush(self) -> None: ...


class Passage:
    """Hands on what comes of one stream as it comes, called by who looks after all that arrives.

    The request's own task is in `wait` meanwhile, until it is needed: the stream is over, which `Attempt.next` tells,
    or the sink is to be flushed, which is `is_blocked`. `heard_at` is when something was last handed on, on trio's
    clock.
    """

    __slots__ = (
        "_arrivals",
        "_attempt",
        "_descriptor",
        "_error",
        "_sink",
        "_stream",
        "_task",
        "heard_at",
        "is_blocked",
        "is_open",
    )

    def __init__(self, attempt: Attempt, stream: Polled, sink: Sink, arrivals: Arrivals) -> None:
        self._attempt = attempt
        self._stream = stream
        self._sink = sink
        self._arrivals = arrivals
        self._descriptor = -1
        self._error: Exception | None = None
        self._task: trio.lowlevel.Task | None = None
        self.heard_at = 0.0
        self.is_open = self.is_blocked = False

    def __repr__(self) -> str:
        return f"Passage(descriptor={self._descriptor}, is_open={self.is_open})"

    def open(self) -> None:
        """From now on bytes are handed on; nothing when there is nothing to wait for, or no way to."""
        descriptor = self._stream.descriptor()
        if descriptor is not None and not self._stream.over and self._arrivals.add(descriptor, self._hand_on):
            self.heard_at = trio.current_time()
            self._descriptor = descriptor
            self.is_open, self.is_blocked = True, False

    def close(self) -> None:
        """No more is handed on. Idempotent."""
        if self.is_open:
            self.is_open = False
            self._arrivals.remove(self._descriptor)

    async def wait(self) -> None:
        """Until the task is needed: it is closed then. Cancelled, it stays open. Raises what went wrong on the way."""
        if self.is_open:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        if self._error is not None:
            raise self._error

    def _abort(self, _raise_cancel: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _hand_on(self, now: float) -> bool:
        """True: the request's task goes on."""
        stream = self._stream
        try:
            data = stream.receive_now()
        except Exception as bug:
            self._error = crashed(self._attempt.lease, bug)
            data = b""
        if data:
            self.heard_at = now
            try:
                self.is_blocked = not self._sink.send_now(data)
            except Exception as error:
                self._error = error
        if not (self.is_blocked or stream.over or self._error):
            return False
        self.close()
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task, outcome.Value(None))
        return True
