"""One request from its first lease to its last byte.

`Run` is the request's state machine: queued, leasing, connecting, waiting (for the first token, or for the whole
answer), pausing before the same provider is asked again, streaming, done. It works in the caller's own task. What one
try comes to is `attempt`'s business, what follows from it is decided in `verdict`, who is asked by the router's actor.
It knows no HTTP: the caller is a `Caller`, the way out a `Sink`.
"""

from __future__ import annotations

import enum
import math
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, NoReturn

import attrs
import trio

from infermux.config.settings import Retry
from infermux.errors import (
    CallerLeft,
    InfermuxError,
    NoHealthyProviders,
    NotCarried,
    Overloaded,
    ShuttingDown,
    UpstreamFailure,
)
from infermux.providers.interface import Answer, Call, Stream, Usage
from infermux.providers.joint import added

from .attempt import Attempt, Caller, Commit, Deadline
from .hedging import Hedging, Race
from .hold_back import HoldBack
from .homes import Homes
from .kit_errors import ActorDied, MailboxFull
from .lease import Lease
from .messages import Reason, Want
from .plan import Plan, Refusal
from .pump import Sink, pump
from .ref import Ref
from .rescue import Rescue, Rescued, Rescuer
from .router import Advance, Again, Longer, Stay
from .treasury import Account
from .verdict import Failed, History, Move, broken_error

ROUTER_RESTARTS = 20  # waits for a crashed router actor ...
ROUTER_PAUSE = 0.1  # ... seconds each


class Phase(enum.Enum):
    QUEUED = "queued"
    LEASING = "leasing"
    CONNECTING = "connecting"
    WAITING = "waiting"
    PAUSING = "pausing"
    FOLLOWING = "following"
    STREAMING = "streaming"
    DONE = "done"


