"""One request from its first lease to its last byte.

`Run` is the request's state machine: leasing, waiting (for the first token, or for the whole answer), streaming, done.
It does the I/O under the lease, in the caller's own task, inside one cancel scope per attempt; what happens after a
failure is decided in `verdict`. It knows no HTTP: the caller is a `Caller`, the way out a `Sink`.
"""

from __future__ import annotations

import enum
import logging
import math
from typing import Any, NoReturn, Protocol

import attrs
import msgspec
import trio

from infermux.errors import (
    CallerError,
    CallerLeft,
    DeadlineExceeded,
    FailureKind,
    InfermuxError,
    NoHealthyProviders,
    NotCarried,
    Overloaded,
    ShuttingDown,
    UpstreamFailure,
)
from infermux.providers.interface import GENERATING, Answer, Call, Stream, Usage

from .kit_errors import ActorDied, MailboxFull
from .lease import Lease
from .messages import Outcome, Reason, Want
from .plan import Plan, Refusal
from .ref import Ref
from .router import Advance
from .verdict import Failed, History, broken_error

log = logging.getLogger("infermux.requests")

ROUTER_RESTARTS = 20  # waits for a crashed router actor ...
ROUTER_PAUSE = 0.1  # ... seconds each
HELD_EVENTS = 64  # start-up chunks held back before the commit point, and ...
HELD_BYTES = 256 * 1024  # ... their bytes
BREATHE_EVERY = 16  # chunks that came without a wait before others get their turn


class Caller(Protocol):
    """Whoever asked. `watch(scope)`: cancel the scope when it leaves, at once if it has."""

    @property
    def left(self) -> bool: ...
    def watch(self, scope: trio.CancelScope | None) -> None: ...


class Sink(Protocol):
    """Where a stream goes. `send_now` is False when `flush` must be awaited before more is sent."""

    def send_now(self, data: bytes) -> bool: ...
    async def flush(self) -> None: ...


class Phase(enum.Enum):
    LEASING = "leasing"
    WAITING = "waiting"
    STREAMING = "streaming"
    DONE = "done"


