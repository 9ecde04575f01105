"""A record that is still being written: what is noted of a request while it is served."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import msgspec
import trio

from infermux.errors import CallerError, InfermuxError, ShuttingDown
from infermux.providers.interface import Usage
from infermux.providers.joint import added

from .dispatch import Run
from .identity import NOBODY, Identity
from .journal import Journal
from .lease import Lease
from .messages import Outcome
from .phase import Phase
from .record import HIT, Ending, Place, Record, Tried

LEFT = 499  # nginx's status for a caller that went away; it is never sent
LONGEST_MODEL = 256  # characters: the name is the caller's
LONGEST_MESSAGE = 500
# Members of an enum are looked up in Python code, and these at every request.
_OK: Final = Ending.OK
_REFUSED: Final = Ending.REFUSED


class Draft(msgspec.Struct, eq=False):
    """Of one request, made when its head is there. `close` tells the journal, once.

    `id` is the request's, in bytes of ASCII; `began` is on trio's clock, `at` in seconds since 1970. `received` are
    seconds that went by until its body was there, `given` those in which a kept stream went out. `status` is 0 until
    an answer has begun.
    """

    journal: Journal
    id: bytes
    endpoint: str = ""
    who: Identity = NOBODY
    began: float = msgspec.field(default_factory=trio.current_time)
    at: float = msgspec.field(default_factory=time.time)
    received: float = 0.0
    given: float = 0.0
    run: Run | None = None
    status: int = 0
    ending: Ending | None = None
    error: InfermuxError | None = None
    cache: str = ""
    killed: InfermuxError | None = None
    trace: Place | None = None

    def ended_well(self) -> None:
        """The whole answer went out, unless something else was noted before."""
        if self.ending is None:
            self.ending = _OK

    def refused(self, error: InfermuxError) -> None:
        """`error` is told in place of an answer."""
        self.ending, self.error, self.status = _REFUSED, error, error.status

    def broke(self, error: InfermuxError) -> None:
        """`error` is told in the middle of an answer."""
        self.ending, self.error = Ending.BROKEN, error

    def left(self, *, stalled: bool = False) -> None:
        """The caller went away; `stalled`: it was cut, as it read nothing of its answer for too long."""
        self.ending = Ending.LEFT
        if stalled:
            self.error = CallerError(
                "the caller read nothing for limits.write_timeout", status=LEFT, code="write_timeout"
            )

    def kill(self, error: InfermuxError) -> bool:
        """End it, so that its caller is told `error`. False: its whole answer is on its way out already.

        What is still being received ends when it has come, before anything is sent.
        """
        run = self.run
        if run is not None and run.phase is Phase.DONE:
            return False
        self.killed = error
        if run is not None:
            run.kill(error)
        return True

    def close(self, *, shutting_down: bool = False, now: float | None = None) -> Record | None:
        """It is over: the journal is told, if anybody listens, and what it is told is returned.

        What has no ending was cancelled.

        `shutting_down` says that the server did so; otherwise it was for the caller's leaving. The run is closed.
        `now` is the time, for who has just looked.
        """
        if self.ending is None:
            if not shutting_down:
                self.left()
            elif self.status:
                self.broke(ShuttingDown("the server ended while the answer was on its way"))
            else:
                self.refused(ShuttingDown("the server ended before there was an answer"))
        record = self.record(now) if self.journal else None
        if self.error is not None:
            # Its traceback has frames that hold it, this draft and the body: a cycle, which the rare collector leaves.
            self.error.__traceback__ = None
            self.error = None
        if record is not None:
            self.journal.tell(record)
        return record

    def record(self, now: float | None = None) -> Record:
        """What there is to say, as of now."""
        latency = (trio.current_time() if now is None else now) - self.began
        run, error, ending = self.run, self.error, self.ending or _OK
        status = self.status or LEFT
        code, message, fault = "", "", None
        if error is not None:
            code, message, fault = error.code, error.message[:LONGEST_MESSAGE], error.fault
        if run is None:
            return Record(
                id=self.id.decode("ascii", "replace"),
                at=self.at,
                who=self.who,
                endpoint=self.endpoint,
                ending=ending,
                status=status,
                code=code,
                message=message,
                fault=fault,
                latency=latency,
                overhead=max(0.0, latency - self.received),
                cache=self.cache,
                trace=self.trace,
            )
        trail, plan, want = run.trail, run.plan, run.want
        tried: tuple[Tried, ...]
        if len(trail) == 1:
            alone = _tried(trail[0], self.began)
            tried, (usage, dollars, first, theirs) = (alone,), sums_of_one(alone)
        else:
            tried = tuple([_tried(lease, self.began) for lease in trail])
            usage, dollars, first, theirs = sums_of_all(tried)
        answered = _answered(run) if self.status and ending is not _REFUSED else None
        waited = run.leasing.waited
        ours = latency - self.received - self.given - waited - theirs
        return Record(  # by position: to find so many fields by their names takes ten times as long
            self.id.decode("ascii", "replace"),
            self.at,
            self.who,
            self.endpoint,
            run.call.stream,
            want.model[:LONGEST_MODEL],
            plan.group,
            plan.strategy,
            "" if answered is None else answered.provider,
            "" if answered is None else answered.model[:LONGEST_MODEL],
            tried,
            len(run.rescues),
            ending,
            status,
            code,
            message,
            fault,
            usage,
            0.0 if self.cache == HIT else dollars,
            latency,
            first,
            waited,
            ours if ours > 0.0 else 0.0,  # noqa: FURB136 - a call of `max` is a hundredth of a request
            self.trace,
            self.cache,
        )


_Sums = tuple[Usage | None, float | None, float | None, float]
"""Of attempts: usage, US dollars, when the first token was there, and the seconds in which any was under way."""


def sums_of_one(tried: Tried) -> _Sums:
    dollars = 0.0 if tried.cost is None and tried.usage is None else tried.cost
    return tried.usage, dollars, tried.first_token, tried.ended - tried.started


def sums_of_all(tried: Sequence[Tried]) -> _Sums:
    first = min([each.first_token for each in tried if each.first_token is not None], default=None)
    return total_usage(tried), total_cost(tried), first, covered(tried)


def _answered(run: Run) -> Lease | None:
    """Whose answer it was; where nobody could go on with a broken one, the one that broke."""
    lease = run.lease
    if lease is not None:
        return lease
    begun = [each for each in run.trail if each.first_token_at is not None]
    return next(reversed(begun or run.trail), None)


def _tried(lease: Lease, began: float) -> Tried:
    # Without an outcome nobody has ended it: its actor died with it.
    outcome = lease.outcome or Outcome(cancelled=True, latency=trio.current_time() - lease.granted_at)
    started, first = lease.granted_at - began, lease.first_token_at
    return Tried(
        lease.provider,
        lease.model[:LONGEST_MODEL],
        started,
        started + outcome.latency,
        None if first is None else first - began,
        _word(outcome),
        outcome.status,
        outcome.usage,
        lease.cost,
        lease.probe,
        lease.span,
    )


def _word(outcome: Outcome) -> str:
    if outcome.failure is not None:
        return outcome.failure.value
    return "cancelled" if outcome.cancelled else "ok"


def total_cost(tried: Sequence[Tried]) -> float | None:
    """US dollars of all attempts; None where one used something at a price that nobody knows, or there was none."""
    if not tried:
        return None
    total = 0.0
    for each in tried:
        if each.cost is not None:
            total += each.cost
        elif each.usage is not None:
            return None
    return total


def total_usage(tried: Sequence[Tried]) -> Usage | None:
    """What all attempts have used together; None: nothing is known to have been used."""
    total: Usage | None = None
    for each in tried:
        usage = each.usage
        if usage is not None:
            total = usage if total is None else added(total, usage)
    return total


def covered(tried: Sequence[Tried]) -> float:
    """Seconds in which at least one attempt was under way. Those of a hedged request overlap."""
    total, until = 0.0, 0.0
    for each in sorted(tried, key=lambda each: each.started):
        if each.ended > until:
            total += each.ended - max(each.started, until)
            until = each.ended
    return total