@attrs.define(eq=False, kw_only=True)
class Run:
    """One request. `call` is what is sent, but for the model, which each lease decides.

    Use: `begin`, then for a stream `pump` or `receive` until the end; `close` in a `finally`. `timeout` is the
    caller's own, in seconds, or None. `homes`: who keeps the response is remembered there. `committed`: a part of the
    answer has gone to the caller. `trail` has every attempt's lease, in the order of their beginning; `waited` seconds
    went by in queues and pauses. `passed_over`: the pairs of provider and model that could not be given what was asked,
    which are no attempts. `account` is with the budgets it is under. `killed` is what the caller of a killed one
    is told.
    """

    router: Ref[Any]
    want: Want
    call: Call
    caller: Caller
    retry: Retry
    rng: random.Random
    hold_back: HoldBack | None = None
    hedging: Hedging | None = None
    rescue: Rescue | None = None
    homes: Homes | None = None
    timeout: float | None = None
    plan: Plan = attrs.field(init=False)
    history: History = attrs.field(init=False)
    started_at: float = attrs.field(factory=trio.current_time)
    attempt: Attempt | None = None
    usage: Usage | None = None
    trail: list[Lease] = attrs.field(factory=list[Lease])
    account: Account | None = None
    waited: float = 0.0
    killed: InfermuxError | None = None
    passed_over: dict[tuple[str, str], NotCarried] = attrs.field(factory=dict[tuple[str, str], NotCarried])
    _waiting: trio.CancelScope | None = None  # without a lease: in a queue, or in a pause
    _phase: Phase = Phase.LEASING
    _deadline: Deadline = attrs.field(init=False)
    _pause: float = 0.0
    _beside: int = 0
    _whole: bool = False
    _broken: InfermuxError | None = None
    _rescuer: Rescuer | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self.plan = Plan(self.want)
        self.history = History(self.retry, self.call.stream)
        timeout = self.timeout
        if timeout is None:
            self._deadline = Deadline(self.started_at)
        else:
            self._deadline = Deadline(self.started_at, self.started_at + timeout, own=True)
            self.plan.deadline = self._deadline.at
        if self.rescue is not None and self.call.stream:
            self._rescuer = Rescuer(self.rescue, self.call, self.want)

    @property
    def phase(self) -> Phase:
        attempt = self.attempt
        if self._phase is Phase.WAITING and attempt is not None and attempt.connecting:
            return Phase.CONNECTING
        return self._phase

    @property
    def lease(self) -> Lease | None:
        """The lease of the attempt under way, or of the one that answered."""
        return None if self.attempt is None else self.attempt.lease

    @property
    def attempts(self) -> int:
        """Attempts so far, the one under way or the successful one included, and those that ran beside it."""
        return self.history.attempts + self._beside + (self.attempt is not None)

    @property
    def committed(self) -> bool:
        return self.attempt is not None and self.attempt.committed

    @property
    def rescues(self) -> Sequence[Rescued]:
        """Who broke off in the middle of the answer, and who went on with it."""
        return () if self._rescuer is None else self._rescuer.rescues

    # Until the commit point: an attempt that fails is replaced unseen.

    async def begin(self, commit: Commit | None = None) -> Answer | Stream:
        """Make attempts until one has an answer, or the first content of a stream.

        With `commit`, a stream whose start-up events were held back for two seconds is given to the caller before its
        first content. Raises an `InfermuxError` when no attempt has an answer or a budget no room, CallerLeft when the
        caller left.
        Cancellation ends the attempt; `close` releases its lease.
        """
        if self.account is not None:
            await self.account.open()
        message: Any = Advance(self.plan)
        if commit is not None and self._rescuer is not None:
            commit = self._rescuer.committing(commit)
        while True:
            if self.killed is not None:
                raise self.killed
            self._phase = Phase.LEASING
            lease = await self.obtain(message)
            attempt = self.attempt = self._attempt(lease)
            self._phase = Phase.WAITING
            after = self._hedge_after(attempt)
            try:
                if after is None:
                    failure = await attempt.begin(self.caller, self.hold_back, commit)
                else:
                    attempt, failure = await self._race(attempt, after, commit)
            except NotCarried as refusal:
                self._pass_over(attempt, refusal)
                message = Advance(self.plan)
                continue
            if failure is None:
                self.caller.watch(None)
                return self._begun(attempt)
            if attempt.committed:
                await self._rescue(attempt, failure)
                assert self.attempt is not None
                assert self.attempt.stream is not None
                return self.attempt.stream
            message = self._after(attempt, failure)

    def _attempt(self, lease: Lease) -> Attempt:
        if self._deadline.at == math.inf:
            # From here on: who waits in the queue, or for a first probe, has a bound of another kind.
            self._deadline = self._bounded(trio.current_time())
        return self._made(lease, self.plan)

    def _made(self, lease: Lease, plan: Plan) -> Attempt:
        return Attempt(
            lease=lease,
            want=self.want,
            call=self.call,
            deadline=self._deadline,
            choice=plan.last,
            homes=self.homes,
        )

    def _bounded(self, since: float) -> Deadline:
        route = self.plan.route
        return Deadline(since, since + 2 * (route.longest_timeout if route is not None else math.inf))

    # A second attempt beside one that is slow.

    def _hedge_after(self, attempt: Attempt) -> float | None:
        hedging = self.hedging
        if hedging is None or self.call.upload is not None or self.attempts >= self.retry.max_attempts:
            return None
        if self.attempts == 1 and not self.passed_over:
            hedging.note_request()
        return hedging.after(attempt.lease.provider, stream=self.call.stream)

    async def _race(
        self, first: Attempt, after: float, commit: Commit | None
    ) -> tuple[Attempt, UpstreamFailure | None]:
        """Run `first`, and another one beside it when it is slow: the attempt that counts, with its failure if any.

        Raises NotCarried where none of them could be given what was asked.
        """
        race = Race(self.caller, self.hold_back, commit)
        try:
            await race.run(first, after, lambda: self._second(first))
        except BaseException:
            for attempt, failure in race.failures:
                attempt.failed(failure)
            for attempt in race.attempts:
                attempt.abandon()
            raise
        for other in race.others:
            self._beside += 1
            self._note(other)
            other.abandon()
        for refusing, refusal in race.refusals:
            self._pass_over(refusing, refusal)
        if race.winner is not None:
            self.attempt = race.winner
            ending = [failure for attempt, failure in race.failures if attempt is race.winner]
            for attempt, failure in race.failures:
                if attempt is not race.winner:
                    self.count_failure(attempt, failure)
            return race.winner, ending[0] if ending else None
        if not race.failures:
            raise race.refusals[0][1]
        *before, (attempt, failure) = race.failures
        for earlier, its in before:
            self.count_failure(earlier, its)
        self.attempt = attempt
        return attempt, failure

    async def _second(self, first: Attempt) -> Attempt | None:
        """Another provider's attempt with the same model, if there is one and the share of such attempts allows it."""
        hedging, lease, plan = self.hedging, first.lease, self.plan
        if hedging is None or not hedging.take():
            return None
        tried = {*plan.tried, (lease.provider, lease.model)}
        aside = Plan(self.want, beside=lease.model, tried=tried, silent={*plan.silent, lease.provider})
        granted: Any = None
        try:
            reply = self.router.request(Advance(aside))
            granted = reply.take() if reply.done else await reply.wait()
        except (MailboxFull, ActorDied):
            pass  # the first one goes on alone
        if not isinstance(granted, Lease):
            hedging.give_back()
            return None
        self.trail.append(granted)
        return self._made(granted, aside)

    def _note(self, attempt: Attempt) -> None:
        """How long it took to its first token, or until it was given up, which is shorter than it would have been."""
        if self.hedging is not None:
            at = attempt.first_token_at
            seconds = attempt.seconds if at is None else at - attempt.lease.granted_at
            self.hedging.note(attempt.lease.provider, seconds, stream=self.call.stream)

    def _begun(self, attempt: Attempt) -> Answer | Stream:
        self._note(attempt)
        if attempt.answer is None:
            assert attempt.stream is not None
            return attempt.stream
        self.usage = attempt.succeeded()
        self._phase = Phase.DONE
        return attempt.answer

    def _after(self, attempt: Attempt, failure: UpstreamFailure) -> Any:
        """Account for a failed attempt. Returns what to ask the router next, or raises what the caller is told."""
        plan, history = self.plan, self.history
        self.count_failure(attempt, failure)
        self.attempt = None
        upload = self.call.upload
        if upload is not None and upload.spent:
            raise history.error()
        then = history.decide(self._deadline.at - trio.current_time(), self.rng)
        match then.move:
            case Move.GIVE_UP:
                raise history.error()
            case Move.LONGER_CONTEXT:
                history.longer_context = True
                return Longer(plan)
            case Move.STAY:
                plan.staying, self._pause = attempt.choice, then.wait
            case Move.ELSEWHERE:
                pass
        return Advance(plan)

    def _pass_over(self, attempt: Attempt, refusal: NotCarried) -> None:
        """This provider cannot be given what was asked: it had no attempt, and another one may have a place for it."""
        pair = (attempt.lease.provider, attempt.lease.model)
        self.passed_over.setdefault(pair, refusal)
        self.plan.tried.add(pair)
        self.plan.parked = False
        self.trail = [lease for lease in self.trail if lease is not attempt.lease]
        self.attempt = None

    def count_failure(self, attempt: Attempt, failure: UpstreamFailure) -> None:
        """Account for a failed attempt: its provider is not asked again, and its lease is released."""
        lease, plan = attempt.lease, self.plan
        plan.staying = None
        self.history.failed.append(Failed(lease.provider, lease.model, failure, lease.other_keys > 0))
        plan.tried.add((lease.provider, lease.model))
        plan.parked = False  # a further wait for a first probe has a bound of its own
        if failure.kind.is_timeout:
            plan.silent.add(lease.provider)
        attempt.failed(failure)

    # Leases.

    async def obtain(self, message: Any) -> Lease:
        """A lease on the next candidate; the pause before the same provider is asked again is made here."""
        restarts = 0
        while True:
            try:
                granted = await self._ask(message)
            except MailboxFull as full:
                raise Overloaded(
                    "the router has more requests waiting than it can hold; try again", retry_after=1
                ) from full
            except ActorDied as died:
                restarts += 1
                await self._after_death(restarts, died)
                message = Advance(self.plan)
                continue
            if isinstance(granted, Lease):
                self.trail.append(granted)
                return granted
            if granted is Stay.HERE:
                await self._wait(self._pause)
                message = Again(self.plan)
                continue
            if self.history.failed:
                raise self.history.error()
            raise next(iter(self.passed_over.values()), granted)

    async def _ask(self, message: Any) -> Any:
        """Ask the router. Mostly the answer is there at once; a wait in its queue has a scope of its own."""
        reply = self.router.request(message)
        if reply.done:
            return reply.take()
        self._phase = Phase.QUEUED
        since = trio.current_time()
        try:
            with trio.CancelScope(deadline=self._deadline.at) as scope:
                self._waiting = scope
                self.caller.watch(scope)
                granted = await reply.wait()
                self._phase = Phase.LEASING
                return granted
        finally:
            self._waiting = None
            self.waited += trio.current_time() - since
        self._gave_up()

    async def _wait(self, seconds: float) -> None:
        await self._aside(Phase.PAUSING, partial(trio.sleep, seconds))

    async def follow(self, over: Callable[[], Awaitable[None]]) -> None:
        """Wait until `over` returns: for another request, whose answer may do for this one too.

        Raises CallerLeft, DeadlineExceeded by the caller's own deadline, and what the request was killed with.
        """
        await self._aside(Phase.FOLLOWING, over)

    async def _aside(self, phase: Phase, wait: Callable[[], Awaitable[None]]) -> None:
        """Wait without a lease, for something that is not the router."""
        self._phase = phase
        since = trio.current_time()
        try:
            with trio.CancelScope(deadline=self._deadline.at) as scope:
                self._waiting = scope
                self.caller.watch(scope)
                await wait()
                self._phase = Phase.LEASING
                return
        finally:
            self._waiting = None
            self.waited += trio.current_time() - since
        self._gave_up()

    def _gave_up(self) -> NoReturn:
        """A wait without a lease was cancelled."""
        if self.caller.left:
            raise CallerLeft
        raise self.killed or self._deadline.error(None)

    async def _after_death(self, restarts: int, died: ActorDied) -> None:
        """A provider's actor crashed under us: go on without it. The router's own: wait for its restart."""
        if died.name != self.router.name:
            self.plan.silent.add(died.name)
            self.plan.refuse(Refusal(died.name, Reason.CRASHED))
        elif restarts > ROUTER_RESTARTS:
            raise NoHealthyProviders("the router is restarting; try again", retry_after=1) from died
        else:
            self.plan.parked = False  # what would have ended its wait for a first probe died as well
            await self._wait(ROUTER_PAUSE)

    # After the commit point: nothing is replaced, an end is honest. Where it is turned on, another provider goes on.

    async def pump(self, sink: Sink) -> None:
        """Send the stream's bytes to `sink` as they come, until its genuine end.

        Raises an `InfermuxError` when the stream breaks or stalls, for the caller to be told in-band; CallerLeft when
        it left; whatever the sink raises.
        """
        if self._rescuer is not None:
            sink = self._rescuer.keeping(sink)
        while self._phase is not Phase.DONE:
            attempt = self.attempt
            assert attempt is not None
            failure = await self._pump(attempt, sink)
            words = b"" if failure is None else attempt.last_words()
            if failure is not None and words is None:
                await self._rescue(attempt, failure)
                continue
            self._ended_well(attempt)
            if words:
                sink.send_now(words)

    async def _pump(self, attempt: Attempt, sink: Sink) -> UpstreamFailure | None:
        failure: UpstreamFailure | None = None
        ended = False
        with trio.CancelScope() as scope:
            self._phase = Phase.STREAMING
            attempt.committed = True
            self.caller.watch(scope)
            attempt.lease.run_in(scope)
            try:
                await pump(attempt, sink, scope)
                ended = True
            except UpstreamFailure as failed:
                failure = failed
        self.caller.watch(None)
        if ended:
            return None
        return failure or self._why_stalled(attempt)

    async def receive(self) -> bytes | None:
        """The next bytes of the stream, None at its genuine end: for those who read instead of being pumped to."""
        while self._phase is not Phase.DONE:
            attempt = self.attempt
            assert attempt is not None
            self._phase = Phase.STREAMING
            attempt.committed = True
            chunk, failure = await self._receive(attempt)
            if failure is not None and (chunk := attempt.last_words()) is None:
                await self._rescue(attempt, failure)
                continue
            if failure is not None or chunk is None:
                self._ended_well(attempt)
            if chunk:
                return chunk if self._rescuer is None else self._rescuer.keep(chunk)
        self._check_whole()
        return None

    async def _receive(self, attempt: Attempt) -> tuple[bytes | None, UpstreamFailure | None]:
        if attempt.held:
            held, attempt.held = attempt.held, b""
            return held, None
        idle = attempt.lease.settings.timeouts.idle
        with trio.CancelScope(deadline=min(trio.current_time() + idle, attempt.last_moment)) as scope:
            attempt.lease.run_in(scope)
            self.caller.watch(scope)
            try:
                return await attempt.next(), None
            except UpstreamFailure as failed:
                return None, failed
        return None, self._why_stalled(attempt)

    async def _rescue(self, attempt: Attempt, failure: UpstreamFailure) -> None:
        """The stream broke after the commit point: another attempt goes on with it, or the caller is told."""
        rescuer = self._rescuer
        if rescuer is None or not rescuer.begin(attempt, failure):
            self._broke(attempt, failure)
        self.count_failure(attempt, failure)
        self.attempt = None
        if not self._deadline.own:
            self._deadline = self._bounded(trio.current_time())
        try:
            if not await rescuer.go_on(self, self._deadline):
                self._tell(attempt.lease, failure)
        except BaseException as error:
            self._broken = error if isinstance(error, InfermuxError) else None
            self.close()
            raise
        self.caller.watch(None)

    def _check_whole(self) -> None:
        """Who reads on after the end is told the same again: only a genuine end is a clean one."""
        if self._broken is not None:
            raise self._broken
        if not self._whole:
            raise trio.ClosedResourceError("this run was closed before its stream ended")

    def _why_stalled(self, attempt: Attempt) -> UpstreamFailure:
        try:
            if self.caller.left:
                raise CallerLeft
            return attempt.why_stalled(trio.current_time())
        except BaseException:
            self.close()
            raise

    def _ended_well(self, attempt: Attempt) -> None:
        self.usage = attempt.succeeded()
        if self.rescues and self._rescuer is not None:
            self.usage = added(self._rescuer.used, self.usage)
        self._phase = Phase.DONE
        self._whole = True

    def _broke(self, attempt: Attempt, failure: UpstreamFailure) -> NoReturn:
        """The stream broke after the commit point: account for it, and raise what the caller is told in-band."""
        attempt.failed(failure)
        self._tell(attempt.lease, failure)

    def _tell(self, lease: Lease, failure: UpstreamFailure) -> NoReturn:
        self._phase = Phase.DONE
        if self.killed is not None:
            self._broken = self.killed
        elif lease.revoked is not None:
            self._broken = ShuttingDown(f"the answer of provider {lease.provider} was cut: {lease.revoked}")
        else:
            self._broken = broken_error(Failed(lease.provider, lease.model, failure), max(self.history.attempts, 1))
        raise self._broken

    # Always.

    def kill(self, error: InfermuxError) -> None:
        """End it at its next wait, what is sent upstream too: its caller is told `error`. Nothing when it has ended."""
        self.killed = error
        for lease in self.trail:
            if not lease.is_released:
                lease.revoke(error.message, last_word=True, error=error)
        if self._waiting is not None:
            self._waiting.cancel()

    def close(self) -> None:
        """End what is under way: the lease is released as cancelled, the upstream closed. Synchronous, idempotent."""
        self.caller.watch(None)
        if self.attempt is not None:
            self.attempt.abandon()
        if self.account is not None:
            self.account.close(self.trail)
        self._phase = Phase.DONE


class Anyone:
    """A caller that never leaves: for programs that embed the router and cancel by trio's own means."""

    left = False

    def watch(self, scope: trio.CancelScope | None) -> None:
        """Nothing to watch."""
