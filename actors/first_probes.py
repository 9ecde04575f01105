"""Requests that wait for the first probe of a provider, which may yet serve what no other one takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import trio

from infermux.errors import InfermuxError

from .actor import Context
from .messages import Reason
from .plan import Plan
from .reply import Reply

HEALTH_SLACK = 0.5  # seconds a waiting request is kept beyond the longest first probe


@attrs.frozen
class Expire:
    """Told to the router by itself: this request has waited long enough for first probes."""

    plan: Plan


@attrs.define(eq=False)
class FirstProbes:
    """Who waits for them at one router's actor. `advance` is the router's: it answers, or parks the request again."""

    _advance: Callable[[Plan, Reply[Any]], None]
    context: Context[Any] | None = None
    _waiting: dict[int, tuple[Plan, Reply[Any]]] = attrs.field(factory=dict[int, tuple[Plan, Reply[Any]]])

    def park(self, plan: Plan, reply: Reply[Any], bound: Callable[[str], float]) -> None:
        """Keep the request until `retry` or `expire`. `bound`: the seconds that a provider's first probe may take."""
        assert self.context is not None
        self._waiting[id(plan)] = (plan, reply)
        self.context.hold(reply)
        if not plan.parked:
            plan.parked = True
            waits = [bound(each.provider) for each in plan.refusals.values() if each.reason is Reason.STARTING]
            self.context.start_soon(self._expire_later, plan, max(waits) + HEALTH_SLACK)

    async def _expire_later(self, plan: Plan, seconds: float) -> None:
        await trio.sleep(seconds)
        assert self.context is not None
        self.context.ref.deliver(Expire(plan))

    def retry(self) -> None:
        """A first result is known: whoever can be served now is, the others wait on for the next one."""
        waiting, self._waiting = self._waiting, {}
        for plan, reply in waiting.values():
            if not reply.done:
                plan.restart()
                self._advance(plan, reply)

    def expire(self, plan: Plan) -> None:
        waiting = self._waiting.pop(id(plan), None)
        if waiting is not None and not waiting[1].done:
            waiting[1].send(plan.verdict(trio.current_time()))

    def turn_away(self, error: InfermuxError) -> None:
        """All are told `error`."""
        waiting, self._waiting = self._waiting, {}
        for _, reply in waiting.values():
            reply.send(error)