@attrs.define(eq=False, kw_only=True)
class Run:
    """One request. `call` is what is sent, but for the model, which each lease decides.

    Use: `begin`, then for a stream `pump` or `receive` until the end; `close` in a `finally`. `timeout` is the
    caller's own, in seconds, or None.
    """

    router: Ref[Any]
    want: Want
    call: Call
    caller: Caller
    max_attempts: int
    timeout: float | None = None
    phase: Phase = Phase.LEASING
    lease: Lease | None = None
    stream: Stream | None = None
    plan: Plan = attrs.field(init=False)
    history: History = attrs.field(init=False)
    started_at: float = attrs.field(factory=trio.current_time)
    first_token_at: float | None = None
    usage: Usage | None = None
    _answer: Answer = attrs.field(init=False)
    _held: bytes = b""
    _deadline: float = math.inf
    _timed_out: FailureKind | None = None
    _whole: bool = False
    _broken: InfermuxError | None = None
    _refusal: NotCarried | None = None

    def __attrs_post_init__(self) -> None:
        self.plan = Plan(self.want)
        self.history = History(self.max_attempts, self.call.stream)
        if self.timeout is not None:
            self._deadline = self.started_at + self.timeout

    @property
    def attempts(self) -> int:
        """Attempts so far, the one under way or the successful one included."""
        return self.history.attempts + (self.lease is not None)

    # Until the commit point: an attempt that fails is replaced unseen.

    async def begin(self) -> Answer | Stream:
        """Run attempts until one has an answer, or the first content of a stream.

        Raises an `InfermuxError` when none does, CallerLeft when the caller left. Cancellation ends the attempt and
        releases its lease.
        """
        while True:
            self.phase = Phase.LEASING
            lease = self.lease = await self._acquire()
            failure: UpstreamFailure | None = None
            with trio.CancelScope(deadline=self._bound(lease)) as scope:
                self.caller.watch(scope)
                lease.run_in(scope)
                if self.call.upload is not None:
                    self.call.upload.scope = scope
                    self.call.upload.last = math.inf if self.timeout is None else self._deadline
                try:
                    failure = await self._attempt(lease)
                except NotCarried as refusal:
                    self._pass_over(lease, refusal)
                    continue
                if failure is None:
                    self.caller.watch(None)
                    return self._begun()
            if failure is None:
                failure = self._why_cancelled(lease)
            self._attempt_failed(failure)

    def _begun(self) -> Answer | Stream:
        return self._answer if self.stream is None else self.stream

    async def _attempt(self, lease: Lease) -> UpstreamFailure | None:
        """One attempt; None when it has what it needs. A cancelled one leaves through its scope."""
        self.phase = Phase.WAITING
        try:
            call = self.call
            if call.model != lease.model:
                call = msgspec.structs.replace(call, model=lease.model)
            answer = await lease.adapter.send(call)
            if isinstance(answer, Answer):
                self._answered(lease, answer)
            else:
                self.stream = answer
                await self._hold_back(answer, lease)
        except UpstreamFailure as failure:
            return failure
        except CallerError:  # what was asked is wrong or cannot be said to this provider, or the rest did not come
            sent = self.call.upload is not None
            self._release(Outcome(failure=FailureKind.CALLER, sent=sent, latency=self._since_lease()))
            raise
        except CallerLeft:
            raise
        except Exception as bug:
            return _crashed(lease, bug)
        return None

    def _pass_over(self, lease: Lease, refusal: NotCarried) -> None:
        """This provider cannot be given what was asked: it had no attempt, and another one may have a place for it."""
        self._refusal = self._refusal or refusal
        self.plan.tried.add((lease.provider, lease.model))
        self.plan.parked = False
        self.lease = None

    async def _acquire(self) -> Lease:
        restarts = 0
        while True:
            try:
                granted = await self._ask()
            except MailboxFull as full:
                raise Overloaded(
                    "the router has more requests waiting than it can hold; try again", retry_after=1
                ) from full
            except ActorDied as died:
                restarts += 1
                await self._after_death(restarts, died)
                continue
            if isinstance(granted, Lease):
                return granted
            if self.history.failed:
                raise self.history.error()
            raise self._refusal or granted

    async def _ask(self) -> Any:
        """Ask the router. Mostly the answer is there at once; the wait for a first probe has a scope of its own."""
        reply = self.router.request(Advance(self.plan))
        if reply.done:
            return reply.take()
        with trio.CancelScope(deadline=self._deadline) as scope:
            self.caller.watch(scope)
            return await reply.wait()
        self._gave_up()

    def _gave_up(self) -> NoReturn:
        """A wait without a lease was cancelled."""
        if self.caller.left:
            raise CallerLeft
        raise self._deadline_error()

    async def _after_death(self, restarts: int, died: ActorDied) -> None:
        """A provider's actor crashed under us: go on without it. The router's own: wait for its restart."""
        if died.name != self.router.name:
            self.plan.silent.add(died.name)
            self.plan.refuse(Refusal(died.name, Reason.CRASHED))
        elif restarts > ROUTER_RESTARTS:
            raise NoHealthyProviders("the router is restarting; try again", retry_after=1) from died
        else:
            self.plan.parked = False  # what would have ended its wait for a first probe died as well
            with trio.CancelScope(deadline=self._deadline) as scope:
                self.caller.watch(scope)
                await trio.sleep(ROUTER_PAUSE)
                return
            self._gave_up()

    def _bound(self, lease: Lease) -> float:
        """The attempt's deadline; remembers which timeout it would be."""
        if self.timeout is None and math.isinf(self._deadline):
            self._deadline = self.started_at + 2 * self._longest_timeout()
        settings = lease.settings
        if self.call.stream:
            seconds, kind = settings.first_token_timeout, FailureKind.FIRST_TOKEN_TIMEOUT
        else:
            seconds, kind = settings.timeout, FailureKind.TOTAL_TIMEOUT
        total = settings.timeouts.total
        if total is not None and total <= seconds:
            seconds, kind = total, FailureKind.TOTAL_TIMEOUT
        if lease.bound is not None:
            # A stream shows life with its first token; only a whole answer may need longer than the probe's timeout.
            bound = settings.circuit_breaker.probe_timeout if self.call.stream else lease.bound
            seconds = min(seconds, bound)
        at = lease.granted_at + seconds
        self._timed_out = kind if at <= self._deadline else None
        return min(at, self._deadline)

    def _longest_timeout(self) -> float:
        route = self.plan.route
        return route.longest_timeout if route is not None else math.inf

    def _answered(self, lease: Lease, answer: Answer) -> None:
        self._answer = answer
        said = len(answer.body) // 4 if self.want.endpoint in GENERATING else 0
        self.usage = answer.usage or estimated(self.want, said)
        self._release(Outcome(status=answer.status, latency=self._since_lease(), usage=self.usage))
        self.phase = Phase.DONE

    async def _hold_back(self, stream: Stream, lease: Lease) -> None:
        """Read up to the first content: until then nothing was said that could not be said by another provider."""
        held: list[bytes] = []
        size = 0
        while not stream.has_content:
            chunk = await stream.receive()
            if chunk is None:
                raise UpstreamFailure(FailureKind.BROKEN, "the stream ended before its first content")
            held.append(chunk)
            size += len(chunk)
            if len(held) >= HELD_EVENTS or size >= HELD_BYTES:
                break
        self._held = b"".join(held)
        self.first_token_at = trio.current_time()
        lease.passed_first_token(self.first_token_at)

    # After a failure.

    def _why_cancelled(self, lease: Lease) -> UpstreamFailure:
        """The attempt's scope was cancelled: by the caller's leaving, a revoked lease, or a deadline."""
        if self.caller.left:
            raise CallerLeft
        if lease.revoked is not None:
            if lease.last_word:
                raise ShuttingDown(f"the request was ended: {lease.revoked}")
            return UpstreamFailure(FailureKind.BROKEN, lease.revoked)
        if self._timed_out is None or (self.timeout is not None and trio.current_time() >= self._deadline):
            raise self._deadline_error()
        seconds = trio.current_time() - lease.granted_at
        what = "no first token" if self._timed_out is FailureKind.FIRST_TOKEN_TIMEOUT else "no whole answer"
        return UpstreamFailure(self._timed_out, f"{what} within {seconds:.3g} s")

    def _deadline_error(self) -> InfermuxError:
        seconds = self._deadline - self.started_at
        whose = "X-Infermux-Timeout" if self.timeout is not None else "twice the longest timeout of its providers"
        where = f" (last waited for provider {self.lease.provider})" if self.lease else ""
        return DeadlineExceeded(f"the request did not end within {seconds:.3g} s, set by {whose}{where}")

    def _attempt_failed(self, failure: UpstreamFailure) -> None:
        """Account for a failed attempt. Returns when another may be made, raises what the caller is told otherwise."""
        lease = self.lease
        assert lease is not None
        self.history.failed.append(Failed(lease.provider, lease.model, failure))
        self.plan.tried.add((lease.provider, lease.model))
        self.plan.parked = False  # a further wait for a first probe has a bound of its own
        if failure.kind.is_timeout:
            self.plan.silent.add(lease.provider)
        self._release(self._failed_outcome(lease, failure))
        self._drop_stream()
        self.lease = None
        upload = self.call.upload
        if not self.history.may_try_again() or (upload is not None and upload.spent):
            raise self.history.error()

    def _failed_outcome(self, lease: Lease, failure: UpstreamFailure) -> Outcome:
        return Outcome(
            failure=None if lease.revoked is not None else failure.kind,
            cancelled=lease.revoked is not None,
            status=failure.status,
            latency=self._since_lease(),
            retry_after=failure.retry_after,
            usage=self._consumed(failure.kind),
        )

    def _consumed(self, kind: FailureKind | None) -> Usage | None:
        """What an attempt that did not end well has used, as far as can be known: nothing if the provider refused."""
        stream = self.stream
        if stream is not None:
            return stream.usage or estimated(self.want, stream.estimated_tokens)
        if kind is None or (kind.is_timeout and kind is not FailureKind.CONNECT_TIMEOUT):
            return estimated(self.want, 0)
        return None

    # After the commit point: nothing is retried, an end is honest.

    async def pump(self, sink: Sink) -> None:
        """Send the stream's bytes to `sink` as they come, until its genuine end.

        Raises an `InfermuxError` when the stream breaks or stalls, for the caller to be told in-band; CallerLeft when
        it left; whatever the sink raises.
        """
        lease, stream = self.lease, self.stream
        assert lease is not None
        assert stream is not None
        failure: UpstreamFailure | None = None
        ended = False
        with trio.CancelScope() as scope:
            self.phase = Phase.STREAMING
            self.caller.watch(scope)
            lease.run_in(scope)
            try:
                await self._pump(sink, stream, scope)
                ended = True
            except UpstreamFailure as failed:
                failure = failed
        self.caller.watch(None)
        if ended:
            self._ended_well(lease, stream)
        else:
            self._broke(lease, failure or self._why_stalled(lease))

    async def _pump(self, sink: Sink, stream: Stream, scope: trio.CancelScope) -> None:
        lease = self.lease
        assert lease is not None
        idle = lease.settings.timeouts.idle
        # Moving a deadline costs more than reading the clock, so it is moved in steps; it never comes early.
        slack = min(0.25, idle / 20)
        last = self._last_moment(lease)
        due = scope.deadline = min(trio.current_time() + idle + slack, last)
        held, self._held = self._held, b""
        chunk: bytes | None = held or await _next_of(stream, lease)
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
            chunk = await _next_of(stream, lease)
            wanted = trio.current_time() + idle
            if wanted > due:
                due = scope.deadline = min(wanted + slack, last)

    def _last_moment(self, lease: Lease) -> float:
        """The hard end of a stream: the provider's total timeout, the caller's own deadline."""
        total = lease.settings.timeouts.total
        last = math.inf if total is None else lease.granted_at + total
        return last if self.timeout is None else min(last, self._deadline)

    async def receive(self) -> bytes | None:
        """The next bytes of the stream, None at its genuine end: for those who read instead of being pumped to."""
        if self.phase is Phase.DONE:
            self._check_whole()
            return None
        lease, stream = self.lease, self.stream
        assert lease is not None
        assert stream is not None
        if self._held:
            held, self._held = self._held, b""
            self.phase = Phase.STREAMING
            return held
        failure: UpstreamFailure | None = None
        with trio.CancelScope(
            deadline=min(trio.current_time() + lease.settings.timeouts.idle, self._last_moment(lease))
        ) as scope:
            lease.run_in(scope)
            self.caller.watch(scope)
            self.phase = Phase.STREAMING
            try:
                chunk = await _next_of(stream, lease)
                if chunk is None:
                    self._ended_well(lease, stream)
                return chunk
            except UpstreamFailure as failed:
                failure = failed
        self._broke(lease, failure or self._why_stalled(lease))

    def _check_whole(self) -> None:
        """Who reads on after the end is told the same again: only a genuine end is a clean one."""
        if self._broken is not None:
            raise self._broken
        if not self._whole:
            raise trio.ClosedResourceError("this run was closed before its stream ended")

    def _why_stalled(self, lease: Lease) -> UpstreamFailure:
        if self.caller.left:
            self.close()
            raise CallerLeft
        now = trio.current_time()
        if lease.revoked is None and self.timeout is not None and now >= self._deadline:
            self.close()
            raise self._deadline_error()
        if lease.revoked is not None:
            return UpstreamFailure(FailureKind.BROKEN, lease.revoked)
        if now >= self._last_moment(lease):
            return UpstreamFailure(
                FailureKind.TOTAL_TIMEOUT, f"the stream did not end within {lease.settings.timeouts.total:g} s"
            )
        return UpstreamFailure(FailureKind.IDLE_TIMEOUT, f"nothing came for {lease.settings.timeouts.idle:g} s")

    def _ended_well(self, lease: Lease, stream: Stream) -> None:
        self.usage = stream.usage or estimated(self.want, stream.estimated_tokens)
        first = None if self.first_token_at is None else self.first_token_at - lease.granted_at
        self._release(Outcome(status=200, latency=self._since_lease(), first_token=first, usage=self.usage))
        self._drop_stream()
        self.phase = Phase.DONE
        self._whole = True

    def _broke(self, lease: Lease, failure: UpstreamFailure) -> NoReturn:
        """The stream broke after the commit point: account for it, and raise what the caller is told in-band."""
        self._release(self._failed_outcome(lease, failure))
        self._drop_stream()
        self.phase = Phase.DONE
        if lease.revoked is not None:
            self._broken = ShuttingDown(f"the answer of provider {lease.provider} was cut: {lease.revoked}")
        else:
            self._broken = broken_error(Failed(lease.provider, lease.model, failure))
        raise self._broken

    # Always.

    def close(self) -> None:
        """End what is under way: the lease is released as cancelled, the upstream closed. Synchronous, idempotent."""
        self.caller.watch(None)
        if self.lease is not None and not self.lease.is_released:
            self._release(Outcome(cancelled=True, latency=self._since_lease(), usage=self._consumed(None)))
        self._drop_stream()
        self.phase = Phase.DONE

    def _release(self, outcome: Outcome) -> None:
        assert self.lease is not None
        self.lease.scope = None
        self.lease.release(outcome)

    def _drop_stream(self) -> None:
        stream, self.stream = self.stream, None
        if stream is not None:
            stream.close()

    def _since_lease(self) -> float:
        """Seconds the provider has had, without those in which it waited for the caller."""
        waited = 0.0 if self.call.upload is None else self.call.upload.waited
        return trio.current_time() - self.lease.granted_at - waited if self.lease else 0.0


async def _next_of(stream: Stream, lease: Lease) -> bytes | None:
    try:
        return await stream.receive()
    except UpstreamFailure:
        raise
    except Exception as bug:
        raise _crashed(lease, bug) from bug


def _crashed(lease: Lease, bug: Exception) -> UpstreamFailure:
    """A bug in an adapter is a failure of its provider: the others answer meanwhile, and the log has the traceback."""
    log.error("the adapter of provider %s crashed", lease.provider, exc_info=bug)
    return UpstreamFailure(FailureKind.MALFORMED, f"its adapter crashed with {type(bug).__name__}")


def estimated(want: Want, completion_tokens: int) -> Usage:
    """A usage the provider did not give: marked so."""
    return Usage(prompt_tokens=want.prompt_tokens, completion_tokens=completion_tokens, estimated=True)


class Anyone:
    """A caller that never leaves: for programs that embed the router and cancel by trio's own means."""

    left = False

    def watch(self, scope: trio.CancelScope | None) -> None:
        """Nothing to watch."""
