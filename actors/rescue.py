"""A stream that broke after its commit point goes on at another provider: what that takes of one request.

What the caller was sent is kept, up to a bound. When the stream breaks it is read back, and the rest is asked for:
see `infermux.providers.continuation` for how and for what cannot be continued, `joint` for how it is joined on.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Protocol

import attrs
import msgspec
import trio

from infermux.config.settings import Retry
from infermux.errors import FailureKind, InfermuxError, UpstreamFailure
from infermux.providers.continuation import CannotContinue, Place, continued_body, place_of
from infermux.providers.interface import Call, Endpoint, Usage, takes_prefill
from infermux.providers.joint import JoinedStream, Joint, added
from infermux.providers.peek import prompt_tokens
from infermux.providers.peek_endpoints import message_tokens

from .attempt import Attempt, Commit
from .caller import Caller, Deadline
from .lease import Lease
from .messages import Want
from .plan import Plan
from .pump import Sink
from .router_messages import Advance, Again
from .verdict import History

log = logging.getLogger("infermux.requests")

KEPT_BYTES = 1024 * 1024  # of what one caller was sent; a longer answer is not rescued
MOST_REFUSING = 1024  # models that were found to refuse a beginning
MOST_LOGGED = 300  # characters of a provider's own words
_OF_CREDENTIALS = (401, 403)  # of the caller's own, where they are lent


@attrs.frozen(kw_only=True)
class Rescued:
    """`provider` broke off with `failure` in the middle of an answer, which `by` went on with.

    `usage` is what the broken attempt had used; `prefilled`: the text so far was given as the beginning of the answer,
    in place of being asked to go on.
    """

    provider: str
    model: str
    failure: FailureKind
    usage: Usage
    by: str
    by_model: str
    prefilled: bool


@attrs.define(eq=False)
class Rescue:
    """What all requests of a router know: the models that refused to go on with a beginning."""

    _refusing: dict[tuple[str, str], None] = attrs.field(factory=dict[tuple[str, str], None])

    def prefills(self, lease: Lease) -> bool:
        """Whether this provider's model goes on with the beginning of an answer."""
        return (lease.provider, lease.model) not in self._refusing and takes_prefill(lease.adapter, lease.model)

    def refused(self, lease: Lease) -> None:
        if len(self._refusing) >= MOST_REFUSING:
            self._refusing.clear()
        self._refusing[lease.provider, lease.model] = None


def rescue_of(setting: str) -> Rescue | None:
    """None where it is turned off, so that it costs nothing."""
    return Rescue() if setting == "continue" else None


class Request(Protocol):
    """What is asked of the request: see `dispatch.Run`."""

    caller: Caller
    plan: Plan
    history: History
    retry: Retry
    attempt: Attempt | None
    killed: InfermuxError | None

    @property
    def attempts(self) -> int: ...
    async def obtain(self, message: Any) -> Lease: ...
    def count_failure(self, attempt: Attempt, failure: UpstreamFailure) -> None: ...


