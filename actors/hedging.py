"""A second attempt beside one that is slower than it usually is: the first token wins."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import trio

from infermux.config.settings import Hedge
from infermux.config.values import duration
from infermux.errors import CallerError, CallerLeft, InfermuxError, NotCarried, UpstreamFailure
from infermux.providers.interface import Stream

from .attempt import Attempt, Commit
from .caller import Caller
from .hold_back import HoldBack
from .kit_errors import ActorDied, MailboxFull
from .lease import Lease
from .plan import Plan
from .ref import Ref
from .router_messages import Advance

KEPT_TIMES = 200  # of one provider, streams and whole answers apart
ENOUGH_TIMES = 20  # below it a percentile says nothing
CREDIT = 10.0  # second attempts that quiet times may save up


@attrs.define(eq=False)
class Times:
    """How long the last attempts at one provider took to their first token, in seconds."""

    _kept: deque[float] = attrs.field(factory=lambda: deque[float](maxlen=KEPT_TIMES))

    def note(self, seconds: float) -> None:
        self._kept.append(seconds)

    def percentile(self, percent: int) -> float | None:
        """By nearest rank; None while too few are known."""
        if len(self._kept) < ENOUGH_TIMES:
            return None
        return sorted(self._kept)[(percent * len(self._kept) + 99) // 100 - 1]


@attrs.define(eq=False)
class Hedging:
    """When a second attempt is due, and whether there may be one. One for all requests of a router.

    There is never more than `max_extra_ratio` of second attempts per request since the start.
    """

    settings: Hedge
    _times: dict[tuple[str, bool], Times] = attrs.field(factory=dict[tuple[str, bool], Times])
    _credit: float = 0.0
    _percent: int | None = attrs.field(init=False, default=None)
    _seconds: float = attrs.field(init=False, default=0.0)

    def __attrs_post_init__(self) -> None:
        after = self.settings.after
        if after.startswith("p"):
            self._percent = int(after[1:])
        else:
            self._seconds = duration(after)

    def after(self, provider: str, *, stream: bool) -> float | None:
        """Seconds to wait for this provider's first token (or whole answer); None: nobody can say."""
        if self._percent is None:
            return self._seconds
        times = self._times.get((provider, stream))
        return None if times is None else times.percentile(self._percent)

    def note(self, provider: str, seconds: float, *, stream: bool) -> None:
        """An attempt had its first token or answer, or was given up for another one, after so long."""
        times = self._times.get((provider, stream))
        if times is None:
            times = self._times[provider, stream] = Times()
        times.note(seconds)

    def note_attempt(self, attempt: Attempt) -> None:
        """How long it took to its first token, or until it was given up, which is shorter than it would have been."""
        at = attempt.first_token_at
        seconds = attempt.seconds if at is None else at - attempt.lease.granted_at
        self.note(attempt.lease.provider, seconds, stream=attempt.call.stream)

    def note_request(self) -> None:
        self._credit = min(CREDIT, self._credit + self.settings.max_extra_ratio)

    def take(self) -> bool:
        """Whether there may be one more second attempt; it counts from now on."""
        if self._credit + 1e-9 < 1.0:
            return False
        self._credit -= 1.0
        return True

    def give_back(self) -> None:
        """It was not made after all."""
        self._credit += 1.0


def hedging_of(settings: Hedge) -> Hedging | None:
    """None where it is turned off, so that it costs nothing."""
    return Hedging(settings) if settings.enabled else None


async def beside(first: Attempt, plan: Plan, router: Ref[Any], hedging: Hedging) -> tuple[Lease, Plan] | None:
    """Another provider's lease for the same model and the plan it is of, if there is one and there may be one more."""
    if not hedging.take():
        return None
    provider, model = first.lease.provider, first.lease.model
    tried, silent = plan.tried | {(provider, model)}, plan.silent | {provider}
    aside = Plan(plan.want, beside=model, tried=tried, silent=silent)
    granted: Any = None
    try:
        reply = router.request(Advance(aside))
        granted = reply.take() if reply.done else await reply.wait()
    except (MailboxFull, ActorDied):
        pass  # the first one goes on alone
    if not isinstance(granted, Lease):
        hedging.give_back()
        return None
    return granted, aside


