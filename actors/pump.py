"""The bytes of a stream on their way to the caller."""

from __future__ import annotations

import trio

from infermux.errors import CallerLeft, UpstreamFailure
from infermux.providers.arrivals import Arrivals, polled

from .attempt import Attempt
from .caller import Caller
from .passage import Passage
from .passage import Sink as Sink

BREATHE_EVERY = 16  # chunks that came without a wait before others get their turn


async def pump(
    attempt: Attempt, sink: Sink, caller: Caller, arrivals: Arrivals | None = None
) -> UpstreamFailure | None:
    """Send the attempt's bytes to `sink` as they come: None at their genuine end, otherwise why there are no more.

    Raises CallerLeft, DeadlineExceeded for the caller's own deadline, and whatever the sink raises. With `arrivals` no
    task is woken for bytes, where their socket can be polled.
    """
    stream = None if arrivals is None else polled(attempt.stream)
    passage = None if arrivals is None or stream is None else Passage(attempt, stream, sink, arrivals)
    try:
        while True:
            with trio.CancelScope() as scope:
                caller.watch(scope)
                attempt.lease.run_in(scope)
                if await _pump(attempt, sink, scope, passage):
                    return None
            if passage is None or caller.left or not _goes_on(attempt, passage):
                return _why_stalled(attempt, caller)
    except UpstreamFailure as failure:
        return failure.with_traceback(None)
    finally:
        caller.watch(None)
        if passage is not None:
            passage.close()


async def _pump(attempt: Attempt, sink: Sink, scope: trio.CancelScope, passage: Passage | None) -> bool:
    """To the end of the stream; False: `scope` is spent, which this runs in and is cancelled when the bytes stall."""
    idle = attempt.lease.settings.timeouts.idle
    # Moving a deadline costs more than reading the clock, so it is moved in steps; it never comes early.
    slack = min(0.25, idle / 20)
    last = attempt.last_moment
    due = 0.0
    count = 0
    while True:
        if passage is not None and passage.is_open:
            # The deadline is not moved then, and may come early: what has been heard is asked before it counts.
            if not due:
                due = scope.deadline = min(passage.heard_at + idle, last)
            await passage.wait()
            if scope.cancel_called:
                return False  # its deadline came while the task was being woken
            if passage.is_blocked:
                scope.deadline = last
                await sink.flush()
                due = 0.0
        wanted = trio.current_time() + idle
        if wanted > due:
            due = scope.deadline = min(wanted + slack, last)
        held, attempt.held = attempt.held, b""
        chunk = held or await attempt.next()
        if chunk is None:
            return True
        if not sink.send_now(chunk):
            # A slow reader is not the provider's silence: only the sink's own bound and the hard deadline hold.
            scope.deadline = last
            await sink.flush()
            due = 0.0
        elif passage is not None:
            passage.open()
        held = chunk = b""  # what is sent is not kept until the next
        count += 1
        if count % BREATHE_EVERY == 0:
            await trio.lowlevel.checkpoint()


def _goes_on(attempt: Attempt, passage: Passage) -> bool:
    """Whether the scope's deadline came before its time: it was set when less had been heard."""
    now = trio.current_time()
    lease = attempt.lease
    is_quiet = now >= min(passage.heard_at + lease.settings.timeouts.idle, attempt.last_moment)
    return lease.revoked is None and not is_quiet


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
