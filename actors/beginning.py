"""The first step of requests that leave nothing to choose: found once for each route, not with each request."""

from __future__ import annotations

from typing import Final

import msgspec

from .catalogue import Candidate, Route
from .messages import Standing
from .plan import Look, Plan
from .strategy import Choice, Option
from .strategy_table import StrategyTable

UNREAD: Final = Standing()
"""The standing of an option that nobody has looked at: whether it can answer is left to the provider's own gate."""
_KEPT: Final = 4096


def only(candidate: Candidate) -> Option:
    """The option where there is nothing to order."""
    entry = candidate.entry
    return Option(entry.settings.name, candidate.model, UNREAD, entry.index, price=candidate.price)


class Beginning(msgspec.Struct, frozen=True):
    """Of a route whose first tier is one candidate, for requests that bring no wishes of their own."""

    route: Route
    strategy: str
    group: str
    choice: Choice
    look: Look

    def begin(self, plan: Plan) -> None:
        """As far as `RouterActor` would bring `plan` by looking through the route."""
        tiers = plan.tiers = iter(self.route.walk)
        next(tiers)
        plan.strategy, plan.group = self.strategy, self.group
        plan.looks.append(self.look)
        plan.steps, plan.position, plan.rest = [self.choice], 0, None


class Beginnings:
    """Those of one catalogue, by its routes."""

    __slots__ = ("_made",)

    def __init__(self) -> None:
        self._made: dict[int, tuple[Route, Beginning | None]] = {}

    def clear(self) -> None:
        """There are other routes, or strategies, from now on."""
        self._made.clear()

    def of(self, route: Route, strategies: StrategyTable) -> Beginning | None:
        """None where there is more than one candidate to begin with, or one that may not suit a request."""
        found = self._made.get(id(route))
        if found is None or found[0] is not route:
            if len(self._made) >= _KEPT:
                self._made.clear()
            found = self._made[id(route)] = route, _beginning(route, strategies)
        return found[1]


def _beginning(route: Route, strategies: StrategyTable) -> Beginning | None:
    if route.is_judged or not route.walk or len(route.walk[0][1]) != 1:
        return None
    first, tier = route.walk[0]
    group = first.group.name if first.group else ""
    strategy, choice = strategies.name(first.group, None), Choice(only(tier[0]))
    return Beginning(route, strategy, group, choice, Look(strategy, group, tier, (choice,), {}))
