"""Requests that wait for a provider to become routable: pure, the time is an argument.

They are served by class first and by deadline within a class, whoever came first.
"""

from __future__ import annotations

import math
from collections import Counter, deque

import attrs

from .messages import Reason
from .plan import Plan
from .reply import Reply

CURABLE = frozenset(
    {
        Reason.COOLING_DOWN,
        Reason.REQUEST_LIMIT,
        Reason.TOKEN_LIMIT,
        Reason.CONCURRENCY,
        Reason.SLOW_START,
        Reason.CIRCUIT_OPEN,
        Reason.PROBING,
        Reason.CLAIMED,
    }
)
"""Reasons that time or the end of another request cures. Health is not among them: a provider may be down for hours."""

PACE_OVER = 16  # grants whose distances say how fast the queue moves
SHORTEST_WAIT = 1.0  # seconds a request that is turned away is told to wait at least


@attrs.define(eq=False)
class Waiter:
    """A request in the queue. `deadline` on trio's clock: by then it is served or turned away.

    `providers` are those it waits for; `free_at` when the first of them frees at the earliest, inf: nobody can say.
    """

    plan: Plan
    reply: Reply[object]
    deadline: float
    number: int
    providers: tuple[str, ...] = ()
    free_at: float = math.inf

    @property
    def priority(self) -> int:
        return self.plan.want.priority

    def look(self) -> None:
        """Read anew from the plan's refusals whom it waits for."""
        curable = [refusal for refusal in self.plan.refusals.values() if refusal.reason in CURABLE]
        self.providers = tuple(refusal.provider for refusal in curable)
        self.free_at = min((refusal.until for refusal in curable), default=math.inf)


def is_curable(plan: Plan) -> bool:
    """Whether waiting may help."""
    return any(refusal.reason in CURABLE for refusal in plan.refusals.values())


@attrs.define(eq=False)
class WaitingRoom:
    """The queue of one router, of at most `max_size` requests that wait at most `max_wait` seconds each.

    `waiters` is only changed here.
    """

    max_wait: float
    max_size: int
    waiters: dict[Plan, Waiter] = attrs.field(factory=dict[Plan, Waiter])
    _claims: Counter[tuple[str, int]] = attrs.field(factory=Counter[tuple[str, int]])
    _grants: deque[float] = attrs.field(factory=lambda: deque[float](maxlen=PACE_OVER))
    _count: int = 0

    def __len__(self) -> int:
        return len(self.waiters)

    def __contains__(self, plan: object) -> bool:
        return plan in self.waiters

    @property
    def is_full(self) -> bool:
        return len(self.waiters) >= self.max_size

    def add(self, plan: Plan, reply: Reply[object], now: float) -> Waiter:
        """A new one, at the place that its class and deadline give it."""
        self._count += 1
        waiter = Waiter(plan, reply, min(now + self.max_wait, plan.deadline), self._count)
        self.waiters[plan] = waiter
        self._claim(waiter)
        return waiter

    def look(self, plan: Plan) -> Waiter:
        """It was tried and refused again: it waits on, for whoever refused it now."""
        waiter = self.waiters[plan]
        self._unclaim(waiter)
        self._claim(waiter)
        return waiter

    def remove(self, plan: Plan, granted_at: float | None = None) -> None:
        """It was served (then with the time), was turned away, or left."""
        waiter = self.waiters.pop(plan, None)
        if waiter is None:
            return
        self._unclaim(waiter)
        if granted_at is not None:
            self._grants.append(granted_at)

    def sweep(self, now: float) -> None:
        """Take out those whose reply has come (a grant, as it seems) or whose caller has left."""
        for waiter in [each for each in self.waiters.values() if each.reply.done]:
            self.remove(waiter.plan, now)

    def _claim(self, waiter: Waiter) -> None:
        waiter.look()
        for provider in waiter.providers:
            self._claims[provider, waiter.priority] += 1

    def _unclaim(self, waiter: Waiter) -> None:
        for provider in waiter.providers:
            self._claims[provider, waiter.priority] -= 1

    def in_order(self) -> list[Waiter]:
        """All, first who is to be served first."""
        return sorted(self.waiters.values(), key=_rank)

    def is_claimed(self, provider: str, priority: int) -> bool:
        """Whether somebody of this class or a better one waits for `provider`: who comes new does not go first."""
        return any(self._claims[provider, better] for better in range(priority + 1))

    def wait(self, waiter: Waiter, now: float) -> float:
        """Seconds until it would be served as far as can be known: its limit frees, and those before it have gone."""
        ahead = sum(other.priority <= waiter.priority and other is not waiter for other in self.waiters.values())
        first = max(waiter.free_at - now, 0.0) if math.isfinite(waiter.free_at) else self.pace
        return first + ahead * self.pace

    @property
    def pace(self) -> float:
        """Seconds between two of the last grants; 0 where too few are known."""
        if len(self._grants) < 2:
            return 0.0
        return (self._grants[-1] - self._grants[0]) / (len(self._grants) - 1)

    def next_time(self, now: float) -> float:
        """When something is due: a limit frees, or a deadline passes. inf: nothing is."""
        waiters = self.waiters.values()
        times = [waiter.deadline for waiter in waiters]
        times += [waiter.free_at for waiter in waiters if waiter.free_at > now]
        return min(times, default=math.inf)


def _rank(waiter: Waiter) -> tuple[int, float, int]:
    return (waiter.priority, waiter.deadline, waiter.number)
