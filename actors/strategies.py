"""The strategies by name: the eight of our own, and those of plugins.

Own ones come first: a plugin cannot take the name of one. A plugin is an entry point of the group
`infermux.strategies` that names a `StrategyFactory`, e.g. a class with `__init__(self, routing, *, rng)`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Protocol

from infermux.config.settings import Routing

from .pickers import Draws, InOrder, LeastCost, LeastShare, Picker, Turns
from .pickers_standing import BetterOfTwo, Fastest, Stuck
from .strategies_latency import LeastLatency, PeakEwma
from .strategies_rotation import CostWeighted, LeastBusy, Priority, Random, RoundRobin
from .strategies_sticky import Sticky
from .strategy import Strategy

ENTRY_POINTS = "infermux.strategies"


class StrategyFactory(Protocol):
    """Makes a strategy for one route group. `rng` is the only source of randomness it should use."""

    def __call__(self, routing: Routing, *, rng: random.Random) -> Strategy: ...


def _round_robin(routing: Routing, *, rng: random.Random) -> Strategy:
    return RoundRobin()


def _least_latency(routing: Routing, *, rng: random.Random) -> Strategy:
    return LeastLatency(routing.least_latency)


def _cost_weighted(routing: Routing, *, rng: random.Random) -> Strategy:
    return CostWeighted()


def _random(routing: Routing, *, rng: random.Random) -> Strategy:
    return Random(rng)


def _priority(routing: Routing, *, rng: random.Random) -> Strategy:
    return Priority()


def _least_busy(routing: Routing, *, rng: random.Random) -> Strategy:
    return LeastBusy()


def _peak_ewma(routing: Routing, *, rng: random.Random) -> Strategy:
    return PeakEwma(routing.least_latency, rng)


def _sticky(routing: Routing, *, rng: random.Random) -> Strategy:
    return Sticky()


_OWN: dict[str, StrategyFactory] = {
    "round_robin": _round_robin,
    "least_latency": _least_latency,
    "cost_weighted": _cost_weighted,
    "random": _random,
    "priority": _priority,
    "least_busy": _least_busy,
    "peak_ewma": _peak_ewma,
    "sticky": _sticky,
}

SCORES: Mapping[str, str] = {
    "round_robin": "its turn: the place in the rotation, the lowest first",
    "least_latency": "seconds: average latency plus the penalty of recent failures, the lowest first",
    "cost_weighted": "US dollars this request is expected to cost, the lowest first; none where the price is unknown",
    "random": "a random draw by weight, the lowest first",
    "priority": "its place in the file, the lowest first",
    "least_busy": "requests in flight, with recent failures, for its weight; the lowest first",
    "peak_ewma": "seconds: (average latency + penalty) x (in flight + 1) / weight; the better of two drawn comes first",
    "sticky": "drawn from the hashes of the conversation and its name, the lowest first; those overloaded come last",
}
"""What the score of a choice is, by the strategy that gave it."""

STRATEGY_NAMES: tuple[str, ...] = tuple(_OWN)


def make_strategy(
    name: str,
    routing: Routing,
    *,
    rng: random.Random,
    plugins: Mapping[str, StrategyFactory] | None = None,
) -> Strategy:
    """A new strategy with state of its own. Raises ValueError for an unknown name, naming the allowed ones."""
    others = plugins or {}
    factory = _OWN.get(name) or others.get(name)
    if factory is None:
        allowed = ", ".join([*STRATEGY_NAMES, *sorted(others.keys() - _OWN.keys())])
        raise ValueError(f"unknown strategy {name!r}; allowed: {allowed}")
    return factory(routing, rng=rng)


def make_picker(name: str, routing: Routing, *, rng: random.Random) -> Picker | None:
    """What picks for a strategy among many; None: a plugin's, which is given all options to put in order."""
    match name:
        case "round_robin":
            return Turns()
        case "least_latency":
            return Fastest(routing.least_latency)
        case "cost_weighted":
            return LeastCost()
        case "random":
            return Draws(rng)
        case "priority":
            return InOrder()
        case "least_busy":
            return LeastShare()
        case "peak_ewma":
            return BetterOfTwo(routing.least_latency, rng)
        case "sticky":
            return Stuck()
        case _:
            return None


def load_strategy_plugins() -> dict[str, StrategyFactory]:
    """The installed plugins by name. Their code is imported when a strategy is made, so that a broken one that nobody
    uses does no harm.
    """
    # Imported here: importlib.metadata costs more than the rest of this module, and few programs get here.
    import importlib.metadata

    return {point.name: _lazily(point) for point in importlib.metadata.entry_points(group=ENTRY_POINTS)}


def _lazily(point: Any) -> StrategyFactory:
    def factory(routing: Routing, *, rng: random.Random) -> Strategy:
        made: Strategy = point.load()(routing, rng=rng)
        return made

    return factory
