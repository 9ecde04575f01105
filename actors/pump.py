"""The bytes of a stream on their way to the caller."""

from __future__ import annotations

from typing import Protocol

import trio

from .attempt import Attempt

BREATHE_EVERY = 16  # chunks that came without a wait before others get their turn


class Sink(Protocol):
    """Where a stream goes. `send_now` is False when `flush` must be awaited before more is sent."""

    def send_now(self, data: bytes) -> bool: ...
    async def flush(self) -> None: ...


async def pump(attempt: Attempt, sink: Sink, scope: trio.CancelScope) -> None:
    """Send the attempt's bytes to `sink` until their end. `scope`, which this runs in, is cancelled when they stall."""
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
