"""One request from its first lease to its last byte.

`Run` is the request's state machine: queued, leasing, connecting, waiting (for the first token, or for the whole
answer), pausing before the same provider is asked again, streaming, done. It works in the caller's own task. What one
try comes to is `attempt`'s business, what follows from it is decided in `verdict`, who is asked by the router's actor.
It knows no HTTP: the caller is a `Caller`, the way out a `Sink`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NoReturn

import msgspec
import trio

from infermux.config.checks import goes_without
from infermux.config.settings import Retry
from infermux.errors import (
    BudgetExceeded,
    CallerLeft,
    InfermuxError,
    NotCarried,
    ShuttingDown,
    UpstreamFailure,
)
from infermux.providers.arrivals import Arrivals
from infermux.providers.interface import Answer, Call, Stream, Usage
from infermux.providers.joint import added

from .alarms import Alarms
from .attempt import Attempt, Commit
from .caller import Caller, Deadline
from .hedging import Hedging, Race, beside
from .hold_back import HoldBack
from .homes import Homes
from .kit_errors import ActorDied
from .lease import Lease
from .leasing import Leasing
from .mailbox import NOT_NOW, NotNow
from .messages import Want
from .phase import Phase
from .plan import Plan
from .pump import Sink, pump, receive
from .ref import Ref
from .rescue import Rescue, Rescued, Rescuer
from .router_messages import Advance, Longer
from .treasury import Account
from .verdict import Failed, History, Move, broken_error

_NEVER: Final = math.inf
# Members of an enum are looked up in Python code, and these at every request.
_LEASING: Final = Phase.LEASING
_WAITING: Final = Phase.WAITING
_STREAMING: Final = Phase.STREAMING
_DONE: Final = Phase.DONE


class Run(msgspec.Struct, eq=False):
    """One request. `call` is what is sent, but for the model, which each lease decides. Made by `Fleet.run`.

    Use: `begin`, then for a stream `pump` or `receive` until the end; `close` in a `finally`. `homes`: who keeps the
    response is remembered there. `trail` has every attempt's lease, in the order of their beginning. `passed_over`: the
    pairs of provider and model that could not be given what was asked, which are no attempts. `account` is with the
    budgets it is under. `killed` is what the caller of a killed one is told.
    """

    router: Ref[Any]
    want: Want
    call: Call
    caller: Caller
    retry: Retry
    rng: random.Random
    plan: Plan
    history: History
    deadline: Deadline
    leasing: Leasing
    started_at: float
    hold_back: HoldBack | None = None
    arrivals: Arrivals | None = None
    alarms: Alarms | None = None
    hedging: Hedging | None = None
    rescue: Rescue | None = None
    homes: Homes | None = None
    account: Account | None = None
    now: Callable[[], float] = trio.current_time
    attempt: Attempt | None = None
    usage: Usage | None = None
    trail: list[Lease] = []
    killed: InfermuxError | None = None
    passed_over: dict[tuple[str, str], NotCarried] = {}
    _phase: Phase = _LEASING
    _beside: int = 0
    _whole: bool = False
    _broken: InfermuxError | None = None
    _rescuer: Rescuer | None = None

    def __post_init__(self) -> None:
        if self.rescue is not None and self.call.stream:
            self._rescuer = Rescuer(self.rescue, self.call, self.want)

    @property
    def phase(self) -> Phase:
        attempt, waiting = self.attempt, self.leasing.phase
        if self._phase is _WAITING and attempt is not None and attempt.connecting:
            return Phase.CONNECTING
        return self._phase if waiting is None or self._phase is _DONE else waiting

    @property
    def waited(self) -> float:
        """Seconds that went by in queues, and in pauses before the same provider was asked again."""
        return self.leasing.waited

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
        """Whether a part of the answer has gone to the caller."""
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
            try:
                self.account.open()
            except BudgetExceeded as refused:
                await self.account.open_when_supplied(refused)
        message: Any = None  # of a new request: nothing has to be told, if those who are asked are idle
        if commit is not None and self._rescuer is not None:
            commit = self._rescuer.committing(commit)
        while True:
            if self.killed is not None:
                raise self.killed
            self._phase = _LEASING
            lease = self._leased_at_once() if message is None else None
            if lease is None:
                lease = await self.obtain(message or Advance(self.plan))
            attempt = self.attempt = self._attempt(lease, self.plan)
            self._phase = _WAITING
            after = None if self.hedging is None else self._hedge_after(attempt)
            try:
                if after is None or self.hedging is None:
                    failure = await attempt.begin(self.caller, self.hold_back, commit)
                else:
                    attempt, failure = await self._race(attempt, after, commit, self.hedging)
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

    def _attempt(self, lease: Lease, plan: Plan) -> Attempt:
        # By position, as all that each request makes: to find many fields by their names takes ten times as long.
        return Attempt(lease, self.want, self.call, self.deadline, plan.last, self.homes, self.alarms, self.now)

    def _count_from(self, at: float) -> None:
        route = self.plan.route
        self.deadline.begin(at, 2 * (route.longest_timeout if route is not None else math.inf))

    # A second attempt beside one that is slow.

    def _hedge_after(self, attempt: Attempt) -> float | None:
        hedging = self.hedging
        if hedging is None or self.call.upload is not None or self.attempts >= self.retry.max_attempts:
            return None
        if self.attempts == 1 and not self.passed_over:
            hedging.note_request()
        return hedging.after(attempt.lease.provider, stream=self.call.stream)

    async def _race(
        self, first: Attempt, after: float, commit: Commit | None, hedging: Hedging
    ) -> tuple[Attempt, UpstreamFailure | None]:
        """Run `first`, and another one beside it when it is slow: the attempt that counts, with its failure if any.

        Raises NotCarried where none of them could be given what was asked.
        """

        async def second() -> Attempt | None:
            found = await beside(first, self.plan, self.router, hedging)
            if found is None:
                return None
            lease, aside = found
            return self._attempt(self._noted(lease), aside)

        race = Race(self.caller, self.hold_back, commit)
        await race.run(first, after, second)
        for other in race.others:
            self._beside += 1
            hedging.note_attempt(other)
            other.abandon()
        for refusing, refusal in race.refusals:
            self._pass_over(refusing, refusal)
        self.attempt, failure = race.outcome()
        for other, its in race.failures:
            if other is not self.attempt:
                self.count_failure(other, its)
        return self.attempt, failure

    def _begun(self, attempt: Attempt) -> Answer | Stream:
        if self.hedging is not None:
            self.hedging.note_attempt(attempt)
        if attempt.answer is None:
            assert attempt.stream is not None
            return attempt.stream
        self.usage = attempt.succeeded()
        self._phase = _DONE
        return attempt.answer

    def _after(self, attempt: Attempt, failure: UpstreamFailure) -> Any:
        """Account for a failed attempt. Returns what to ask the router next, or raises what the caller is told."""
        plan, history = self.plan, self.history
        self.count_failure(attempt, failure)
        self.attempt = None
        upload = self.call.upload
        if upload is not None and upload.spent:
            raise history.error()
        then = history.decide(self.deadline.at - trio.current_time(), self.rng)
        match then.move:
            case Move.GIVE_UP:
                raise history.error()
            case Move.LONGER_CONTEXT:
                history.longer_context = True
                return Longer(plan)
            case Move.STAY:
                plan.staying, self.leasing.pause = attempt.choice, then.wait
            case Move.ELSEWHERE:
                pass
        return Advance(plan)

    def _pass_over(self, attempt: Attempt, refusal: NotCarried) -> None:
        """This provider cannot be given what was asked: it had no attempt, and another one may have a place for it."""
        pair = (attempt.lease.provider, attempt.lease.model)
        refusal.__traceback__ = None  # it is kept with the decision, and its frames have the body
        self.passed_over.setdefault(pair, refusal)
        self.plan.tried |= {pair}
        self.plan.parked = False
        self.trail = [lease for lease in self.trail if lease is not attempt.lease]
        self.attempt = None

    def count_failure(self, attempt: Attempt, failure: UpstreamFailure) -> None:
        """Account for a failed attempt: its provider is not asked again, and its lease is released."""
        lease, plan = attempt.lease, self.plan
        plan.staying = None
        entry = Failed(lease.provider, lease.model, failure, lease.other_keys > 0, goes_without(lease.settings))
        self.history.failed.append(entry)
        plan.tried |= {(lease.provider, lease.model)}
        plan.parked = False  # a further wait for a first probe has a bound of its own
        if failure.kind.is_timeout:
            plan.silent |= {lease.provider}
        attempt.failed(failure)

    # Leases.

    async def follow(self, over: Callable[[], Awaitable[None]]) -> None:
        """Wait until `over` returns, for another request whose answer may do for this one too.

        Raises CallerLeft, DeadlineExceeded by the caller's own deadline, and what the request was killed with.
        """
        if self.killed is not None:
            raise self.killed
        await self.leasing.follow(over)

    async def obtain(self, message: Any) -> Lease:
        """A lease on the next candidate; the pause before the same provider is asked again is made here."""
        granted = await self.leasing.obtain(message)
        if isinstance(granted, Lease):
            return self._noted(granted)
        if self.history.failed or granted is None:
            raise self.history.error()
        raise next(iter(self.passed_over.values()), granted)

    def _leased_at_once(self) -> Lease | None:
        """A new plan's lease where the actors it needs are idle, as mostly; None: `obtain` has to.

        It is what `Advance` would be answered with, by the same decisions in the same order, with no message sent.
        """
        try:
            granted: Lease | InfermuxError | NotNow | None = self.router.call("lease", self.plan, self.now())
        except ActorDied:
            return None  # who asks it now learns so too, and waits for its restart
        if granted is None or granted is NOT_NOW:
            return None
        if isinstance(granted, Lease):
            return self._noted(granted)
        if self.leasing.supply is not None:
            return None  # what it lacks may be on its way from Redis
        raise granted

    def _noted(self, granted: Lease) -> Lease:
        deadline = self.deadline
        if deadline.at == _NEVER:
            # From here on: who waits in the queue, or for a first probe, has a bound of another kind.
            self._count_from(granted.granted_at)
        self.trail.append(granted)
        if self.killed is not None:  # while it was on its way here: `kill` has not found it
            granted.revoke(self.killed.message, last_word=True, error=self.killed)
        return granted

    # After the commit point: nothing is replaced, an end is honest. Where it is turned on, another provider goes on.

    async def pump(self, sink: Sink) -> None:
        """Send the stream's bytes to `sink` as they come, until its genuine end.

        Raises an `InfermuxError` when the stream breaks or stalls, for the caller to be told in-band; CallerLeft when
        it left; whatever the sink raises.
        """
        if self._rescuer is not None:
            sink = self._rescuer.keeping(sink)
        elif self.attempt is not None:
            # Nobody is sent it again: thousands of streams would keep theirs to their end.
            self.call = self.attempt.call = msgspec.structs.replace(self.call, body=b"")
            self.plan.tiers = None
        while self._phase is not _DONE:
            attempt = self._streaming()
            try:
                failure = await pump(attempt, sink, self.caller, self.arrivals, self.alarms)
            except (InfermuxError, CallerLeft):
                self.close()
                raise
            words = b"" if failure is None else attempt.last_words()
            if failure is not None and words is None:
                await self._rescue(attempt, failure)
                continue
            self._ended_well(attempt)
            if words:
                sink.send_now(words)

    async def receive(self) -> bytes | None:
        """The next bytes of the stream, None at its genuine end: for those who read instead of being pumped to."""
        while self._phase is not _DONE:
            attempt = self._streaming()
            try:
                chunk, failure = await receive(attempt, self.caller)
            except (InfermuxError, CallerLeft):
                self.close()
                raise
            if failure is not None and (chunk := attempt.last_words()) is None:
                await self._rescue(attempt, failure)
                continue
            if failure is not None or chunk is None:
                self._ended_well(attempt)
            if chunk:
                return chunk if self._rescuer is None else self._rescuer.keep(chunk)
        # Who reads on after the end is told the same again: only a genuine end is a clean one.
        if self._broken is not None:
            raise self._broken
        if not self._whole:
            raise trio.ClosedResourceError("this run was closed before its stream ended")
        return None

    def _streaming(self) -> Attempt:
        attempt = self.attempt
        assert attempt is not None
        self._phase = _STREAMING
        attempt.committed = True
        return attempt

    async def _rescue(self, attempt: Attempt, failure: UpstreamFailure) -> None:
        """The stream broke after the commit point: another attempt goes on with it, or the caller is told."""
        rescuer = self._rescuer
        if rescuer is None or not rescuer.begin(attempt, failure):
            attempt.failed(failure)
            self._tell(attempt.lease, failure)
        self.count_failure(attempt, failure)
        self.attempt = None
        self._count_from(trio.current_time())
        try:
            if not await rescuer.go_on(self, self.deadline):
                self._tell(attempt.lease, failure)
        except BaseException as error:
            self._broken = error if isinstance(error, InfermuxError) else None
            self.close()
            raise
        self.caller.watch(None)

    def _ended_well(self, attempt: Attempt) -> None:
        self.usage = attempt.succeeded()
        if self.rescues and self._rescuer is not None:
            self.usage = added(self._rescuer.used, self.usage)
        self._phase = _DONE
        self._whole = True

    def _tell(self, lease: Lease, failure: UpstreamFailure) -> NoReturn:
        """Raise what the caller is told in-band."""
        self._phase = _DONE
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
        self.leasing.kill(error)

    def close(self) -> None:
        """End what is under way: the lease is released as cancelled, the upstream closed. Synchronous, idempotent."""
        self.caller.watch(None)
        attempt = self.attempt
        if attempt is not None and (attempt.stream is not None or not attempt.lease.is_released):
            attempt.abandon()
        if self.account is not None:
            self.account.close(self.trail)
        self._phase = _DONE
