"""The strategies of a router at work: one for each group, and what picks for them among many."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from infermux.config.settings import Group, Routing
from infermux.providers.peek import Preferences

from .field import Fields, Tier
from .messages import Standing
from .pickers import Picker
from .plan import Plan
from .preferences import SORTS
from .ref import Ref
from .strategies import make_picker, make_strategy
from .strategy import Choice, Option, Strategy

log = logging.getLogger("infermux.actors")


@attrs.define(eq=False)
class StrategyTable:
    """`load` tells the requests that a provider has, by its name and standing."""

    routing: Routing
    rng: random.Random
    plugins: Mapping[str, Callable[..., Strategy]]
    load: Callable[[str, Standing], int]
    _made: dict[tuple[str, str], Strategy] = attrs.field(factory=dict[tuple[str, str], Strategy])
    _fields: Fields = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._fields = Fields(self.load)

    def adopt(self, routing: Routing) -> None:
        """Strategies keep their state where nothing has changed that they were made from, which plugins' may be all."""
        old, self.routing = self.routing, routing
        self._made = {
            key: strategy
            for key, strategy in self._made.items()
            if old == routing or (key[1] not in self.plugins and _is_kept(key[0], old, routing))
        }

    def forget_fields(self) -> None:
        """There are other candidates from now on."""
        self._fields.clear()

    def name(self, group: Group | None, preferences: Preferences | None) -> str:
        """The strategy for a request."""
        if preferences is not None and preferences.sort is not None:
            return SORTS[preferences.sort]
        return (group.strategy if group else None) or self.routing.strategy

    def order(self, options: list[Option], plan: Plan, now: float) -> list[Choice]:
        """The strategy's order; that of declaration where it fails, or one plugin's bug would stop every request."""
        try:
            return list(self._strategy(plan.group, plan.strategy).order(options, plan.want, now))
        except Exception:
            log.exception(
                "the strategy %s failed; providers are tried in the order of their declaration", plan.strategy
            )
            return [Choice(option) for option in sorted(options, key=_by_index)]

    def first(self, plan: Plan, tier: Tier, refs: Mapping[str, Ref[Any]], now: float) -> Choice | None:
        """The first choice among many, without looking at all of them; None: they have to be put in order.

        Where `plan` has some of them already it is the next one, unless that is one of these.
        """
        want = plan.want
        if want.preferences is not None or want.home is not None or plan.beside is not None:
            return None
        field = self._fields.of(plan.group, plan.strategy, tier, refs, self._picker)
        if field is None:
            return None
        if plan.rest is None:
            return field.pick(want, now)
        field.doubt(plan.steps[-1].option.provider)
        choice = field.pick(want, now)
        had = choice is not None and any(choice.option.provider == each.option.provider for each in plan.steps)
        return None if had else choice

    def _strategy(self, group: str, name: str) -> Strategy:
        strategy = self._made.get((group, name))
        if strategy is None:
            strategy = make_strategy(name, self.routing, rng=self.rng, plugins=self.plugins)
            self._made[group, name] = strategy
        return strategy

    def _picker(self, name: str) -> Picker | None:
        return make_picker(name, self.routing, rng=self.rng)


def _is_kept(group: str, old: Routing, new: Routing) -> bool:
    """Whether our own strategies of a group ("": of what is in none) are made as before."""
    here, there = ({each.name: each for each in routing.groups}.get(group) for routing in (old, new))
    return here == there and (not group or here is not None) and old.least_latency == new.least_latency


def _by_index(option: Option) -> int:
    return option.index
