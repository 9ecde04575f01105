"""One try of one request under one lease: from sending it to its outcome, which is told exactly once."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from random import getrandbits
from typing import Final

import msgspec
import trio

from infermux.config.checks import needs_key
from infermux.errors import (
    CallerError,
    CallerLeft,
    FailureKind,
    ShuttingDown,
    Unauthorized,
    UpstreamFailure,
)
from infermux.providers.interface import GENERATING, Answer, Call, Stream, Usage, stops, traced
from infermux.providers.transport import CONNECTING, Stoppable, Stopped

from .alarms import Alarms
from .caller import Caller, Deadline
from .hold_back import HELD_BYTES, HELD_EVENTS, HoldBack
from .homes import Home, Homes
from .lease import Lease
from .messages import Outcome, Want
from .strategy import Choice

log = logging.getLogger("infermux.requests")

_TOTAL_TIMEOUT: Final = FailureKind.TOTAL_TIMEOUT  # a member of an enum is looked up in Python code
_OF_ACCOUNT = frozenset({FailureKind.RATE_LIMITED, FailureKind.MODEL_NOT_FOUND})

Commit = Callable[[Stream, bytes], None]
"""Begins the caller's answer if it has not begun, and sends it bytes of the stream. Must not wait."""


class Attempt(msgspec.Struct, eq=False):
    """One try. `begin` runs it up to its whole answer, or to the commit point of its stream; then `next` reads on.

    It ends with one of `succeeded`, `failed` and `abandon`: each releases the lease and closes the stream, the first
    one counts. `committed`: bytes of its stream have gone to the caller, nothing can replace it unseen. `join`: it goes
    on with the answer of another one, and this is what makes its stream the rest of that. `homes` remembers the
    response it comes to, where the provider keeps it.
    """

    lease: Lease
    want: Want
    call: Call
    deadline: Deadline
    choice: Choice | None = None  # how the router came to it
    homes: Homes | None = None
    alarms: Alarms | None = None
    now: Callable[[], float] = trio.current_time
    join: Callable[[Stream], Stream] | None = None
    answer: Answer | None = None
    stream: Stream | None = None
    usage: Usage | None = None
    held: bytes = b""
    first_token_at: float | None = None
    committed: bool = False
    connecting: bool = False
    waits_on: Stoppable | None = None  # see `transport.Asker`
    _cancelled: bool = False
    _asked: bool = False  # its provider
    _timeout: FailureKind | None = None
    _holding: list[bytes] | None = None
    _commit: Commit | None = None

    async def begin(
        self, caller: Caller | None, hold_back: HoldBack | None = None, commit: Commit | None = None
    ) -> UpstreamFailure | None:
        """None when it has an answer, or a stream with content. Otherwise the failure; the lease is still to release.

        With `commit` start-up events that have been held too long are given to the caller, and the stream with them.
        Raises CallerLeft, DeadlineExceeded, ShuttingDown, and CallerError for what cannot be said to this provider.
        """
        failure: UpstreamFailure | None = None
        self._commit = commit
        bound = self._bound()
        alarms = self.alarms
        if alarms is not None and self._is_simple():
            # The straight path: one whole answer over a connection that can be closed from elsewhere. No scope is
            # needed, which would cost a tenth of all that a request does.
            if caller is not None:
                caller.watch(self)
            self.lease.run_in(self)
            if not self._cancelled:
                alarms.add(self, bound)
                try:
                    failure = await self._send(None)
                except Stopped:
                    pass
                finally:
                    alarms.remove(self)
                    self.waits_on = None
            return failure or (None if self.answer is not None else self._why_cancelled(caller))
        with trio.CancelScope(deadline=bound) as scope:
            if caller is not None:
                caller.watch(scope)
            self.lease.run_in(scope)
            upload = self.call.upload
            if upload is not None:
                upload.scope = scope
                upload.last = self.deadline.at if self.deadline.own else math.inf
            if not scope.cancel_called:
                failure = await self._send(hold_back)
                if failure is None:
                    return None
        return failure or self._why_cancelled(caller)

    def _is_simple(self) -> bool:
        """Whether whatever ends it before its time can do so by closing the connection it waits on."""
        call, lease = self.call, self.lease
        return not call.stream and lease.bound is None and call.endpoint in stops(lease.adapter)

    def cancel(self) -> None:
        """End it at its next wait, without an answer. Nothing when it has ended."""
        self._cancelled = True
        if self.waits_on is not None:
            self.waits_on.cancel()

    async def go_on(self, caller: Caller) -> UpstreamFailure | None:
        """As `begin`, for the rest of another one's answer. What cannot be said to this provider is its failure too."""
        try:
            failure = await self.begin(caller)
        except CallerError as refused:
            return UpstreamFailure(FailureKind.CALLER, refused.message)
        if failure is None and self.stream is None:
            return UpstreamFailure(FailureKind.MALFORMED, "answered a streaming request with a whole answer")
        return failure

    async def _send(self, hold_back: HoldBack | None) -> UpstreamFailure | None:
        lease, call = self.lease, self.call
        try:
            call = self._for_provider(call)
            if call.spans:
                lease.span = f"{getrandbits(64) or 1:016x}"
                call = traced(call, lease.span)
            if self.homes is not None:
                call = msgspec.structs.replace(call, kept=self._kept)
            self._asked = True
            asking = CONNECTING.set(self)
            try:
                answer = await lease.adapter.send(call)
            finally:
                CONNECTING.reset(asking)  # or the connection's task would keep it until its next request
            if isinstance(answer, Answer):
                self.answer = answer
            else:
                self.stream = answer if self.join is None else self.join(answer)
                if not answer.has_content:
                    await self._hold_back(self.stream, hold_back)
                self.first_token_at = trio.current_time()
                lease.passed_first_token(self.first_token_at)
        except UpstreamFailure as failure:
            return self._attributed(failure).with_traceback(None)  # a value from here on: it keeps no frames alive
        except CallerError:  # what was asked cannot be said to this provider, or the rest of it did not come
            self._release(Outcome(failure=FailureKind.CALLER, sent=call.upload is not None, latency=self.seconds))
            raise
        except (CallerLeft, Stopped):
            raise
        except Exception as bug:
            return crashed(lease, bug)
        return None

    def _for_provider(self, call: Call) -> Call:
        """What is sent under this lease. The caller's credential goes only where there is none of ours.

        What such a provider tells of its limits is about the caller's account. Raises Unauthorized for a caller without
        a credential where everybody needs one.
        """
        lease = self.lease
        if not lease.settings.borrows:
            return msgspec.structs.replace(call, model=lease.model, key=lease.key, lent=None, heard=lease.heard)
        if not call.lent and needs_key(lease.settings):
            raise Unauthorized(
                f"provider {lease.provider} is called with your own key for it: send that as "
                "`Authorization: Bearer KEY` or `x-api-key: KEY`"
            )
        return msgspec.structs.replace(call, model=lease.model, key=None)

    def _attributed(self, failure: UpstreamFailure) -> UpstreamFailure:
        """A refusal of the caller's own credential is the caller's error, and goes back as it is."""
        if failure.kind is not FailureKind.CREDENTIALS or not self.lease.settings.borrows:
            return failure
        return UpstreamFailure(
            FailureKind.CALLER,
            failure.message,
            status=failure.status,
            code=failure.code,
            body=failure.body,
            content_type=failure.content_type,
        )

    def _told(self, kind: FailureKind) -> FailureKind:
        """What the provider's actor is told: what happens to the caller's account says nothing of the provider."""
        return FailureKind.CALLER if kind in _OF_ACCOUNT and self.lease.settings.borrows else kind

    def _kept(self, response: str) -> None:
        """The provider keeps the response of that id."""
        if self.homes is not None:
            lease = self.lease
            self.homes.keep(response, Home(lease.provider, lease.key_index), trio.current_time())

    async def _hold_back(self, stream: Stream, hold_back: HoldBack | None) -> None:
        """Read up to the first content: until then nothing was said that could not be said by another provider."""
        held = self._holding = []
        size = 0
        while not stream.has_content:
            chunk = await stream.receive()
            if chunk is None:
                raise UpstreamFailure(FailureKind.BROKEN, "the stream ended before its first content")
            if self.committed and self._commit is not None and not stream.has_content:
                self._commit(stream, chunk)
                continue
            held.append(chunk)
            size += len(chunk)
            if len(held) >= HELD_EVENTS or size >= HELD_BYTES:
                break
            if len(held) == 1 and hold_back is not None and self._commit is not None and not stream.has_content:
                hold_back.add(self._held_too_long)
        self._holding = None
        self.held = b"".join(held)

    def _held_too_long(self) -> None:
        """The caller has waited for start-up events long enough: it gets them, and this stream for better or worse."""
        held, stream = self._holding, self.stream
        if held and stream is not None and self._commit is not None and not self.lease.is_released:
            self.committed = True
            self._commit(stream, b"".join(held))
            held.clear()

    def _bound(self) -> float:
        """When the attempt is over if it has nothing to show; remembers which timeout that would be."""
        lease, stream = self.lease, self.call.stream
        settings = lease.settings
        if stream:
            seconds, kind = settings.first_token_timeout, FailureKind.FIRST_TOKEN_TIMEOUT
        else:
            seconds, kind = settings.timeout, _TOTAL_TIMEOUT
        total = settings.timeouts.total
        if total is not None and total <= seconds:
            seconds, kind = total, _TOTAL_TIMEOUT
        if lease.bound is not None:
            # A stream shows life with its first token; only a whole answer may need longer than the probe's timeout.
            seconds = min(seconds, settings.circuit_breaker.probe_timeout if stream else lease.bound)
        at, last = lease.granted_at + seconds, self.deadline.at
        if at <= last:
            self._timeout = kind
            return at
        self._timeout = None
        return last

    def _why_cancelled(self, caller: Caller | None) -> UpstreamFailure:
        """The attempt's scope was cancelled: by the caller's leaving, a revoked lease, or a deadline."""
        lease = self.lease
        if caller is not None and caller.left:
            raise CallerLeft
        if lease.revoked is not None:
            if lease.last_word:
                raise lease.error or ShuttingDown(f"the request was ended: {lease.revoked}")
            return UpstreamFailure(FailureKind.BROKEN, lease.revoked)
        now = trio.current_time()
        if self._timeout is None or (self.deadline.own and now >= self.deadline.at):
            raise self.deadline.error(lease.provider)
        what = "no first token" if self._timeout is FailureKind.FIRST_TOKEN_TIMEOUT else "no whole answer"
        return UpstreamFailure(self._timeout, f"{what} within {now - lease.granted_at:.3g} s")

    # Once the stream has content.

    async def next(self) -> bytes | None:
        """The stream's next bytes, None at its genuine end. Raises UpstreamFailure, also for a bug of the adapter."""
        assert self.stream is not None
        try:
            return await self.stream.receive()
        except UpstreamFailure as failure:
            raise self._attributed(failure) from failure.__cause__
        except Exception as bug:
            raise crashed(self.lease, bug) from bug

    def last_words(self) -> bytes | None:
        """What the answer lacks, if it is whole but for that: see `Stream.last_words`."""
        try:
            return None if self.stream is None else self.stream.last_words()
        except UpstreamFailure:
            return None

    @property
    def last_moment(self) -> float:
        """The hard end of a stream: the provider's total timeout, the caller's own deadline."""
        total = self.lease.settings.timeouts.total
        last = math.inf if total is None else self.lease.granted_at + total
        return min(last, self.deadline.at) if self.deadline.own else last

    def why_stalled(self, now: float) -> UpstreamFailure:
        """The failure of a stream whose scope was cancelled, though not by its caller. Raises DeadlineExceeded."""
        lease = self.lease
        if lease.revoked is not None:
            return UpstreamFailure(FailureKind.BROKEN, lease.revoked)
        if self.deadline.own and now >= self.deadline.at:
            raise self.deadline.error(lease.provider)
        if now >= self.last_moment:
            total = lease.settings.timeouts.total
            return UpstreamFailure(FailureKind.TOTAL_TIMEOUT, f"the stream did not end within {total:g} s")
        return UpstreamFailure(FailureKind.IDLE_TIMEOUT, f"nothing came for {lease.settings.timeouts.idle:g} s")

    # Its end.

    def succeeded(self) -> Usage:
        """A whole answer, or a stream's genuine end: returns what it used."""
        answer, stream = self.answer, self.stream
        if answer is not None:
            usage = answer.usage
            if usage is None or not usage.is_plausible:
                usage = self._told_by(answer)
            self.usage = usage
            now = self.now()
            self._release(Outcome(status=answer.status, latency=self._seconds(now), usage=usage), now)
            return usage
        assert stream is not None
        usage = self.usage = self._believed(stream.usage, stream.estimated_tokens)
        first = None if self.first_token_at is None else self.first_token_at - self.lease.granted_at
        self._release(Outcome(status=200, latency=self.seconds, first_token=first, usage=usage))
        return usage

    def failed(self, failure: UpstreamFailure) -> None:
        """It came to `failure`; what it has used counts."""
        revoked = self.lease.revoked is not None
        # A provider that we leave has read the prompt all the same.
        self.usage = self._consumed(None if revoked else failure.kind)
        self._release(
            Outcome(
                failure=None if revoked else self._told(failure.kind),
                cancelled=revoked,
                sent=self._is_sent or not revoked,
                status=failure.status,
                latency=self.seconds,
                retry_after=failure.retry_after,
                usage=self.usage,
            )
        )

    def abandon(self) -> None:
        """Nobody wants it any more. Idempotent, and nothing where it has ended."""
        if not self.lease.is_released:
            self.usage = self._consumed(None)
            self._release(Outcome(cancelled=True, sent=self._is_sent, latency=self.seconds, usage=self.usage))
        self._drop_stream()

    @property
    def _is_sent(self) -> bool:
        """Whether its provider may have something of the request."""
        return self._asked and not self.connecting

    def _consumed(self, kind: FailureKind | None) -> Usage | None:
        """What an attempt that did not end well has used, as far as can be known: nothing if the provider refused."""
        answer, stream = self.answer, self.stream
        if stream is not None:
            return self._believed(stream.usage, stream.estimated_tokens)
        if answer is not None:  # whole, and another one was faster by a step of the loop
            return self._told_by(answer)
        if not self._is_sent:
            return None
        if kind is None or (kind.is_timeout and kind is not FailureKind.CONNECT_TIMEOUT):
            return estimated(self.want, 0)
        return None

    def _told_by(self, answer: Answer) -> Usage:
        return self._believed(answer.usage, len(answer.body) // 4 if self.want.endpoint in GENERATING else 0)

    def _believed(self, told: Usage | None, said: int) -> Usage:
        """What the provider told to have been used, where that can be; else an estimate, of `said` answer tokens."""
        if told is not None:
            if told.is_plausible:
                return told
            log.warning("provider %s told a usage that cannot be: it is estimated instead", self.lease.provider)
        return estimated(self.want, said)

    def _release(self, outcome: Outcome, now: float | None = None) -> None:
        lease, stream = self.lease, self.stream
        lease.scope = None
        if stream is not None and stream.malformed_events:
            outcome = msgspec.structs.replace(outcome, malformed_events=stream.malformed_events)
        lease.release(outcome, now)
        if stream is not None:
            self._drop_stream()
        self._commit = None

    def _drop_stream(self) -> None:
        stream, self.stream = self.stream, None
        self._commit = None
        if stream is not None:
            stream.close()

    @property
    def seconds(self) -> float:
        """What the provider has had of time, without that in which it waited for the caller."""
        return self._seconds(self.now())

    def _seconds(self, now: float) -> float:
        upload = self.call.upload
        return now - self.lease.granted_at - (0.0 if upload is None else upload.waited)


def crashed(lease: Lease, bug: Exception) -> UpstreamFailure:
    """A bug in an adapter is a failure of its provider: the others answer meanwhile, and the log has the traceback."""
    log.error("the adapter of provider %s crashed", lease.provider, exc_info=bug)
    return UpstreamFailure(FailureKind.MALFORMED, f"its adapter crashed with {type(bug).__name__}")


def estimated(want: Want, completion_tokens: int) -> Usage:
    """A usage the provider did not give: marked so."""
    return Usage(prompt_tokens=want.prompt_tokens, completion_tokens=completion_tokens, estimated=True)