@attrs.define(eq=False)
class Rescuer:
    """Of one request: what its caller was sent, and the attempts that broke on the way.

    `used` is what those have used that the caller heard something of; it is part of the answer's usage.
    """

    rescue: Rescue
    call: Call
    want: Want
    used: Usage = Usage()
    rescues: list[Rescued] = attrs.field(factory=list[Rescued])
    _sent: list[bytes] = attrs.field(factory=list[bytes], alias="sent")
    _size: int = 0
    _broken: Attempt | None = None
    _failure: FailureKind = FailureKind.BROKEN
    _place: Place | None = None
    _prefills: bool = False

    def keep(self, data: bytes) -> bytes:
        """`data` goes to the caller: it is returned as it is."""
        self._size += len(data)
        if self._size <= KEPT_BYTES:
            self._sent.append(data)
        else:
            self._sent.clear()
        return data

    def committing(self, commit: Commit) -> Commit:
        """`commit`, by which start-up events go to the caller."""
        return lambda stream, data: commit(stream, self.keep(data))

    def keeping(self, sink: Sink) -> KeepingSink:
        return KeepingSink(sink, self)

    def begin(self, attempt: Attempt, failure: UpstreamFailure) -> bool:
        """`attempt`, of which the caller has heard something, broke. False where nobody can go on with its answer."""
        lease = attempt.lease
        if lease.last_word:
            return False
        try:
            self._place = self._read()
        except CannotContinue as why:
            log.info("the answer of provider %s cannot be continued: %s", lease.provider, why)
            return False
        self._broken, self._failure = attempt, failure.kind
        return True

    def _read(self) -> Place:
        if self._size > KEPT_BYTES:
            raise CannotContinue(f"more than {KEPT_BYTES} bytes were sent")
        return place_of(self.call.endpoint, self.call.body, b"".join(self._sent))

    async def go_on(self, run: Request, deadline: Deadline) -> bool:
        """Ask one provider after the other for the rest. True: `run.attempt` has it; False: nobody could.

        Raises what ends the request at once: CallerLeft, the caller's own deadline, the end of the process.
        """
        assert self._broken is not None
        self.used = added(self.used, self._broken.usage or Usage(estimated=True))
        if not run.history.longer_context:
            run.plan.restart()  # it may be long ago that they were put in order
        message: Any = Advance(run.plan)
        while run.history.attempts < run.retry.max_attempts and run.killed is None:
            try:
                lease = await run.obtain(message)
            except InfermuxError:
                if deadline.own and trio.current_time() >= deadline.at:
                    raise
                return False
            attempt = run.attempt = self._attempt(lease, deadline, run)
            failure = await attempt.go_on(run.caller)
            if failure is None:
                self._went_on(lease, self._broken)
                return True
            log.info("provider %s could not go on with it: %s", lease.provider, failure.message[:MOST_LOGGED])
            run.count_failure(attempt, failure)
            run.attempt = None
            message = Advance(run.plan)
            if self._prefills and failure.kind is FailureKind.CALLER and failure.status not in _OF_CREDENTIALS:
                self.rescue.refused(lease)  # the model takes no beginning of its answer: it is asked to go on instead
                run.plan.staying, message = attempt.choice, Again(run.plan)
        return False

    def _attempt(self, lease: Lease, deadline: Deadline, run: Request) -> Attempt:
        place = self._place
        assert place is not None
        self._prefills = self.rescue.prefills(lease)
        body = continued_body(self.call.body, place, prefill=self._prefills, used=self.used.completion_tokens)
        counted = prompt_tokens if self.call.endpoint is Endpoint.CHAT else message_tokens
        mark = self._mark(lease, run.attempts + 1)
        joint = Joint(place, prefill=self._prefills, mark=mark, before=self.used, now=int(time.time()))
        return Attempt(
            lease=lease,
            want=msgspec.structs.replace(self.want, prompt_tokens=counted(body)),
            call=msgspec.structs.replace(self.call, body=body),
            deadline=deadline,
            choice=run.plan.last,
            committed=True,
            join=lambda stream: JoinedStream(stream, joint),
        )

    def _went_on(self, lease: Lease, broken: Attempt) -> None:
        self.rescues.append(
            Rescued(
                provider=broken.lease.provider,
                model=broken.lease.model,
                failure=self._failure,
                usage=broken.usage or Usage(estimated=True),
                by=lease.provider,
                by_model=lease.model,
                prefilled=self._prefills,
            )
        )
        words = "the answer of provider %s broke (%s); provider %s goes on with it"
        log.warning(words, broken.lease.provider, self._failure.value, lease.provider)

    def _mark(self, lease: Lease, attempts: int) -> bytes:
        """A comment, which readers of event streams pass over."""
        assert self._broken is not None
        told = {
            "from": [*(rescued.provider for rescued in self.rescues), self._broken.lease.provider],
            "to": lease.provider,
            "attempts": attempts,
        }
        return b": infermux-rescued %b\n\n" % msgspec.json.encode(told)


@attrs.define(eq=False)
class KeepingSink:
    """A sink that keeps what goes through."""

    _sink: Sink
    _rescuer: Rescuer

    def send_now(self, data: bytes) -> bool:
        return self._sink.send_now(self._rescuer.keep(data))

    async def flush(self) -> None:
        await self._sink.flush()