@attrs.define(eq=False)
class Race:
    """Two attempts of one request. Whoever has its first token first, or is given to the caller, goes on alone.

    After `run`: `winner`, or none and `failures` of those that failed, in the order in which they did, with the
    `refusals` of providers that could not be given what was asked. `others` are those that neither won nor failed:
    whoever runs the race abandons them. `error` ends the request at once.
    """

    caller: Caller
    hold_back: HoldBack | None
    commit: Commit | None
    winner: Attempt | None = None
    failures: list[tuple[Attempt, UpstreamFailure]] = attrs.field(factory=list[tuple[Attempt, UpstreamFailure]])
    refusals: list[tuple[Attempt, NotCarried]] = attrs.field(factory=list[tuple[Attempt, NotCarried]])
    others: list[Attempt] = attrs.field(factory=list[Attempt])
    error: InfermuxError | None = None
    _scopes: dict[Attempt, trio.CancelScope] = attrs.field(factory=dict[Attempt, trio.CancelScope])
    _settled: trio.Event = attrs.field(factory=trio.Event)

    def outcome(self) -> tuple[Attempt, UpstreamFailure | None]:
        """The attempt that counts, with its failure if any. Raises NotCarried where there was none."""
        if self.winner is None and not self.failures:
            raise self.refusals[0][1]
        if self.winner is None:
            return self.failures[-1]
        return self.winner, next((failure for attempt, failure in self.failures if attempt is self.winner), None)

    def _abandon(self) -> None:
        """Nobody wants any of them any more: what had failed is told as that."""
        for attempt, failure in self.failures:
            attempt.failed(failure)
        for attempt in (*self.others, *([] if self.winner is None else [self.winner])):
            attempt.abandon()

    async def run(self, first: Attempt, after: float, second: Callable[[], Awaitable[Attempt | None]]) -> None:
        """Run `first`, and `after` seconds later the one that `second` brings, if any.

        Raises CallerLeft, and what an attempt raises that no other attempt can mend: all are abandoned then, as when
        it is cancelled.
        """
        try:
            await self._run(first, after, second)
        except BaseException:
            self._abandon()
            raise

    async def _run(self, first: Attempt, after: float, second: Callable[[], Awaitable[Attempt | None]]) -> None:
        with trio.CancelScope() as scope:
            self.caller.watch(scope)
            async with trio.open_nursery() as nursery:
                self._enter(first, nursery)
                with trio.move_on_after(after):
                    await self._settled.wait()
                if not self._settled.is_set():
                    other = await second()
                    if other is not None and self._settled.is_set():
                        self.others.append(other)  # too late, or in vain: what it was for has ended meanwhile
                    elif other is not None:
                        self._enter(other, nursery)
        if self.caller.left and self.winner is None:
            raise CallerLeft
        if self.error is not None:
            raise self.error

    def _enter(self, attempt: Attempt, nursery: trio.Nursery) -> None:
        self.others.append(attempt)
        scope = self._scopes[attempt] = trio.CancelScope()
        nursery.start_soon(self._take_part, attempt, scope)

    async def _take_part(self, attempt: Attempt, scope: trio.CancelScope) -> None:
        commit = None if self.commit is None else lambda stream, data: self._commit(attempt, stream, data)
        failure: UpstreamFailure | None = None
        with scope:
            try:
                failure = await attempt.begin(None, self.hold_back, commit)
            except CallerError as refused:
                self._refused(attempt, refused)
                return
            except InfermuxError as error:
                self.error = error
                self._end()
                return
            if failure is None:
                self._win(attempt)
                return
        if failure is not None:
            if attempt in self.others:
                self.others.remove(attempt)
            self.failures.append((attempt, failure))
            if not self.others:
                self._settled.set()

    def _refused(self, attempt: Attempt, refused: CallerError) -> None:
        """It is wrong, which ends the request only where nobody else is being asked; or not for this provider."""
        self.others.remove(attempt)
        if isinstance(refused, NotCarried):
            self.refusals.append((attempt, refused))
            if not self.others:
                self._settled.set()
        elif not self.others:
            self.error = refused
            self._end()

    def _commit(self, attempt: Attempt, stream: Stream, data: bytes) -> None:
        self._win(attempt)
        if self.commit is not None:
            self.commit(stream, data)

    def _win(self, attempt: Attempt) -> None:
        if self.winner is not None:
            return  # the other one was faster by a step of the loop
        self.winner = attempt
        self.others.remove(attempt)
        self._end()

    def _end(self) -> None:
        self._settled.set()
        for attempt in self.others:
            if attempt is not self.winner:
                self._scopes[attempt].cancel()
