"""Requests that wait at the router for a provider to become routable.

Who is before whom, and how long it may take, is `queue`'s business, which is pure. Here is the waiting: the providers'
actors are told that they are wanted, and whoever may go on is given back to the router.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import trio

from infermux.errors import InfermuxError, RateLimited

from .actor import Context
from .messages import Standing
from .plan import Plan
from .queue import SHORTEST_WAIT, Waiter, WaitingRoom, is_curable
from .ref import Ref
from .reply import Reply

LOOK_EVERY = 1.0  # seconds after which the queue is looked at again whatever was told
_FULL = "as many requests wait for a provider as may (queue.max_size is {}); try again later"
_TOO_LONG = "no provider can take the request within the {:.3g} s it may wait, probably in {:.3g} s ({})"
_STARTING = Standing()


@attrs.frozen
class Wanted:
    """Told to a provider's actor: requests wait for it. It tells `router` once, when it next may take one."""

    router: Ref[Any]


@attrs.frozen
class Freed:
    """A provider that is wanted has let a request go, or is routable again."""

    provider: str


@attrs.frozen
class LookAtQueue:
    """A limit that somebody waits for has freed, or somebody has waited long enough."""


def standing_of(ref: Ref[Any]) -> Standing:
    """What a provider's actor has published; as long as it has not, that it is starting."""
    status = ref.status
    return status if status is not None else _STARTING


@attrs.define(eq=False)
class RouterQueue:
    """The queue of one router's actor. `advance` is the router's: it answers, or comes back with `waits`.

    `refs` are the providers' actors, as the router knows them.
    """

    room: WaitingRoom
    _advance: Callable[[Plan, Reply[Any]], None]
    context: Context[Any] | None = None
    refs: Mapping[str, Ref[Any]] = attrs.field(factory=dict[str, Ref[Any]])
    _wanted: set[str] = attrs.field(factory=set[str])
    _due: float = math.inf  # when it is looked at next
    _has_ended: bool = False  # nobody waits any more

    def waits(self, plan: Plan, reply: Reply[Any], now: float) -> bool:
        """Whether a request that nobody took stays here, or comes here, or has been told why it may not."""
        room = self.room
        if plan in room:
            waiter = room.look(plan)
            if now < waiter.deadline and waiter.providers:
                self._want(waiter, now)
                return True
            room.remove(plan)
            return False
        if not room.max_wait or self._has_ended or plan.beside is not None or not is_curable(plan):
            return False
        if room.is_full:
            reply.send(RateLimited(_FULL.format(room.max_size), retry_after=max(room.pace, SHORTEST_WAIT)))
            return True
        waiter = room.add(plan, reply, now)
        wait = room.wait(waiter, now)
        if now + wait > waiter.deadline:
            room.remove(plan)
            reply.send(RateLimited(_TOO_LONG.format(waiter.deadline - now, wait, plan.said), retry_after=wait))
            return True
        assert self.context is not None
        self.context.hold(reply)
        self._want(waiter, now)
        return True

    def _want(self, waiter: Waiter, now: float) -> None:
        """Be told when those it waits for free, and look again when time alone frees one."""
        assert self.context is not None
        if math.isinf(waiter.free_at):
            for name in waiter.providers:
                ref = self.refs.get(name)
                if ref is not None and name not in self._wanted:
                    self._wanted.add(name)
                    ref.deliver(Wanted(self.context.ref))
        due = min(waiter.deadline, max(waiter.free_at, now), now + LOOK_EVERY)
        if due < self._due:
            self._due = due
            self.context.start_soon(self._look_later, due)

    async def _look_later(self, due: float) -> None:
        await trio.sleep_until(due)
        assert self.context is not None
        if due == self._due:  # an earlier look has taken its place otherwise
            self.context.ref.deliver(LookAtQueue())

    def freed(self, provider: str) -> None:
        self._wanted.discard(provider)
        self.serve()

    def look(self) -> None:
        self._due = math.inf
        self.serve()

    def serve(self) -> None:
        """Whoever can be served now is, the best class and the earliest deadline first."""
        now, room = trio.current_time(), self.room
        room.sweep(now)
        taken: set[str] = set()
        for waiter in room.in_order():
            plan, reply = waiter.plan, waiter.reply
            if now >= waiter.deadline:
                room.remove(plan)
                reply.send(plan.verdict(now))
            elif taken.issuperset(waiter.providers) or not self._may_serve(waiter, now):
                self._want(waiter, now)
            else:
                plan.restart()
                self._advance(plan, reply)
                if reply.done:
                    room.remove(plan, now)
                else:
                    taken.update(waiter.providers)

    def _may_serve(self, waiter: Waiter, now: float) -> bool:
        """Whether some provider of its is routable now, as far as is published."""
        refs = (self.refs.get(name) for name in waiter.providers)
        return any(ref is None or now >= standing_of(ref).blocked_until for ref in refs)

    def turn_away(self, error: InfermuxError) -> None:
        """Whoever waits is told `error`, and nobody waits from then on."""
        self._has_ended = True
        for waiter in self.room.in_order():
            self.room.remove(waiter.plan)
            waiter.reply.send(error)
