"""Where a request begins: its tiers in their order, and the first step of those that leave nothing to choose.

The latter is found once for each route, not with each request.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from .catalogue import Candidate, Route
from .messages import Standing
from .plan import Look, Plan
from .preferences import preferred_tiers
from .strategy import Choice, Option
from .strategy_table import StrategyTable
from .suitability import is_too_long

UNREAD: Final = Standing()
"""The standing of an option that nobody has looked at: whether it can answer is left to the provider's own gate."""
_KEPT: Final = 4096


def only(candidate: Candidate) -> Option:
    """The option where there is nothing to order."""
    entry = candidate.entry
    return Option(entry.settings.name, candidate.model, UNREAD, entry.index, price=candidate.price)


def tiers_of(plan: Plan) -> Iterator[tuple[Route, tuple[Candidate, ...]]]:
    """The tiers of a plan's route in the order they are tried in, each with the route it is of."""
    route = plan.route
    assert route is not None
    preferences = plan.want.preferences
    if plan.beside is not None:
        yield route, tuple(c for tier in route.tiers for c in tier if c.model == plan.beside)
        return
    alone = preferences is not None and not preferences.allow_fallbacks
    if route.is_judged and not alone and is_too_long(route, plan.want):
        yield from ((longer, tier) for longer in route.longer for tier in longer.tiers)
    if preferences is None:
        yield from route.walk
        return
    for tier in preferred_tiers(route.tiers, preferences):
        yield route, tier
        if plan.steps and not preferences.allow_fallbacks:
            return
    if not preferences.allow_fallbacks:
        return
    for fallback in route.fallbacks:
        for tier in fallback.tiers:
            yield fallback, tier


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
