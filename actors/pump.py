"""The bytes of a stream on their way to the caller."""

from __future__ import annotations

import trio

from infermux.errors import CallerLeft, UpstreamFailure
from infermux.providers.arrivals import Arrivals, polled

from .alarms import Alarms
from .attempt import Attempt
from .caller import Caller
from .passage import SLACK, Passage
from .passage import Sink as Sink

BREATHE_EVERY = 16  # chunks that came without a wait before others get their turn


async def pump(
    attempt: Attempt, sink: Sink, caller: Caller, arrivals: Arrivals | None = None, alarms: Alarms | None = None
) -> UpstreamFailure | None:
    """Send the attempt's bytes to `sink` as they come: None at their genuine end, otherwise why there are no more.

    Raises CallerLeft, DeadlineExceeded for the caller's own deadline, and whatever the sink raises. With `arrivals` and
    `alarms` no task is woken for bytes, where their socket can be polled.
    """
    passage = None if arrivals is None or alarms is None else _passage(attempt, sink, caller, arrivals, alarms)
    try:
        if passage is not None:
            passage.begin()
        while True:
            if passage is not None and passage.is_open:
                await passage.wait()
                if passage.error is not None:
                    raise passage.error
            if passage is not None and passage.is_cut:
                return _why_stalled(attempt, caller)
            if passage is not None and passage.is_over:
                # What is left takes no wait, and so nothing that would bound one.
                chunk = await attempt.next()
                if chunk is None:
                    return None
                passage.is_blocked = not sink.send_now(chunk)
                continue
            with trio.CancelScope() as scope:
                caller.watch(scope)
                attempt.lease.run_in(scope)
                if await _pump(attempt, sink, scope, passage):
                    return None
            if passage is None or not (passage.is_open or passage.is_cut):
                return _why_stalled(attempt, caller)
    except UpstreamFailure as failure:
        return failure.with_traceback(None)
    finally:
        caller.watch(None)
        if passage is not None:
            passage.close()


def _passage(attempt: Attempt, sink: Sink, caller: Caller, arrivals: Arrivals, alarms: Alarms) -> Passage | None:
    stream = polled(attempt.stream)
    return None if stream is None else Passage(attempt, stream, sink, caller, arrivals=arrivals, alarms=alarms)


async def _pump(attempt: Attempt, sink: Sink, scope: trio.CancelScope, passage: Passage | None) -> bool:
    """To the end of the stream; False: the passage has taken over.

    It runs in `scope`, which is cancelled when the bytes stall.
    """
    idle = attempt.lease.settings.timeouts.idle
    # Moving a deadline costs more than reading the clock, so it is moved in steps; it never comes early.
    slack = min(SLACK, idle / 20)
    last = attempt.last_moment
    due = 0.0
    count = 0
    is_blocked = passage is not None and passage.is_blocked
    while True:
        if is_blocked:
            # A slow reader is not the provider's silence: only the sink's own bound and the hard deadline hold.
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
        is_blocked = not sink.send_now(chunk)
        held = chunk = b""  # what is sent is not kept until the next
        if not is_blocked and passage is not None and passage.open():
            return False
        count += 1
        if count % BREATHE_EVERY == 0:
            await trio.lowlevel.checkpoint()


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
