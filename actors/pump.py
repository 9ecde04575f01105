"""The bytes of a stream on their way to the caller."""

from __future__ import annotations

from typing import Protocol

import trio

from infermux.errors import CallerLeft, UpstreamFailure

from .attempt import Attempt, Caller

BREATHE_EVERY = 16  # chunks that came without a wait before others get their turn


class Sink(Protocol):
    """Where a stream goes. `send_now` is False when `flush` must be awaited before more is sent."""

    def send_now(self, data: bytes) -> bool: ...
    async def flush(self) -> None: ...


async def pump(attempt: Attempt, sink: Sink, caller: Caller) -> UpstreamFailure | None:
    """Send the attempt's bytes to `sink` as they come: None at their genuine end, otherwise why there are no more.

    Raises CallerLeft, DeadlineExceeded for the caller's own deadline, and whatever the sink raises.
    """
    with trio.CancelScope() as scope:
        caller.watch(scope)
        attempt.lease.run_in(scope)
        try:
            await _pump(attempt, sink, scope)
        except UpstreamFailure as failure:
            caller.watch(None)
            return failure.with_traceback(None)
        caller.watch(None)
        return None
    caller.watch(None)
    return _why_stalled(attempt, caller)


async def _pump(attempt: Attempt, sink: Sink, scope: trio.CancelScope) -> None:
    """`scope`, which this runs in, is cancelled when the bytes stall."""
    idle = attempt.lease.settings.timeouts.idle
    # Moving a deadline costs more than reading the clock, so it is moved in steps; it never comes early.
    slack = min(0.25, idle / 20)
    last = attempt.last_moment
    due = scope.deadline = min(trio.current_time() + idle + slack, last)
    held, attempt.held = attempt.held, b""
    chunk: bytes | None = held or await attempt.next()
    count = 0
    while chunk is not None:
        if not sink.send_now(chunk):
            # A slow reader is not the provider's silence: only the sink's own bound and the hard deadline hold.
            scope.deadline = last
            await sink.flush()
            due = scope.deadline = min(trio.current_time() + idle + slack, last)
        count += 1
        if count % BREATHE_EVERY == 0:
            await trio.lowlevel.checkpoint()
        chunk = await attempt.next()
        wanted = trio.current_time() + idle
        if wanted > due:
            due = scope.deadline = min(wanted + slack, last)


async def receive(attempt: Attempt, caller: Caller) -> tuple[bytes | None, UpstreamFailure | None]:
    """The attempt's next bytes, None at their genuine end; or why there are no more. Raises as `pump`."""
    if attempt.held:
        held, attempt.held = attempt.held, b""
        return held, None
    idle = attempt.lease.settings.timeouts.idle
    with trio.CancelScope(deadline=min(trio.current_time() + idle, attempt.last_moment)) as scope:
        attempt.lease.run_in(scope)
        caller.watch(scope)
        try:
            return await attempt.next(), None
        except UpstreamFailure as failed:
            return None, failed.with_traceback(None)
    return None, _why_stalled(attempt, caller)


def _why_stalled(attempt: Attempt, caller: Caller) -> UpstreamFailure:
    if caller.left:
        raise CallerLeft
    return attempt.why_stalled(trio.current_time())
